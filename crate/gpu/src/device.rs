//! Adapter, device, limits, and what went wrong with them.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use futures_channel::oneshot;
use statepress_kernels::backend::BackendError;
use statepress_kernels::shaders::Features;

use crate::pipelines::Pipelines;
use crate::pool::Pool;

/// A GPU. Cloning shares it.
#[derive(Clone)]
pub struct Gpu(pub(crate) Rc<Shared>);

pub(crate) struct Shared {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    pub adapter: Adapter,
    pub features: Features,
    pub pipelines: RefCell<Pipelines>,
    pub pool: RefCell<Pool>,
    /// Nothing is fused.
    pub op_by_op: bool,
    /// The most bytes of a buffer that a shader sees.
    pub max_buffer: u64,
    faults: Arc<Faults>,
}

/// What the driver reported at a moment when nobody could be told.
#[derive(Default)]
struct Faults {
    first: Mutex<Option<BackendError>>,
}

/// What computes.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    /// The adapter's own name, or what is known of it.
    pub name: String,
    /// How it is reached: `webgpu`, `vulkan`, `metal`, `dx12`.
    pub api: String,
    /// What it offers beyond what every adapter does: `shader-f16`, `subgroups`, `timestamp-query`.
    pub features: Vec<String>,
    /// Whether it is a program on the CPU (SwiftShader, lavapipe, WARP): right, and slow.
    pub software: bool,
    /// The most bytes of one buffer.
    pub max_buffer: u64,
}

/// What to ask for.
#[derive(Clone, Debug, Default)]
pub struct GpuOptions {
    /// Why there cannot be one, if the embedder knows: nobody is asked then.
    pub absent: Option<String>,
    /// Use subgroup shuffles where the adapter has them. Off unless asked for: on lavapipe they are
    /// within a twentieth of shared memory either way, and no hardware has been measured.
    pub subgroups: bool,
    /// Multiply single tokens with INT8 matrices in packed integers, activations rounded to 15 bits,
    /// where the adapter has dot products of packed bytes. Off unless asked for: on lavapipe it is
    /// a fifth slower than f32, and no hardware has been measured.
    pub packed_dot: bool,
    /// Run small blocks op by op, as large ones are.
    pub op_by_op: bool,
    /// Let a caller that leaves the choice to us have a software adapter, too; for tests.
    pub software: bool,
    /// Pretend that no buffer can be larger than this.
    pub max_buffer: Option<u64>,
}

impl Gpu {
    /// Opens the best adapter there is, with all the buffer sizes it allows.
    ///
    /// # Errors
    /// [`BackendError::NoAdapter`] where there is none.
    pub async fn open(options: GpuOptions) -> Result<Self, BackendError> {
        if let Some(reason) = options.absent {
            return Err(BackendError::NoAdapter(reason));
        }
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        descriptor.backends = wgpu::Backends::PRIMARY;
        let instance = wgpu::Instance::new(descriptor);
        let packed_dot = instance
            .wgsl_language_features()
            .contains(wgpu::WgslLanguageFeatures::Packed4x8IntegerDotProduct);
        let wanted = wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            ..wgpu::RequestAdapterOptions::default()
        };
        let found = instance.request_adapter(&wanted).await;
        let adapter = found.map_err(|error| BackendError::NoAdapter(in_short(&error)))?;

        // The defaults of a device are the least that every adapter has: 128 MiB to a binding.
        let (offered, mut limits) = (adapter.limits(), wgpu::Limits::downlevel_defaults());
        limits.max_storage_buffers_per_shader_stage = 8;
        limits.max_compute_workgroup_storage_size = 16384;
        limits.max_compute_invocations_per_workgroup = 256;
        limits.max_compute_workgroup_size_x = 256;
        limits.max_buffer_size = offered.max_buffer_size;
        limits.max_storage_buffer_binding_size = offered.max_storage_buffer_binding_size;
        let mut required_features = wgpu::Features::empty();
        if options.subgroups {
            required_features |= adapter.features() & wgpu::Features::SUBGROUP;
        }
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("statepress"),
            required_features,
            required_limits: limits.clone(),
            ..wgpu::DeviceDescriptor::default()
        };
        let opened = adapter.request_device(&descriptor).await;
        let (device, queue) = opened.map_err(|error| BackendError::NoAdapter(error.to_string()))?;

        let faults = Arc::new(Faults::default());
        let (lost, refused) = (faults.clone(), faults.clone());
        device.set_device_lost_callback(move |reason, message| {
            lost.note(BackendError::Lost(format!("{message} ({reason:?})")));
        });
        device.on_uncaptured_error(Arc::new(move |error| refused.note(typed(&error))));

        let max_buffer = limits.max_buffer_size.min(limits.max_storage_buffer_binding_size);
        // Whole words: a buffer whose size is rounded up to them must still be allowed.
        let max_buffer = options.max_buffer.map_or(max_buffer, |most| most.min(max_buffer)) & !3;
        Ok(Self(Rc::new(Shared {
            adapter: describe(&adapter, packed_dot, max_buffer),
            features: Features {
                subgroups: device.features().contains(wgpu::Features::SUBGROUP),
                packed_dot: packed_dot && options.packed_dot,
            },
            pipelines: RefCell::default(),
            pool: RefCell::default(),
            op_by_op: options.op_by_op,
            max_buffer,
            faults,
            device,
            queue,
        })))
    }

    /// Bytes a second that are read and written when one large buffer is copied to another: what
    /// reading weights cannot outrun. `clock` tells seconds.
    pub async fn copy_bandwidth(&self, clock: fn() -> f64) -> Result<f64, BackendError> {
        const COPIES: u64 = 16;
        let usage = wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let size = self.0.max_buffer.min(512 << 20);
        let (a, b) = (self.own_buffer("copied", size, usage)?, self.own_buffer("copy", size, usage)?);
        let mut best = f64::INFINITY;
        for _ in 0..4 {
            let mut encoder =
                self.0.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            (0..COPIES).for_each(|_| encoder.copy_buffer_to_buffer(&a, 0, &b, 0, size));
            let start = clock();
            self.0.queue.submit([encoder.finish()]);
            self.settle(&a).await?;
            best = best.min(clock() - start);
        }
        Ok((2 * COPIES * size) as f64 / best)
    }

    /// Waits until the queue has come to its end; `buffer` is any that can be copied from.
    pub(crate) async fn settle(&self, buffer: &wgpu::Buffer) -> Result<(), BackendError> {
        let into = self.buffer("settle", 4, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST)?;
        let mut encoder = self.0.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.copy_buffer_to_buffer(buffer, 0, &into, 0, 4);
        self.0.queue.submit([encoder.finish()]);
        self.read(into, 1).await.map(drop)
    }

    /// What computes.
    pub fn adapter(&self) -> &Adapter {
        &self.0.adapter
    }

    /// Gives the device up; whatever is under way on it fails with [`BackendError::Lost`].
    pub fn destroy(&self) {
        self.0.device.destroy();
        self.0.faults.note(BackendError::Lost("it was given up".into()));
    }

    /// The first thing that went wrong on the device, if anything did: nothing it computed since
    /// can be trusted.
    pub(crate) fn check(&self) -> Result<(), BackendError> {
        self.0.faults.first().map_or(Ok(()), Err)
    }

    /// A buffer of at least that size, from the pool if one is free there.
    pub(crate) fn buffer(
        &self,
        what: &str,
        bytes: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer, BackendError> {
        let class = Pool::class(bytes).min(self.0.max_buffer.max(bytes));
        match self.0.pool.borrow_mut().take(class, usage) {
            Some(buffer) => Ok(buffer),
            None => self.own_buffer(what, class, usage),
        }
    }

    /// A buffer of just that size.
    pub(crate) fn own_buffer(
        &self,
        what: &str,
        bytes: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer, BackendError> {
        // Every binding and copy counts in words, and none may be empty.
        let size = bytes.next_multiple_of(4).max(16);
        if size > self.0.max_buffer {
            return Err(BackendError::Limit {
                what: format!("{what} (bytes)"),
                needed: size,
                allowed: self.0.max_buffer,
                adapter: self.0.adapter.name.clone(),
            });
        }
        let descriptor = wgpu::BufferDescriptor { label: Some(what), size, usage, mapped_at_creation: false };
        Ok(self.0.device.create_buffer(&descriptor))
    }

    /// Waits for the first `words` words of a buffer, which the queue has been told to fill, and
    /// gives the buffer back to the pool.
    pub(crate) async fn read(&self, buffer: wgpu::Buffer, words: usize) -> Result<Vec<u32>, BackendError> {
        let (sender, receiver) = oneshot::channel();
        let slice = buffer.slice(..4 * words as u64);
        slice.map_async(wgpu::MapMode::Read, move |result| {
            // Nobody waits any more if the runner is gone.
            let _ = sender.send(result);
        });
        // A browser runs the callback between two tasks; natively somebody has to ask for it.
        #[cfg(not(target_family = "wasm"))]
        self.0
            .device
            .poll(wgpu::PollType::wait_indefinitely())
            .map_err(|error| BackendError::Lost(error.to_string()))?;
        let mapped = receiver.await;
        self.check()?;
        match mapped {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(BackendError::Lost(error.to_string())),
            Err(_) => return Err(BackendError::Lost("it no longer answers".into())),
        }
        let view = slice.get_mapped_range().map_err(|error| BackendError::Lost(error.to_string()))?;
        let result = view
            .chunks_exact(4)
            .map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
            .collect();
        drop(view);
        buffer.unmap();
        self.0.pool.borrow_mut().give(buffer);
        Ok(result)
    }
}

impl Faults {
    fn note(&self, error: BackendError) {
        if let Ok(mut first) = self.first.lock() {
            first.get_or_insert(error);
        }
    }

    fn first(&self) -> Option<BackendError> {
        self.first.lock().ok().and_then(|first| first.clone())
    }
}

fn typed(error: &wgpu::Error) -> BackendError {
    match error {
        wgpu::Error::OutOfMemory { source } => BackendError::OutOfMemory(source.to_string()),
        other => BackendError::Validation(other.to_string()),
    }
}

/// What a user can do something with; the error lists every way that this build does not know, too.
fn in_short(error: &wgpu::RequestAdapterError) -> String {
    match error {
        wgpu::RequestAdapterError::NotFound { .. } => "no adapter was found".into(),
        other => other.to_string(),
    }
}

fn describe(adapter: &wgpu::Adapter, packed_dot: bool, max_buffer: u64) -> Adapter {
    let info = adapter.get_info();
    let api = match info.backend {
        wgpu::Backend::BrowserWebGpu => "webgpu",
        wgpu::Backend::Vulkan => "vulkan",
        wgpu::Backend::Metal => "metal",
        wgpu::Backend::Dx12 => "dx12",
        _ => "other",
    };
    // Browsers give as little away as they like.
    let parts = [info.name.trim(), info.driver.trim(), info.driver_info.trim()];
    let name = parts.iter().find(|part| !part.is_empty()).map_or("unnamed adapter", |part| part);
    let known = [
        (wgpu::Features::SHADER_F16, "shader-f16"),
        (wgpu::Features::SUBGROUP, "subgroups"),
        (wgpu::Features::TIMESTAMP_QUERY, "timestamp-query"),
    ];
    let software = info.device_type == wgpu::DeviceType::Cpu
        || ["swiftshader", "llvmpipe", "lavapipe", "basic render"]
            .iter()
            .any(|known| name.to_lowercase().contains(known));
    let features =
        known.iter().filter(|(feature, _)| adapter.features().contains(*feature)).map(|(_, name)| *name);
    let features = features.chain(packed_dot.then_some("packed-dot"));
    Adapter {
        name: name.to_string(),
        api: api.to_string(),
        features: features.map(str::to_string).collect(),
        software,
        max_buffer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory that is used up cannot be had from a driver on demand.
    #[test]
    fn the_first_of_a_drivers_errors_is_kept_with_its_kind() {
        let faults = Faults::default();
        assert_eq!(faults.first(), None);
        faults.note(typed(&wgpu::Error::OutOfMemory { source: "no room for 8 GiB".into() }));
        faults.note(BackendError::Lost("it was given up".into()));
        let first = faults.first().unwrap();
        assert_eq!(
            (first.code(), &*first.to_string()),
            ("gpu-out-of-memory", "the GPU is out of memory: no room for 8 GiB",)
        );
    }
}
