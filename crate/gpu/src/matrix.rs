//! A packed matrix, and banks of them, in the GPU's memory.

use statepress_core::{ClassedRows, Codes, Grid, Group, Packed, Scales as Stored, Tensor, tables};
use statepress_kernels::backend::BackendError;
use statepress_kernels::codecs::{self, scales, stream};
use statepress_kernels::shaders::{self, Codec};
use wgpu::BufferUsages;

use crate::Gpu;

/// Columns that a kernel decodes at a time.
const EIGHT: usize = 8;

/// A matrix, or several of one shape and precision one after the other. The codes are on the
/// GPU; the scales wait for the constants of the network.
pub struct GpuMatrix {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) codec: Codec,
    pub(crate) codes: wgpu::Buffer,
    /// Matrices of the bank.
    pub(crate) banks: usize,
    scales: Scales,
    /// Numbers per scale; 0, for INT8: one scale in all.
    block: usize,
    /// The classes of its rows, where there are any: it has no codes of its own then.
    pub(crate) classes: Vec<Self>,
    /// Where each row is, with the rows of all classes one class after the other.
    pub(crate) places: Vec<u32>,
}

/// Scales of a bank, one matrix after the other.
#[derive(Clone)]
enum Scales {
    None,
    Fp32(Vec<f32>),
    Fp16(Vec<u16>),
    /// Scales, and behind each the center of its group.
    Affine(Vec<[f32; 2]>),
    /// Codes, nested absmax values, one mean a matrix.
    Double(Vec<u8>, Vec<f32>, Vec<f32>),
}

impl GpuMatrix {
    /// Uploads a tensor's packed numbers, rows padded to whole eights.
    ///
    /// A binary16 matrix with infinities or NaN, which only damaged files have, is kept as f32,
    /// because shaders may read them as anything, and the damage must show.
    pub(crate) fn new(gpu: &Gpu, name: &str, tensor: Tensor) -> Result<Self, BackendError> {
        codecs::check(&tensor)?;
        let (rows, cols) = tensor.matrix();
        let mut codec = tensor.encoding().plain().map_or(Codec::Fp32, Codec::from);
        let mut scales = Scales::None;
        let mut block = cols;
        let bytes = match tensor.data {
            Packed::F32(values) => padded(bytemuck::cast_slice(&values), rows, cols, 4),
            Packed::F16(bits) if bits.iter().any(|bits| bits & 0x7c00 == 0x7c00) => {
                codec = Codec::Fp32;
                let mut values = vec![0.0f32; bits.len()];
                codecs::half16::decode_f16(&bits, &mut values);
                padded(bytemuck::cast_slice(&values), rows, cols, 4)
            }
            Packed::F16(bits) | Packed::Bf16(bits) => padded(bytemuck::cast_slice(&bits), rows, cols, 2),
            Packed::Codes(codes) => {
                block = match codes.group {
                    Group::Row => cols,
                    Group::Tensor if codes.grid == Grid::Int8 => 0,
                    group => group.size(&tensor.shape),
                };
                let rows = code_rows(&codes, codec, rows, cols);
                scales = Scales::of(codes.scales, codes.grid);
                rows
            }
            Packed::Rows(classed) => return Self::classed(gpu, name, [rows, cols], classed),
        };
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_DST | BufferUsages::COPY_SRC;
        let codes = gpu.own_buffer(name, bytes.len() as u64, usage)?;
        write(gpu, &codes, bytes);
        Ok(Self {
            rows,
            cols,
            codec,
            codes,
            banks: 1,
            scales,
            block,
            classes: Vec::new(),
            places: Vec::new(),
        })
    }

    /// The rows of each class as a matrix of their own.
    fn classed(
        gpu: &Gpu,
        name: &str,
        [rows, cols]: [usize; 2],
        classed: ClassedRows,
    ) -> Result<Self, BackendError> {
        let (parts, places) = classed.into_parts();
        let classes =
            parts.into_iter().map(|part| Self::new(gpu, name, part)).collect::<Result<Vec<_>, _>>()?;
        let codec = classes.first().map_or(Codec::Fp32, |class| class.codec);
        let codes = gpu.own_buffer(name, 4, BufferUsages::STORAGE)?;
        let scales = Scales::None;
        Ok(Self { rows, cols, codec, codes, banks: 1, scales, block: cols, classes, places })
    }

    /// Whether the other can stand in one bank with this one.
    pub(crate) fn alike(&self, other: &Self) -> bool {
        let plain = self.classes.is_empty() && other.classes.is_empty();
        plain
            && (self.rows, self.cols, self.codec, self.block)
                == (other.rows, other.cols, other.codec, other.block)
    }

    /// Puts matrices that are alike into one bank, copying on the GPU.
    pub(crate) fn bank(gpu: &Gpu, mut matrices: Vec<Self>) -> Result<Self, BackendError> {
        if matrices.len() == 1 {
            return Ok(matrices.remove(0));
        }
        let first = &matrices[0];
        let size = first.code_bytes() as u64;
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_DST | BufferUsages::COPY_SRC;
        let codes = gpu.own_buffer("the experts", size * matrices.len() as u64, usage)?;
        let mut encoder = gpu.0.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut scales = first.scales.clone();
        for (n, matrix) in matrices.iter().enumerate() {
            encoder.copy_buffer_to_buffer(&matrix.codes, 0, &codes, n as u64 * size, size);
            if n > 0 {
                scales.append(&matrix.scales);
            }
        }
        gpu.0.queue.submit([encoder.finish()]);
        let (rows, cols, codec, block) = (first.rows, first.cols, first.codec, first.block);
        let banks = matrices.len();
        Ok(Self { rows, cols, codec, codes, banks, scales, block, classes: Vec::new(), places: Vec::new() })
    }

    /// Eights of a row.
    pub(crate) fn eights(&self) -> usize {
        self.cols.div_ceil(EIGHT)
    }

    /// Bytes of the codes of one matrix of the bank: whole words of four.
    pub(crate) fn code_bytes(&self) -> usize {
        self.rows * self.codec.row_bytes(self.eights())
    }

    /// Bytes of the codes and scales of one matrix of the bank.
    pub(crate) fn bytes(&self) -> usize {
        self.code_bytes() + self.scales.bytes() / self.banks
    }

    /// Puts the scales among the constants, and says what a kernel needs to know.
    pub(crate) fn block(&self, constants: &mut Vec<u32>) -> shaders::Matrix {
        let scales = constants.len() as u32;
        let mut nested = 0;
        let count = match &self.scales {
            Scales::None => 0,
            Scales::Fp32(values) => {
                constants.extend(values.iter().map(|value| value.to_bits()));
                values.len()
            }
            Scales::Affine(pairs) => {
                constants.extend(pairs.as_flattened().iter().map(|value| value.to_bits()));
                pairs.len()
            }
            Scales::Fp16(bits) => {
                constants.extend(
                    bits.chunks(2)
                        .map(|pair| u32::from(pair[0]) | u32::from(pair.get(1).copied().unwrap_or(0)) << 16),
                );
                bits.len()
            }
            Scales::Double(codes, values, means) => {
                constants.extend(
                    codes
                        .chunks(4)
                        .map(|bytes| bytes.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte))),
                );
                nested = constants.len() as u32;
                constants.push(means.len() as u32);
                let tables = means.iter().chain(tables::dynamic()).chain(values);
                constants.extend(tables.map(|value| value.to_bits()));
                codes.len()
            }
        };
        let even = self.cols.is_multiple_of(EIGHT) && self.block.is_multiple_of(EIGHT);
        shaders::Matrix {
            rows: self.rows as u32,
            cols: self.cols as u32,
            eights: self.eights() as u32,
            scales,
            block: self.block as u32,
            even: u32::from(even),
            bank_scales: (count / self.banks) as u32,
            nested,
        }
    }
}

// A browser frees what is dropped when its garbage collector comes by; weights should not wait.
impl Drop for GpuMatrix {
    fn drop(&mut self) {
        self.codes.destroy();
    }
}

impl Scales {
    fn of(scales: Stored, grid: Grid) -> Self {
        match scales {
            Stored::F32(values) => Self::Fp32(values),
            Stored::F16(bits) => Self::Fp16(bits),
            Stored::Double { codes, nested, offset } => Self::Double(codes, nested, vec![offset]),
            stored @ Stored::Log8 { .. } => Self::Fp32(scales::all(&stored)),
            stored @ Stored::Affine { .. } => {
                let pair = |group| [scales::get(&stored, group), scales::center(&stored, grid, group)];
                Self::Affine((0..stored.len()).map(pair).collect())
            }
        }
    }

    fn append(&mut self, other: &Self) {
        match (self, other) {
            (Self::Fp32(all), Self::Fp32(more)) => all.extend(more),
            (Self::Fp16(all), Self::Fp16(more)) => all.extend(more),
            (Self::Affine(all), Self::Affine(more)) => all.extend(more),
            (Self::Double(codes, nested, means), Self::Double(more_codes, more_nested, more_means)) => {
                codes.extend(more_codes);
                nested.extend(more_nested);
                means.extend(more_means);
            }
            // Matrices of one codec have scales of one kind.
            _ => {}
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Fp32(values) => 4 * values.len(),
            Self::Fp16(bits) => 2 * bits.len(),
            Self::Affine(pairs) => 8 * pairs.len(),
            Self::Double(codes, nested, means) => codes.len() + 4 * (nested.len() + means.len()),
        }
    }
}

/// Rows of `size` bytes a number, each padded with zeros to whole eights.
fn padded(bytes: &[u8], rows: usize, cols: usize, size: usize) -> Vec<u8> {
    if cols.is_multiple_of(EIGHT) {
        return bytes.to_vec();
    }
    let (from, to) = (cols * size, cols.next_multiple_of(EIGHT) * size);
    let mut all = vec![0; rows * to];
    for (row, out) in bytes.chunks_exact(from.max(1)).zip(all.chunks_exact_mut(to.max(1))) {
        out[..from].copy_from_slice(row);
    }
    all
}

/// Rows of codes, each padded with zeros to whole eights. Codes of bytes and of nibbles lie as they are stored, which
/// their kernels read; others begin with the lowest bits of a word of their own.
fn code_rows(codes: &Codes, codec: Codec, rows: usize, cols: usize) -> Vec<u8> {
    let (bits, stored) = (codes.grid.bits(), &codes.codes);
    let code =
        |row: usize, col: usize| if col < cols { stream::get(stored, bits, row * cols + col) } else { 0 };
    let width = cols.next_multiple_of(EIGHT);
    match bits {
        8 => padded(stored, rows, cols, 1),
        4 if cols == width => stored.clone(),
        4 => {
            let all = (0..rows * width).map(|i| code(i / width, i % width));
            stream::pack(all, bits, 0)
        }
        _ => {
            let row_bytes = codec.row_bytes(width / EIGHT);
            let mut all = vec![0; rows * row_bytes];
            for (row, out) in all.chunks_exact_mut(row_bytes.max(1)).enumerate() {
                for col in 0..cols {
                    let (at, code) = (col * bits, u16::from(code(row, col)) << (col * bits % 8));
                    let [low, high] = code.to_le_bytes();
                    out[at / 8] |= low;
                    if high != 0 {
                        out[at / 8 + 1] |= high;
                    }
                }
            }
            all
        }
    }
}

fn write(gpu: &Gpu, buffer: &wgpu::Buffer, mut bytes: Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    gpu.0.queue.write_buffer(buffer, 0, &bytes);
}
