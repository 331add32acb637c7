//! One dispatch on memory that the caller lays out: for holding each kernel against its plain
//! reference.

use std::rc::Rc;

use statepress_core::Tensor;
use statepress_kernels::backend::BackendError;
use statepress_kernels::shaders::{Block, Control, Kernel, Matrix, Rows};
use wgpu::BufferUsages;

use crate::network::{Uploaded, upload};
use crate::record::{Dispatch, Extent, Moves, Part};
use crate::submit::{Buffers, Program};
use crate::{Gpu, GpuMatrix};

/// What one dispatch sees.
#[derive(Default)]
pub struct One {
    /// Activations, as kernels address them.
    pub memory: Vec<f32>,
    /// The step, and the ids after it.
    pub control: Control,
    /// Ids to take in, ids sampled, labels; see `common.wgsl`.
    pub ids: Vec<u32>,
    constants: Vec<u32>,
    matrices: Vec<Rc<Uploaded>>,
}

impl One {
    /// Puts values into the memory; says where.
    pub fn put(&mut self, values: &[f32]) -> u32 {
        let at = self.memory.len() as u32;
        self.memory.extend_from_slice(values);
        at
    }

    /// Puts rows of `width` values into the memory.
    pub fn rows(&mut self, values: &[f32], width: usize) -> Rows {
        Rows::whole(self.put(values), width)
    }

    /// Makes room for `n` rows of `width` values; they are NaN until somebody writes them.
    pub fn room(&mut self, n: usize, width: usize) -> Rows {
        self.rows(&vec![f32::NAN; n * width], width)
    }

    /// Puts values among the constants; says where.
    pub fn constant(&mut self, values: &[f32]) -> u32 {
        let at = self.constants.len() as u32;
        self.constants.extend(values.iter().map(|value| value.to_bits()));
        at
    }

    /// Uploads the next matrix, or bank of matrices that are alike, of the kernel.
    pub fn matrix(&mut self, gpu: &Gpu, tensors: Vec<Tensor>) -> Result<Matrix, BackendError> {
        let matrices = tensors.into_iter().map(|tensor| GpuMatrix::new(gpu, "test", tensor));
        let matrix = GpuMatrix::bank(gpu, matrices.collect::<Result<_, _>>()?)?;
        let matrix = upload(matrix, &mut self.constants);
        self.matrices.push(matrix.clone());
        Ok(matrix.block)
    }

    /// Dispatches a kernel, and reads the memory and the ids back.
    pub async fn dispatch(
        &mut self,
        gpu: &Gpu,
        kernel: Kernel,
        overrides: &'static [&'static str],
        params: &impl Block,
        groups: [u32; 3],
    ) -> Result<(), BackendError> {
        let storage = BufferUsages::STORAGE | BufferUsages::COPY_DST | BufferUsages::COPY_SRC;
        let upload = |words: &[u32]| {
            let buffer = gpu.own_buffer("test", 4 * words.len() as u64, storage)?;
            gpu.0.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(words));
            Ok::<_, BackendError>(buffer)
        };
        let memory = upload(bytemuck::cast_slice(&self.memory))?;
        let mut words = Vec::new();
        self.control.words(&mut words);
        let header = words.len();
        words.extend_from_slice(&self.ids);
        let control = upload(&words)?;
        let constants = upload(&self.constants)?;
        let mut params_words = Vec::new();
        params.words(&mut params_words);
        let step = Dispatch {
            kernel,
            overrides: overrides.to_vec(),
            params: params_words,
            matrices: self.matrices.clone(),
            matrices_read: self.matrices.len(),
            banks_used: 1,
            moves: Moves::default(),
            groups: groups.map(Extent::Fixed),
        };
        let buffers = Buffers { memory: &memory, control: &control, constants: &constants };
        let program = Program::new(gpu, vec![Part::Dispatch(step)], &buffers)?;
        let mut encoder = gpu.0.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        program.encode(&mut encoder, 1, None);
        let back = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
        let (sizes, total) = (self.memory.len(), self.memory.len() + words.len());
        let into = gpu.buffer("test results", 4 * total as u64, back)?;
        encoder.copy_buffer_to_buffer(&memory, 0, &into, 0, 4 * sizes as u64);
        encoder.copy_buffer_to_buffer(&control, 0, &into, 4 * sizes as u64, 4 * words.len() as u64);
        gpu.0.queue.submit([encoder.finish()]);
        let found = gpu.read(into, total).await?;
        self.memory = found[..sizes].iter().map(|&bits| f32::from_bits(bits)).collect();
        self.ids = found[sizes + header..].to_vec();
        Ok(())
    }
}
