//! The slices that are taken out of every tensor, and a checkpoint without them.
//!
//! The smaller checkpoint is a view of the larger one: what is cut is read, cut and forgotten as it is asked for. Only numbers
//! that were fitted are held.

use std::cell::RefCell;
use std::rc::Rc;

use serde_json::{Map, Value};
use statepress_core::index::{Extent, Stored, Strided};
use statepress_core::source::{SourceError, check_range};
use statepress_core::spec::Origin;
use statepress_core::{DType, Encoding, Entry, Index, Packed, Source};
use statepress_kernels::codecs::{self, Clip};
use statepress_kernels::program::{Layout, NormKind, Op, Program, VectorForm, VectorId, VectorSource};

use super::pairs::Pairs;
use super::places::{Kept, select};
use crate::EngineError;
use crate::families::{ASSUMED, Hints, ModelSpec, infer};

/// What becomes of one tensor.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Cut {
    /// The usual key of the tensor that it is made of.
    pub from: String,
    /// What stays of each dimension; `None`: all of it.
    pub dims: Vec<Option<Vec<usize>>>,
    /// Its numbers are multiplied by it.
    pub factor: f32,
}

/// What becomes of the tensors of a model, by usual key: of those that change. Without a cut a tensor is left out.
pub(super) type Cuts = Pairs<String, Option<Cut>>;

/// Numbers that were fitted, by usual key.
pub(super) type Fitted = Pairs<String, Rc<Vec<f32>>>;

/// The cuts that leave of every axis what is kept.
pub(super) fn cuts(program: &Program, kept: &Kept) -> Cuts {
    let mut cuts = Cuts::default();
    let mut cut = |key: &str, dims: Vec<Option<Vec<usize>>>, factor: f32| {
        if dims.iter().any(Option::is_some) {
            let cut = Cut { from: key.into(), dims, factor };
            if !cuts.has(key) {
                cuts.insert(key.into(), Some(cut));
            }
        }
    };
    let experts = |key: &str| {
        program.nodes.iter().find_map(|node| match &node.op {
            Op::Experts(op) => {
                let up = &program.matrix(op.experts.first()?.up).key;
                let down = &program.matrix(op.experts.first()?.down).key;
                let axis = program.matrix(op.router).dims[0].0.first()?.axis;
                (key == up || key == down).then(|| kept.get(&axis).cloned()).flatten()
            }
            _ => None,
        })
    };
    for matrix in &program.matrices {
        let [rows, cols] = [0, 1].map(|dim| select(&matrix.dims[dim], kept));
        let dims = match matrix.layout {
            Layout::Plain => vec![rows, cols],
            Layout::Transposed => vec![cols, rows],
            Layout::Part { .. } => vec![experts(&matrix.key), rows, cols],
        };
        cut(&matrix.key, dims, 1.0);
    }
    let scales = norm_scales(program, kept);
    for (at, vector) in program.vectors.iter().enumerate() {
        if let VectorSource::Key(key) = &vector.source {
            let dims = vector.dims.iter().map(|dim| select(dim, kept)).collect();
            // Decay and taps are no weights of norms.
            let scale = if vector.form == VectorForm::Plain { scales[at] } else { 1.0 };
            cut(key, dims, scale);
        }
    }
    renumber(program, kept, &mut cuts);
    cuts
}

/// Experts that have tensors of their own move up to the numbers of those that go.
fn renumber(program: &Program, kept: &Kept, cuts: &mut Cuts) {
    for node in &program.nodes {
        let Op::Experts(op) = &node.op else { continue };
        let axis = program.matrix(op.router).dims[0].0.first().map(|segment| segment.axis);
        let Some(stay) = axis.and_then(|axis| kept.get(&axis)) else { continue };
        for (at, expert) in op.experts.iter().enumerate() {
            let keys = |m: usize| {
                let expert = op.experts.get(m)?;
                Some([expert.up, expert.down].map(|id| program.matrix(id)))
            };
            for (n, id) in [expert.up, expert.down].into_iter().enumerate() {
                let matrix = program.matrix(id);
                if matches!(matrix.layout, Layout::Part { .. }) {
                    continue;
                }
                let cut = stay.get(at).and_then(|&m| keys(m)).map(|from| Cut {
                    from: from[n].key.clone(),
                    dims: vec![None, None],
                    factor: 1.0,
                });
                cuts.insert(matrix.key.clone(), cut);
            }
        }
    }
}

/// By vector: what weights of norms over fewer numbers are multiplied by. Zeros count in the mean square of a norm; where
/// they are gone its mean is larger, and weights make up for it.
fn norm_scales(program: &Program, kept: &Kept) -> Vec<f32> {
    let mut scales = vec![1.0; program.vectors.len()];
    for node in &program.nodes {
        let weight = match &node.op {
            Op::GatedNorm { norm: Some(norm), .. } => norm.weight,
            Op::Norm { norm, .. } if norm.kind == NormKind::Rms => norm.weight,
            _ => None,
        };
        let Some(VectorId(at)) = weight else { continue };
        let Some(dim) = program.vectors[at].dims.first() else { continue };
        if let Some(stays) = select(dim, kept).filter(|stays| !stays.is_empty()) {
            scales[at] = (dim.len() as f32 / stays.len() as f32).sqrt();
        }
    }
    scales
}

/// Numbers of a tensor `shape`, cut.
pub(super) fn apply(values: &[f32], shape: &[usize], cut: &Cut) -> Vec<f32> {
    let mut strides = vec![1; shape.len()];
    for at in (1..shape.len()).rev() {
        strides[at - 1] = strides[at] * shape[at];
    }
    let stays = |at: usize| match cut.dims.get(at).and_then(Option::as_ref) {
        Some(stays) => stays.clone(),
        None => (0..shape[at]).collect(),
    };
    // Where rows of the last dimension begin; that one is gone through as it comes.
    let mut rows = vec![0usize];
    let outer = shape.len().saturating_sub(1);
    for (at, &stride) in strides.iter().enumerate().take(outer) {
        let (stays, above) = (stays(at), std::mem::take(&mut rows));
        for row in above {
            for index in &stays {
                rows.push(row + index * stride);
            }
        }
    }
    let last = if shape.is_empty() { vec![0] } else { stays(outer) };
    let mut numbers = Vec::with_capacity(rows.len() * last.len());
    for row in rows {
        for index in &last {
            numbers.push(values[row + index] * cut.factor);
        }
    }
    numbers
}

/// The shape of what is cut.
fn cut_shape(shape: &[usize], cut: &Cut) -> Vec<usize> {
    let stays = |at: usize| cut.dims.get(at).and_then(Option::as_ref).map(Vec::len);
    shape.iter().enumerate().map(|(at, &size)| stays(at).unwrap_or(size)).collect()
}

/// A checkpoint without what was cut.
pub(super) struct Smaller {
    pub index: Index,
    pub spec: ModelSpec,
    regions: Vec<Region>,
    begin: u64,
}

/// Bytes of a tensor that are made when they are asked for.
struct Region {
    begin: u64,
    len: u64,
    from: Entry,
    cut: Cut,
    dtype: DType,
    /// Its numbers, where they were fitted.
    values: Option<Rc<Vec<f32>>>,
}

/// Numbers stay in their own type where that is a float of 16 bits, fitted ones too; what is scaled or decoded is float32.
fn dtype(entry: &Entry, cut: &Cut) -> DType {
    match &entry.stored {
        Stored::Strided(Strided { dtype: dtype @ (DType::F16 | DType::Bf16), .. }) if cut.factor == 1.0 => {
            *dtype
        }
        _ => DType::F32,
    }
}

impl Smaller {
    /// What the cuts leave, understood anew, as if it were opened. `len` are the bytes of the source.
    pub fn new(
        index: &Index,
        spec: &ModelSpec,
        len: u64,
        cuts: &Cuts,
        values: &mut Fitted,
    ) -> Result<Self, EngineError> {
        let mut by_position: Vec<Option<&(String, Option<Cut>)>> = vec![None; index.tensors.len()];
        let mut changed: Vec<&str> = Vec::new();
        for cut in &cuts.0 {
            if let Some(&position) = spec.names.positions().get(&cut.0) {
                by_position[position] = Some(cut);
                changed.push(&index.tensors[position].name);
            }
        }
        let mut regions = Vec::new();
        let mut tensors = Vec::with_capacity(index.tensors.len());
        let mut end = len;
        for (position, entry) in index.tensors.iter().enumerate() {
            let Some((key, cut)) = by_position[position] else {
                let mut entry = entry.clone();
                entry.tied_to = entry.tied_to.filter(|to| !changed.contains(&to.as_str()));
                tensors.push(entry);
                continue;
            };
            let Some(cut) = cut else { continue };
            let from = spec.names.get(index, &cut.from).unwrap_or(entry).clone();
            let shape = cut_shape(&from.shape, cut);
            let dtype = dtype(&from, cut);
            let count: usize = shape.iter().product();
            let storage = Extent { offset: end, len: (count * dtype.bytes()) as u64 };
            let mut strides = vec![1; shape.len()];
            for at in (1..shape.len()).rev() {
                strides[at - 1] = strides[at] * shape[at] as u64;
            }
            let stored = Stored::Strided(Strided { dtype, storage, first: 0, strides, negated: false });
            tensors.push(Entry { name: entry.name.clone(), shape, stored, tied_to: None });
            let values = values.remove(key);
            regions.push(Region { begin: end, len: storage.len, from, cut: cut.clone(), dtype, values });
            end += storage.len;
        }
        let index = Index { tensors, config: Some(config(spec)), ..index.clone() };
        let spec = infer(&index, &Hints::default())?;
        Ok(Self { index, spec, regions, begin: len })
    }

    /// Sets a field that the shapes do not tell.
    pub fn with_config(mut self, fields: Map<String, Value>) -> Result<Self, EngineError> {
        self.index.config.get_or_insert_default().extend(fields);
        self.spec = infer(&self.index, &Hints::default())?;
        Ok(self)
    }

    /// The bytes, of which those that are not cut are the larger one's.
    pub fn source(&mut self, of: Rc<dyn Source>) -> Rc<dyn Source> {
        let regions = std::mem::take(&mut self.regions);
        Rc::new(View { of, begin: self.begin, regions, last: RefCell::new(None) })
    }
}

/// What was known of the model and no shape tells.
fn config(spec: &ModelSpec) -> Map<String, Value> {
    let known = spec.fields.iter().filter(|(_, field)| field.origin != Origin::Counted);
    let mut config: Map<String, Value> =
        known.clone().map(|(name, field)| (name.clone(), field.value.clone())).collect();
    let assumed: Vec<Value> = known
        .filter(|(_, field)| field.origin == Origin::Assumed)
        .map(|(name, _)| name.as_str().into())
        .collect();
    if !assumed.is_empty() {
        config.insert(ASSUMED.into(), assumed.into());
    }
    config
}

/// A source whose last bytes are made as they are read.
struct View {
    of: Rc<dyn Source>,
    begin: u64,
    regions: Vec<Region>,
    /// The region that was made last, and its bytes.
    last: RefCell<Option<(usize, Vec<u8>)>>,
}

impl View {
    fn bytes(&self, region: &Region) -> Result<Vec<u8>, SourceError> {
        let failed = |error: &dyn std::fmt::Display| SourceError::Platform(error.to_string());
        let values = match &region.values {
            Some(values) => values.to_vec(),
            None => {
                let tensor =
                    statepress_formats::read_tensor(&*self.of, &region.from).map_err(|e| failed(&e))?;
                apply(&codecs::decode(&tensor), &region.from.shape, &region.cut)
            }
        };
        let mut bytes = Vec::with_capacity(region.len as usize);
        let encoding = match region.dtype {
            DType::F16 => Encoding::Fp16,
            DType::Bf16 => Encoding::Bf16,
            _ => {
                values.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
                return Ok(bytes);
            }
        };
        let shape = [values.len()];
        let coded = codecs::encode(&values, &shape, encoding, Clip::Absmax).map_err(|e| failed(&e))?;
        if let Packed::F16(values) | Packed::Bf16(values) = coded.tensor.data {
            values.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
        }
        Ok(bytes)
    }
}

impl Source for View {
    fn len(&self) -> u64 {
        self.regions.last().map_or(self.begin, |region| region.begin + region.len)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError> {
        if offset < self.begin {
            return self.of.read_at(offset, buffer);
        }
        check_range(offset, buffer.len(), self.len())?;
        let at = self.regions.partition_point(|region| region.begin <= offset).saturating_sub(1);
        let Some(region) = self.regions.get(at) else { return Ok(()) };
        check_range(offset - region.begin, buffer.len(), region.len)?;
        let mut last = self.last.borrow_mut();
        if last.as_ref().is_none_or(|(made, _)| *made != at) {
            *last = Some((at, self.bytes(region)?));
        }
        if let Some((_, bytes)) = &*last {
            let first = (offset - region.begin) as usize;
            buffer.copy_from_slice(&bytes[first..first + buffer.len()]);
        }
        Ok(())
    }
}
