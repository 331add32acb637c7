//! Lists of dispatches made ready for one memory, and their way to the queue.

use statepress_kernels::backend::BackendError;
use statepress_kernels::shaders::TILE;
use wgpu::BufferUsages;

use crate::Gpu;
use crate::record::{Dispatch, Extent, Part};

/// Uniform blocks begin at multiples of this on every adapter.
const ALIGNMENT: usize = 256;

/// The buffers that every kernel sees.
pub(crate) struct Buffers<'a> {
    pub memory: &'a wgpu::Buffer,
    pub control: &'a wgpu::Buffer,
    pub constants: &'a wgpu::Buffer,
}

/// A list of dispatches over the memory of one sequence.
pub(crate) struct Program {
    parts: Vec<Ready>,
    /// Goes back to the pool with the program.
    params: Option<wgpu::Buffer>,
    gpu: Gpu,
}

enum Ready {
    Dispatch { pipeline: wgpu::ComputePipeline, bindings: wgpu::BindGroup, groups: [Extent; 3] },
    Residual,
}

/// Where the residual stream is copied to, layer by layer.
pub(crate) struct Residuals<'a> {
    /// The memory of the sequence, and where in it, in words.
    pub memory: &'a wgpu::Buffer,
    pub at: u32,
    /// Words of each.
    pub words: usize,
    pub into: &'a wgpu::Buffer,
}

impl Program {
    /// Compiles what is not yet compiled and binds it.
    pub fn new(gpu: &Gpu, list: Vec<Part>, buffers: &Buffers) -> Result<Self, BackendError> {
        let sizes = list.iter().map(|part| match part {
            Part::Dispatch(step) => (4 * step.params.len()).next_multiple_of(ALIGNMENT),
            Part::Residual => 0,
        });
        let size = sizes.sum::<usize>();
        let params = gpu.buffer("parameters", size as u64, BufferUsages::UNIFORM | BufferUsages::COPY_DST)?;
        let mut blocks = Vec::with_capacity(size);
        let mut parts = Vec::with_capacity(list.len());
        for part in list {
            parts.push(match part {
                Part::Residual => Ready::Residual,
                Part::Dispatch(step) => {
                    let bindings = bind(gpu, &step, &params, blocks.len() as u64, buffers);
                    blocks.extend(step.params.iter().flat_map(|word| word.to_le_bytes()));
                    blocks.resize(blocks.len().next_multiple_of(ALIGNMENT), 0);
                    let pipeline = gpu.pipeline(step.variant());
                    Ready::Dispatch { pipeline, bindings, groups: step.groups }
                }
            });
        }
        gpu.0.queue.write_buffer(&params, 0, &blocks);
        Ok(Self { parts, params: Some(params), gpu: gpu.clone() })
    }

    /// Writes the commands for a step of `n` tokens.
    pub fn encode(&self, encoder: &mut wgpu::CommandEncoder, n: usize, residuals: Option<Residuals>) {
        let mut copied = 0;
        let mut rest = self.parts.as_slice();
        while !rest.is_empty() {
            // Copies cannot stand in a pass.
            let end = match residuals {
                Some(_) => rest.iter().position(|part| matches!(part, Ready::Residual)).unwrap_or(rest.len()),
                None => rest.len(),
            };
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            for part in &rest[..end] {
                if let Ready::Dispatch { pipeline, bindings, groups } = part {
                    let [x, y, z] = groups.map(|extent| extent.count(n));
                    pass.set_pipeline(pipeline);
                    pass.set_bind_group(0, bindings, &[]);
                    pass.dispatch_workgroups(x, y, z);
                }
            }
            drop(pass);
            rest = &rest[end..];
            if let (Some(residuals), [Ready::Residual, after @ ..]) = (&residuals, rest) {
                let bytes = 4 * residuals.words as u64;
                encoder.copy_buffer_to_buffer(
                    residuals.memory,
                    4 * u64::from(residuals.at),
                    residuals.into,
                    copied * bytes,
                    bytes,
                );
                copied += 1;
                rest = after;
            }
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(params) = self.params.take() {
            self.gpu.0.pool.borrow_mut().give(params);
        }
    }
}

impl Extent {
    fn count(self, n: usize) -> u32 {
        match self {
            Self::Fixed(count) => count,
            Self::Tokens => n as u32,
            Self::Slots(each) => n as u32 * each,
            Self::Tiles(times) => (n as u32).div_ceil(TILE) * times,
        }
    }
}

fn bind(gpu: &Gpu, step: &Dispatch, params: &wgpu::Buffer, at: u64, buffers: &Buffers) -> wgpu::BindGroup {
    let size = std::num::NonZeroU64::new((4 * step.params.len() as u64).next_multiple_of(16));
    let params = wgpu::BufferBinding { buffer: params, offset: at, size };
    let mut bound = vec![params, whole(buffers.memory), whole(buffers.control), whole(buffers.constants)];
    bound.extend(step.matrices.iter().map(|matrix| whole(&matrix.matrix.codes)));
    let entries: Vec<_> = (0..)
        .zip(bound)
        .map(|(binding, buffer)| wgpu::BindGroupEntry {
            binding,
            resource: wgpu::BindingResource::Buffer(buffer),
        })
        .collect();
    gpu.0.device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout: &gpu.layout(step.kernel),
        entries: &entries,
    })
}

fn whole(buffer: &wgpu::Buffer) -> wgpu::BufferBinding<'_> {
    buffer.as_entire_buffer_binding()
}
