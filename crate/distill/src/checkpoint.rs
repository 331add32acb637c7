//! A trained model as a checkpoint: the one that it was loaded from, with other numbers where it was trained.

use std::rc::Rc;

use statepress_core::index::{Extent, Stored, Strided};
use statepress_core::{DType, Encoding, Index, Joined, Packed, Source};
use statepress_engine::EngineError;
use statepress_engine::families::{HEAD, ModelSpec};
use statepress_kernels::codecs::{self, Clip};

use crate::model::Parameter;
use crate::{Trainable, Trains};

/// The checkpoint that a model was loaded from, with the numbers of the weights that were trained: floats of 16 bits where
/// they were, else float32. Everything else is what it was, bit for bit. It is read like any file, and written by a recipe.
///
/// # Errors
/// For numbers that cannot be read back or have no 16-bit float, and for a checkpoint that is not the model's.
pub async fn trained_checkpoint(
    model: &Trainable,
    trains: Trains,
    (source, index, spec): (Rc<dyn Source>, &Index, &ModelSpec),
) -> Result<(Rc<dyn Source>, Index), EngineError> {
    let (mut index, mut bytes) = (index.clone(), Vec::new());
    let begin = source.len();
    for parameter in model.parameters.iter().filter(|it| trains.has(it)) {
        let Parameter { key, shape, encoding, .. } = parameter;
        let missing = || EngineError::Keys { missing: vec![key.clone()], unexpected: Vec::new() };
        let entry = spec.names.get(&index, key).filter(|entry| entry.shape == *shape).ok_or_else(missing)?;
        let name = entry.name.clone();
        let offset = begin + bytes.len() as u64;
        let dtype = write(&name, model.values(key).await?, *encoding, &mut bytes)?;
        let storage = Extent { offset, len: begin + bytes.len() as u64 - offset };
        let mut strides = vec![1; shape.len()];
        for at in (1..shape.len()).rev() {
            strides[at - 1] = strides[at] * shape[at] as u64;
        }
        let stored = Stored::Strided(Strided { dtype, storage, first: 0, strides, negated: false });
        // A head that is the table stays the table.
        let tied = model.program.head.matrix == model.program.table;
        let is_table = *key == model.program.matrix(model.program.table).key;
        let copy =
            (tied && is_table).then(|| spec.names.get(&index, HEAD).map(|head| head.name.clone())).flatten();
        for entry in &mut index.tensors {
            let same = entry.name == name || entry.tied_to.as_ref() == Some(&name);
            if same || copy.as_ref() == Some(&entry.name) {
                entry.stored = stored.clone();
            }
        }
    }
    let parts = [("checkpoint", Box::new(source) as Box<dyn Source>), ("trained", Box::new(bytes))];
    let parts = parts.map(|(name, source)| (name.to_string(), source));
    Ok((Rc::new(Joined::new(parts)), index))
}

/// Appends numbers; gives their type.
fn write(
    name: &str,
    values: Vec<f32>,
    encoding: Encoding,
    bytes: &mut Vec<u8>,
) -> Result<DType, EngineError> {
    let dtype = match encoding {
        Encoding::Fp16 => DType::F16,
        Encoding::Bf16 => DType::Bf16,
        Encoding::Fp32 | Encoding::Codes(_) | Encoding::Rows(_) => {
            values.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
            return Ok(DType::F32);
        }
    };
    let coded = codecs::encode(&values, &[values.len()], encoding, Clip::Absmax);
    let coded = coded.map_err(|error| EngineError::Codec { tensor: name.into(), error })?;
    if let Packed::F16(values) | Packed::Bf16(values) = coded.tensor.data {
        values.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
    }
    Ok(dtype)
}
