//! The GPU that burn has. It is opened here: burn itself opens one once, none after it was lost, and ends the program where a driver
//! reports an error that nobody waits for.

use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::tensor::wgpu::{WgpuSetup, wgpu};
use burn::tensor::{Device, DeviceKind};
use statepress_kernels::backend::BackendError;

/// The last that was opened.
static OPENED: Mutex<Option<Opened>> = Mutex::new(None);

struct Opened {
    device: Device,
    adapter: String,
    /// What the driver reported first.
    fault: Arc<Mutex<Option<BackendError>>>,
    lost: bool,
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_open() -> bool {
    locked(&OPENED).as_ref().is_some_and(|it| !it.lost)
}

/// The one that was opened, lost or not; burn's own choice where none was, which browsers do not have.
pub(super) fn device() -> Device {
    let opened = locked(&OPENED).as_ref().map(|it| it.device.clone());
    opened.unwrap_or_else(|| Device::wgpu(DeviceKind::DefaultDevice))
}

/// Its adapter's name.
pub(super) fn adapter() -> Option<String> {
    locked(&OPENED).as_ref().map(|it| it.adapter.clone())
}

/// Opens the best adapter there is, the same that the engine takes, with all that it offers: burn asks the adapter what there is.
pub(super) async fn open() -> Result<(), BackendError> {
    if is_open() {
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
        required_features: adapter.features().difference(wgpu::Features::all_experimental_mask()),
        required_limits: adapter.limits(),
        // Burn takes memory in blocks of its own.
        memory_hints: wgpu::MemoryHints::MemoryUsage,
        ..wgpu::DeviceDescriptor::default()
    };
    let (handle, queue) = adapter.request_device(&descriptor).await.map_err(|error| none(&error))?;
    // Somebody else may have been faster.
    if is_open() {
        return Ok(());
    }
    let info = adapter.get_info();
    let setup = WgpuSetup { instance, adapter, device: handle.clone(), queue, backend: info.backend };
    let device = Device::wgpu_options().setup(setup).init().map_err(|error| none(&error))?;
    let fault = Arc::new(Mutex::new(None));
    let note = fault.clone();
    handle.on_uncaptured_error(Arc::new(move |error| {
        locked(&note).get_or_insert(match &error {
            wgpu::Error::OutOfMemory { source } => BackendError::OutOfMemory(source.to_string()),
            other => BackendError::Validation(other.to_string()),
        });
    }));
    *locked(&OPENED) = Some(Opened { device, adapter: info.name, fault, lost: false });
    Ok(())
}

/// Whether a driver has refused something since: what is read back then may be anything. The next to open a GPU gets another one.
pub(super) fn fault() -> Option<BackendError> {
    let mut opened = locked(&OPENED);
    let it = opened.as_mut()?;
    let fault = locked(&it.fault).take();
    it.lost |= fault.is_some();
    fault
}

/// What went wrong, once something has; likewise.
pub(super) fn failed(why: &str) -> BackendError {
    let fault = fault();
    if let Some(it) = locked(&OPENED).as_mut() {
        it.lost = true;
    }
    fault.unwrap_or_else(|| BackendError::Lost(innermost(why).into()))
}

/// Gives back the memory that nothing lies in.
pub(super) fn clean() {
    if is_open() {
        device().memory_cleanup();
    }
}

/// The last cause of an error that lists them, without the backtrace.
fn innermost(why: &str) -> &str {
    let lines = why.lines().map(str::trim).take_while(|line| !line.starts_with("Backtrace"));
    lines.filter(|line| !line.is_empty() && *line != "Caused by:").last().unwrap_or(why)
}
