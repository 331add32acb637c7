//! A program's weights on the GPU: its matrices, and a place among the constants for everything that
//! is no matrix.

use std::collections::BTreeSet;
use std::rc::Rc;

use statepress_kernels::backend::BackendError;
use statepress_kernels::network::Network;
use statepress_kernels::program::{Expert, Experts, Layout, MatrixId, Op, Program, VectorId};
use statepress_kernels::shaders as wgsl;
use wgpu::BufferUsages;

use crate::{Gpu, GpuMatrix};

/// A network on the GPU.
pub struct GpuNetwork {
    pub(crate) gpu: Gpu,
    pub(crate) program: Rc<Program>,
    pub(crate) constants: wgpu::Buffer,
    matrices: Vec<Option<Rc<Uploaded>>>,
    /// Where vectors begin among the constants.
    vectors: Vec<u32>,
    /// Where the frequencies of rotations begin, as kernels take them; by vector.
    turns: Vec<u32>,
    /// The experts of every node that has some.
    banks: Vec<Vec<Bank>>,
    /// Layers with a matrix whose rows are of classes: no kernel of several ops takes one.
    mixed: BTreeSet<usize>,
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
}

/// A matrix, or a bank of them, whose scales have their place among the constants.
pub(crate) struct Uploaded {
    pub matrix: GpuMatrix,
    pub block: wgsl::Matrix,
    /// The classes of its rows, where there are any: whatever it is used for is done with each of them.
    classes: Vec<Class>,
}

/// A class of rows.
struct Class {
    part: Rc<Uploaded>,
    mapped: Mapped,
}

/// Where the rows of a class are among those of its matrix.
#[derive(Clone, Copy)]
pub(crate) struct Mapped {
    /// Among the constants: which row each row of the class is.
    pub rows_of: u32,
    /// Among the constants: where each row is, with the rows of all classes one class after the other.
    pub places: u32,
    /// The place of its first row.
    pub first: u32,
}

impl Uploaded {
    /// What it is used as: itself, or each class of its rows.
    pub fn pieces(self: &Rc<Self>) -> Vec<(&Rc<Self>, Option<Mapped>)> {
        match self.classes.as_slice() {
            [] => vec![(self, None)],
            classes => classes.iter().map(|class| (&class.part, Some(class.mapped))).collect(),
        }
    }
}

/// Experts of one shape and precision, one after the other.
pub(crate) struct Bank {
    pub first: usize,
    pub count: usize,
    pub up: Rc<Uploaded>,
    pub down: Rc<Uploaded>,
}

impl GpuNetwork {
    pub(crate) fn new(gpu: &Gpu, network: Network<GpuMatrix>) -> Result<Self, BackendError> {
        let Network { program, mut matrices, vectors } = network;
        check_widths(gpu, &program)?;
        let mixed = mixed(&program, &matrices)?;
        let mut constants = Vec::new();
        let mut banks = Vec::with_capacity(program.nodes.len());
        for node in &program.nodes {
            banks.push(match &node.op {
                Op::Experts(op) => upload_banks(gpu, op, &mut matrices, &mut constants)?,
                _ => Vec::new(),
            });
        }
        let matrices = matrices.into_iter().map(|matrix| Some(upload(matrix?, &mut constants))).collect();
        let turning: Vec<VectorId> = program
            .nodes
            .iter()
            .filter_map(|node| match &node.op {
                Op::Attention(op) => op.inv_freq,
                _ => None,
            })
            .collect();
        let mut put = |values: &[f32]| {
            let at = constants.len() as u32;
            constants.extend(values.iter().map(|value| value.to_bits()));
            at
        };
        let places = vectors.iter().map(|values| put(values)).collect();
        let turns = vectors.iter().enumerate().map(|(n, values)| match turning.contains(&VectorId(n)) {
            true => put(&wgsl::turns(values)),
            false => 0,
        });
        let turns = turns.collect();
        // A buffer of nothing cannot be bound.
        if constants.is_empty() {
            constants.push(0);
        }
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_DST;
        let buffer = gpu.own_buffer("scales and vectors", 4 * constants.len() as u64, usage)?;
        gpu.0.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(&constants));
        Ok(Self {
            gpu: gpu.clone(),
            constants: buffer,
            matrices,
            vectors: places,
            turns,
            banks,
            mixed,
            vocab_size: program.vocab_size,
            hidden_size: program.hidden_size(),
            program,
        })
    }

    /// A matrix.
    ///
    /// # Panics
    /// For one that nothing uses, or that stands in a bank: the program's nodes name no such.
    pub(crate) fn matrix(&self, id: MatrixId) -> &Rc<Uploaded> {
        self.matrices[id.0].as_ref().unwrap_or_else(|| panic!("matrix {} is not on the GPU", id.0))
    }

    /// Whether a layer has a matrix whose rows are of classes.
    pub(crate) fn is_mixed(&self, layer: Option<usize>) -> bool {
        layer.is_some_and(|layer| self.mixed.contains(&layer))
    }

    /// Where a vector begins among the constants.
    pub(crate) fn vector(&self, id: VectorId) -> u32 {
        self.vectors[id.0]
    }

    /// The same, or that there is none.
    pub(crate) fn optional(&self, id: Option<VectorId>) -> u32 {
        id.map_or(wgsl::NONE, |id| self.vector(id))
    }

    /// Where the frequencies of rotations begin, as kernels take them.
    pub(crate) fn turns(&self, id: VectorId) -> u32 {
        self.turns[id.0]
    }

    /// The experts of a node.
    pub(crate) fn banks(&self, node: usize) -> &[Bank] {
        &self.banks[node]
    }

    /// What makes logits of the hidden state: of a matrix without classes the block is that of the ids that exist.
    pub(crate) fn head(&self) -> Vec<(&Rc<Uploaded>, wgsl::Matrix, Option<Mapped>)> {
        let pieces = self.matrix(self.program.head.matrix).pieces();
        let block = |(piece, mapped): (_, Option<Mapped>)| {
            let piece: &Rc<Uploaded> = piece;
            let rows = if mapped.is_none() { self.vocab_size as u32 } else { piece.block.rows };
            (piece, wgsl::Matrix { rows, ..piece.block }, mapped)
        };
        pieces.into_iter().map(block).collect()
    }
}

impl Drop for GpuNetwork {
    fn drop(&mut self) {
        self.constants.destroy();
    }
}

impl Bank {
    /// f: outputs of the first product.
    pub fn width(&self) -> usize {
        self.up.matrix.rows
    }
}

/// A head of attention is a workgroup's at the most, and so are the states of a channel.
fn check_widths(gpu: &Gpu, program: &Program) -> Result<(), BackendError> {
    for node in &program.nodes {
        let (what, needed, allowed) = match &node.op {
            Op::Attention(op) => ("a head of attention (channels)", op.head, wgsl::MAX_HEAD),
            Op::Ssd(op) => ("states of a channel of Mamba-2", op.states, wgsl::THREADS * wgsl::LANE_STATES),
            _ => continue,
        };
        if needed > allowed as usize {
            return Err(BackendError::Limit {
                what: what.into(),
                needed: needed as u64,
                allowed: allowed.into(),
                adapter: gpu.0.adapter.name.clone(),
            });
        }
    }
    Ok(())
}

pub(crate) fn upload(mut matrix: GpuMatrix, constants: &mut Vec<u32>) -> Rc<Uploaded> {
    let block = matrix.block(constants);
    let places = constants.len() as u32;
    constants.extend(&matrix.places);
    let mut rows_of = constants.len() as u32;
    let at = constants.len();
    constants.resize(at + matrix.places.len(), 0);
    for (row, &place) in matrix.places.iter().enumerate() {
        constants[at + place as usize] = row as u32;
    }
    let mut first = 0;
    let classes = std::mem::take(&mut matrix.classes).into_iter().map(|class| {
        let mapped = Mapped { rows_of, places, first };
        first += class.rows as u32;
        rows_of += class.rows as u32;
        Class { part: upload(class, constants), mapped }
    });
    let classes = classes.collect();
    Rc::new(Uploaded { matrix, block, classes })
}

/// The layers with a matrix whose rows are of classes.
///
/// # Errors
/// Where such a matrix is used as none of the kernels that know of classes do.
fn mixed(program: &Program, matrices: &[Option<GpuMatrix>]) -> Result<BTreeSet<usize>, BackendError> {
    let has_classes = |id: MatrixId| matrices[id.0].as_ref().is_some_and(|matrix| !matrix.classes.is_empty());
    let unknown = |id: MatrixId| {
        let transposed = program.matrix(id).layout == Layout::Transposed;
        (has_classes(id) && transposed).then_some(id)
    };
    let mut layers = BTreeSet::new();
    for node in &program.nodes {
        let refused = match &node.op {
            Op::Embed { positions, .. } => positions.filter(|&id| has_classes(id)),
            Op::Linear(linear) => {
                layers.extend(node.layer.filter(|_| has_classes(linear.w)));
                unknown(linear.w)
            }
            Op::Experts(op) => {
                let experts = op.experts.iter().flat_map(|expert| [expert.up, expert.down]);
                experts.chain([op.router]).find(|&id| has_classes(id))
            }
            _ => None,
        };
        if let Some(id) = refused.or_else(|| unknown(program.head.matrix)) {
            let what = format!("{}, whose rows have several precisions", program.matrix(id).key);
            return Err(BackendError::NoKernel { what });
        }
    }
    Ok(layers)
}

/// Neighbours that are alike share a bank.
fn upload_banks(
    gpu: &Gpu,
    op: &Experts,
    matrices: &mut [Option<GpuMatrix>],
    constants: &mut Vec<u32>,
) -> Result<Vec<Bank>, BackendError> {
    let mut take = |id: MatrixId| {
        let missing = || BackendError::Validation(format!("matrix {} was not loaded", id.0));
        matrices[id.0].take().ok_or_else(missing)
    };
    let mut runs: Vec<Vec<(GpuMatrix, GpuMatrix)>> = Vec::new();
    for Expert { up, down } in &op.experts {
        let expert = (take(*up)?, take(*down)?);
        match runs.last_mut() {
            Some(run) if run[0].0.alike(&expert.0) && run[0].1.alike(&expert.1) => run.push(expert),
            _ => runs.push(vec![expert]),
        }
    }
    let mut first = 0;
    let banks = runs.into_iter().map(|run| {
        let count = run.len();
        let (up, down): (Vec<_>, Vec<_>) = run.into_iter().unzip();
        let (up, down) = (GpuMatrix::bank(gpu, up)?, GpuMatrix::bank(gpu, down)?);
        let bank = Bank { first, count, up: upload(up, constants), down: upload(down, constants) };
        first += count;
        Ok(bank)
    });
    banks.collect()
}
