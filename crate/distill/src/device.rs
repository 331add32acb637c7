//! What computes: the one place that names burn's backends. To add one: a variant here, and what makes its device.

use burn::tensor::Device as BurnDevice;
use statepress_engine::EngineError;
use statepress_kernels::backend::BackendError;

/// What computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Device {
    /// The CPU, by burn-flex: pure Rust with SIMD.
    Flex,
    /// The CPU, by burn-ndarray, which burn-flex is the successor of.
    #[cfg(feature = "ndarray")]
    NdArray,
    /// A GPU, by burn-wgpu: the best one that there is. [`Device::open`] comes before everything else.
    #[cfg(feature = "wgpu")]
    Wgpu,
}

impl Device {
    /// Every one that is built in, the fastest first.
    pub const ALL: &[Self] = &[
        Self::Flex,
        #[cfg(feature = "ndarray")]
        Self::NdArray,
        #[cfg(feature = "wgpu")]
        Self::Wgpu,
    ];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Flex => "flex",
            #[cfg(feature = "ndarray")]
            Self::NdArray => "ndarray",
            #[cfg(feature = "wgpu")]
            Self::Wgpu => "wgpu",
        }
    }

    /// Whether what it computes is believed without having been compared.
    pub(crate) fn is_cpu(self) -> bool {
        match self {
            #[cfg(feature = "wgpu")]
            Self::Wgpu => false,
            _ => true,
        }
    }

    /// Makes it be there, which only a GPU takes time for.
    ///
    /// # Errors
    /// [`BackendError::NoAdapter`] where there is none.
    pub async fn open(self) -> Result<(), BackendError> {
        #[cfg(feature = "wgpu")]
        if self == Self::Wgpu {
            return gpu::open().await;
        }
        Ok(())
    }

    /// What a failure of it is to whoever asked. A GPU that has failed is left: the next to open it gets another one.
    pub(crate) fn failed(self, why: String) -> EngineError {
        #[cfg(feature = "wgpu")]
        if self == Self::Wgpu {
            gpu::forget();
            return BackendError::Lost(why).into();
        }
        EngineError::Evaluation(format!("{}: {why}", self.name()))
    }

    /// Where tensors lie; without gradients.
    pub(crate) fn burn(self) -> BurnDevice {
        match self {
            Self::Flex => BurnDevice::flex(),
            #[cfg(feature = "ndarray")]
            #[expect(
                deprecated,
                reason = "burn keeps it for those who ask for it, and names flex its successor"
            )]
            Self::NdArray => BurnDevice::ndarray(),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => gpu::device(),
        }
    }
}

/// The GPU that burn has.
#[cfg(feature = "wgpu")]
mod gpu {
    use std::fmt::Display;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use burn::tensor::wgpu::{WgpuSetup, wgpu};
    use burn::tensor::{Device, DeviceKind};
    use statepress_kernels::backend::BackendError;

    static OPENED: Mutex<Option<Device>> = Mutex::new(None);

    fn opened() -> MutexGuard<'static, Option<Device>> {
        OPENED.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one that was opened; burn's own choice where none was, which browsers do not have.
    pub(super) fn device() -> Device {
        opened().clone().unwrap_or_else(|| Device::wgpu(DeviceKind::DefaultDevice))
    }

    /// Opens the best adapter there is, with all that it offers, as burn would: burn itself opens one once, and none after it was lost.
    pub(super) async fn open() -> Result<(), BackendError> {
        if opened().is_some() {
            return Ok(());
        }
        let none = |error: &dyn Display| BackendError::NoAdapter(error.to_string());
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        descriptor.backends = wgpu::Backends::PRIMARY;
        let instance = wgpu::Instance::new(descriptor);
        let wanted = wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            ..wgpu::RequestAdapterOptions::default()
        };
        let adapter = instance.request_adapter(&wanted).await.map_err(|error| none(&error))?;
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("statepress training"),
            // Burn asks the adapter what there is, not the device.
            required_features: adapter.features().difference(wgpu::Features::all_experimental_mask()),
            required_limits: adapter.limits(),
            // Burn takes memory in blocks of its own.
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..wgpu::DeviceDescriptor::default()
        };
        let (device, queue) = adapter.request_device(&descriptor).await.map_err(|error| none(&error))?;
        let backend = adapter.get_info().backend;
        let setup = WgpuSetup { instance, adapter, device, queue, backend };
        let device = Device::wgpu_options().setup(setup).init().map_err(|error| none(&error))?;
        *opened() = Some(device);
        Ok(())
    }

    /// Forgets the one that was opened: the next wish opens another.
    pub(super) fn forget() {
        *opened() = None;
    }
}
