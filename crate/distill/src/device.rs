//! What computes: the one place that names burn's backends. To add one: a variant here, and what makes its device.

#[cfg(feature = "wgpu")]
mod gpu;

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
    pub(crate) fn failed(self, why: &str) -> EngineError {
        match self {
            #[cfg(feature = "wgpu")]
            Self::Wgpu => gpu::failed(why).into(),
            _ => EngineError::Evaluation(format!("{}: {why}", self.name())),
        }
    }

    /// What went wrong with it while nobody was waiting.
    pub(crate) fn fault(self) -> Option<EngineError> {
        match self {
            #[cfg(feature = "wgpu")]
            Self::Wgpu => gpu::fault().map(EngineError::from),
            _ => None,
        }
    }

    /// What an error calls it: the adapter's name, where it has one.
    pub(crate) fn called(self) -> String {
        match self {
            #[cfg(feature = "wgpu")]
            Self::Wgpu => gpu::adapter().unwrap_or_else(|| self.name().into()),
            _ => self.name().into(),
        }
    }

    /// Gives back the memory that a run has taken, where burn keeps it for the next.
    pub(crate) fn clean(self) {
        #[cfg(feature = "wgpu")]
        if self == Self::Wgpu {
            gpu::clean();
        }
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
