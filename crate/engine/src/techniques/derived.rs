//! A checkpoint made of another one: what changes is made as it is read, the rest is the other's bytes.
//!
//! Of what changes, one tensor is held at a time, and numbers that were fitted.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Map, Value};
use statepress_core::index::{Extent, Stored, Strided};
use statepress_core::source::{SourceError, check_range};
use statepress_core::spec::{Field, Origin};
use statepress_core::words::counted;
use statepress_core::{DType, Encoding, Entry, Finding, Index, Packed, Source};
use statepress_kernels::codecs::{self, Clip};
use statepress_kernels::program::Program;

use super::change::Change;
use super::pairs::Pairs;
use crate::EngineError;
use crate::families::{ASSUMED, Hints, ModelSpec, PRUNED, infer, storage_of};

/// What becomes of the tensors of a model, by usual key: of those that change. `None`: the tensor is left out.
pub(super) type Changes = Pairs<String, Option<Change>>;

/// Numbers that were fitted, by usual key.
pub(super) type Fitted = Pairs<String, Rc<Vec<f32>>>;

/// A checkpoint made of another one, understood anew, until it is joined with the bytes of that.
pub(super) struct Derived {
    pub index: Index,
    pub spec: ModelSpec,
    regions: Vec<Region>,
    begin: u64,
}

/// The same while it is put together.
pub(super) struct Draft {
    index: Index,
    regions: Vec<Region>,
    begin: u64,
}

/// A checkpoint that is understood: as it was opened, or as it is between two steps of a recipe.
#[derive(Clone)]
pub struct Checkpoint {
    /// Its bytes.
    pub source: Rc<dyn Source>,
    /// Where in them its tensors are.
    pub index: Rc<Index>,
    /// The model that they are.
    pub spec: ModelSpec,
}

/// Bytes of a tensor that are made when they are asked for.
struct Region {
    begin: u64,
    len: u64,
    dtype: DType,
    of: Numbers,
}

/// Where the numbers of a tensor are from.
enum Numbers {
    /// Another tensor, and what becomes of it.
    Changed(Box<(Entry, Change)>),
    /// They are held.
    Held(Rc<Vec<f32>>),
}

/// Numbers stay in their own type where that is a float of 16 bits, fitted ones too, and so do ids; what is computed or decoded is
/// float32.
fn dtype(entry: &Entry, change: &Change) -> DType {
    match &entry.stored {
        Stored::Strided(Strided { dtype: dtype @ (DType::F16 | DType::Bf16 | DType::I32), .. })
            if change.only_cuts() =>
        {
            *dtype
        }
        _ => DType::F32,
    }
}

impl Draft {
    /// What the changes leave. `len` are the bytes of the source.
    pub fn new(index: &Index, spec: &ModelSpec, len: u64, changes: &Changes, values: &mut Fitted) -> Self {
        let mut by_position: Vec<Option<&(String, Option<Change>)>> = vec![None; index.tensors.len()];
        let mut changed: Vec<&str> = Vec::new();
        for change in &changes.0 {
            if let Some(&position) = spec.names.positions().get(&change.0) {
                by_position[position] = Some(change);
                changed.push(&index.tensors[position].name);
            }
        }
        let (mut regions, mut made) = (Vec::new(), Vec::new());
        let mut tensors: Vec<Entry> = Vec::with_capacity(index.tensors.len());
        let mut end = len;
        for (position, entry) in index.tensors.iter().enumerate() {
            let Some((key, change)) = by_position[position] else {
                let mut entry = entry.clone();
                entry.tied_to = entry.tied_to.filter(|to| !changed.contains(&to.as_str()));
                tensors.push(entry);
                continue;
            };
            let Some(change) = change else { continue };
            // What shares a storage shares it still, where both change alike.
            let alike = made.iter().find(|(at, other): &&(usize, &Change)| {
                entry.tied_to.as_ref() == Some(&tensors[*at].name) && change.alike(other)
            });
            if let Some((at, _)) = alike {
                let (name, tied_to) = (entry.name.clone(), entry.tied_to.clone());
                tensors.push(Entry { name, tied_to, ..Entry::clone(&tensors[*at]) });
                continue;
            }
            made.push((tensors.len(), change));
            let from = spec.names.get(index, &change.from).unwrap_or(entry).clone();
            let shape = change.shape(&from.shape);
            let dtype = dtype(&from, change);
            let of = match values.remove(key) {
                Some(values) => Numbers::Held(values),
                None => Numbers::Changed(Box::new((from, change.clone()))),
            };
            let region = Region::new(end, &shape, dtype, of);
            tensors.push(region.entry(&entry.name, shape));
            end += region.len;
            regions.push(region);
        }
        let index = Index { tensors, config: Some(config(spec)), ..index.clone() };
        Self { index, regions, begin: len }
    }

    /// What is left without some layers: the others' tensors as they are stored, under keys in which layers are counted anew.
    pub fn without_layers(index: &Index, spec: &ModelSpec, len: u64, gone: &[usize]) -> Self {
        let number = |layer: usize| {
            let before = gone.iter().filter(|&&other| other < layer).count();
            (!gone.contains(&layer)).then_some(layer - before)
        };
        let mut tensors: Vec<Entry> = Vec::with_capacity(index.tensors.len());
        // What is left of a storage's keys, by what named it first.
        let mut first: BTreeMap<&str, String> = BTreeMap::new();
        for (position, entry) in index.tensors.iter().enumerate() {
            let mut name = entry.name.clone();
            if let Some((layer, place)) = spec.names.layer(index, position) {
                let Some(number) = number(layer) else { continue };
                name.replace_range(place, &number.to_string());
            }
            let tied_to = first.get(storage_of(entry)).cloned();
            first.entry(storage_of(entry)).or_insert_with(|| name.clone());
            tensors.push(Entry { name, tied_to, ..entry.clone() });
        }
        let mut config = config(spec);
        if let Some(Value::Array(kinds)) = config.get_mut(KINDS) {
            let mut layers = 0..;
            kinds.retain(|_| layers.next().and_then(number).is_some());
        }
        if let Some(Value::Array(layers)) = config.get_mut(ATTENDING) {
            let left = layers.iter().filter_map(|layer| number(layer.as_u64()? as usize));
            *layers = left.map(Value::from).collect();
        }
        if let Some(Value::Object(shapes)) = config.get_mut(PRUNED) {
            let named = std::mem::take(shapes).into_iter();
            shapes
                .extend(named.filter_map(|(key, shape)| Some((spec.names.renumbered(&key, number)?, shape))));
        }
        let index = Index { tensors, config: Some(config), ..index.clone() };
        Self { index, regions: Vec::new(), begin: len }
    }

    /// What is left without some tensors, which are no error where it is read, as it says of them what they were.
    pub fn without_tensors(index: &Index, spec: &ModelSpec, len: u64, keys: &[String]) -> Self {
        let shape = |key: &String| Some((key.clone(), spec.names.get(index, key)?.shape.as_slice().into()));
        let mut shapes: Map<String, Value> = keys.iter().filter_map(shape).collect();
        if let Some(Value::Object(earlier)) = spec.fields.get(PRUNED).map(|field| &field.value) {
            shapes.extend(earlier.clone());
        }
        let gone = Pairs(keys.iter().map(|key| (key.clone(), None)).collect());
        let draft = Self::new(index, spec, len, &gone, &mut Fitted::default());
        draft.with_config(Map::from_iter([(PRUNED.to_string(), shapes.into())]))
    }

    /// Adds a tensor to it, in float32.
    pub fn with_tensor(self, name: &str, shape: Vec<usize>, values: Rc<Vec<f32>>) -> Self {
        self.with(name, shape, DType::F32, values)
    }

    /// Adds ids to it, which are whole numbers that float32 holds exactly.
    pub fn with_ids(self, name: &str, ids: Rc<Vec<f32>>) -> Self {
        self.with(name, vec![ids.len()], DType::I32, ids)
    }

    fn with(mut self, name: &str, shape: Vec<usize>, dtype: DType, values: Rc<Vec<f32>>) -> Self {
        let end = self.regions.last().map_or(self.begin, |region| region.begin + region.len);
        let region = Region::new(end, &shape, dtype, Numbers::Held(values));
        self.index.tensors.push(region.entry(name, shape));
        self.regions.push(region);
        self
    }

    /// Says that a field is none that anybody said.
    pub fn assuming(mut self, name: &str) -> Self {
        let config = self.index.config.get_or_insert_default();
        let assumed = config.entry(ASSUMED).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(names) = assumed {
            names.push(name.into());
        }
        self
    }

    /// Sets a field that the shapes do not tell.
    pub fn with_config(mut self, fields: Map<String, Value>) -> Self {
        self.index.config.get_or_insert_default().extend(fields);
        self
    }

    /// Understands it anew, as if it were opened.
    pub fn understood(self) -> Result<Derived, EngineError> {
        let Self { index, regions, begin } = self;
        let spec = infer(&index, &Hints::default())?;
        Ok(Derived { index, spec, regions, begin })
    }
}

impl Derived {
    /// The checkpoint, whose other bytes are those of `of`.
    pub fn over(self, of: Rc<dyn Source>) -> Checkpoint {
        let Self { index, spec, regions, begin } = self;
        let source = Rc::new(View { of, begin, regions, last: RefCell::new(None) });
        Checkpoint { source, index: Rc::new(index), spec }
    }
}

impl Region {
    /// The bytes from `begin` on of a tensor `shape`.
    fn new(begin: u64, shape: &[usize], dtype: DType, of: Numbers) -> Self {
        let count: usize = shape.iter().product();
        Self { begin, len: (count * dtype.bytes()) as u64, dtype, of }
    }

    /// What an index says of it.
    fn entry(&self, name: &str, shape: Vec<usize>) -> Entry {
        let mut strides = vec![1; shape.len()];
        for at in (1..shape.len()).rev() {
            strides[at - 1] = strides[at] * shape[at] as u64;
        }
        let storage = Extent { offset: self.begin, len: self.len };
        let stored =
            Stored::Strided(Strided { dtype: self.dtype, storage, first: 0, strides, negated: false });
        Entry { name: name.into(), shape, stored, tied_to: None }
    }
}

/// Says that codes were decoded to be changed.
pub(super) fn decoded(index: &Index, spec: &ModelSpec, changes: &Changes) -> Option<Finding> {
    let entries = changes.0.iter().filter_map(|(key, _)| spec.names.get(index, key));
    let mut coded = entries.filter(|entry| !entry.is_plain());
    let first = coded.next()?;
    let count = counted(1 + coded.count(), "quantized tensor was", "quantized tensors were");
    let message = format!(
        "{count} decoded to be changed: what no quantize step codes again is stored as fp32; start from the original weights \
         for a better result"
    );
    Some(Finding::warning("dequantized", message).about(&first.name))
}

/// The program of a model, without which nobody knows what goes together.
pub(super) fn program(spec: &ModelSpec) -> Result<Rc<Program>, EngineError> {
    spec.program.clone().ok_or_else(|| {
        let why = spec.refusal.as_deref().unwrap_or("the model is not known");
        let reason = format!(
            "what cannot be run cannot be pruned, centered or given a basis, as nobody knows what goes together: {why}"
        );
        EngineError::UnknownModel { reason }
    })
}

/// What the file calls the tensor of a usual key.
pub(super) fn real(spec: &ModelSpec, index: &Index, key: &str) -> String {
    spec.names.get(index, key).map_or_else(|| key.into(), |entry| entry.name.clone())
}

/// The field that says of what kind each layer is.
const KINDS: &str = "layer_types";

/// The field that says which layers attend.
const ATTENDING: &str = "attn_layer_indices";

/// What was known of the model and no shape tells; and what is counted, but said only where a configuration says it.
fn config(spec: &ModelSpec) -> Map<String, Value> {
    let is_known =
        |name: &str, field: &Field| field.origin != Origin::Counted || [KINDS, ATTENDING].contains(&name);
    let known = spec.fields.iter().filter(|(name, field)| is_known(name, field));
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
        let values = match &region.of {
            Numbers::Held(values) => values.to_vec(),
            Numbers::Changed(made) => {
                let (from, change) = &**made;
                let tensor = statepress_formats::read_tensor(&*self.of, from).map_err(|e| failed(&e))?;
                change.apply(&codecs::decode(&tensor), &from.shape)
            }
        };
        let mut bytes = Vec::with_capacity(region.len as usize);
        let encoding = match region.dtype {
            DType::F16 => Encoding::Fp16,
            DType::Bf16 => Encoding::Bf16,
            DType::I32 => {
                values.iter().for_each(|value| bytes.extend_from_slice(&(*value as i32).to_le_bytes()));
                return Ok(bytes);
            }
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
