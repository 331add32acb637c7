//! A trained model as a checkpoint: the one that it was loaded from, with other numbers where it was trained.

use std::collections::BTreeMap;
use std::rc::Rc;

use statepress_core::{Form, Index, Joined, Source, Tensor};
use statepress_engine::EngineError;
use statepress_engine::families::{HEAD, ModelSpec};
use statepress_formats::{TensorSpec, Writer, open};

use crate::model::Parameter;
use crate::{Trainable, Trains};

/// The checkpoint that a model was loaded from, with the numbers of the weights that were trained. Where they are rounded as
/// they are trained, in the encodings that they have there, and entropy-coded where they are so; else as floats, of 16 bits where
/// they were, or float32. Everything else is what it was, bit for bit. It is read like any file, and written by a recipe.
///
/// # Errors
/// For numbers that cannot be read back or coded, and for a checkpoint that is not the model's.
pub async fn trained_checkpoint(
    model: &Trainable,
    trains: Trains,
    (source, index, spec): (Rc<dyn Source>, &Index, &ModelSpec),
) -> Result<(Rc<dyn Source>, Index), EngineError> {
    let mut index = index.clone();
    let (mut names, mut specs, mut tensors) = (Vec::new(), Vec::new(), Vec::new());
    for parameter in model.parameters.iter().filter(|it| trains.has(it)) {
        let Parameter { key, shape, encoding, .. } = parameter;
        let missing = || EngineError::Keys { missing: vec![key.clone()], unexpected: Vec::new() };
        let entry = spec.names.get(&index, key).filter(|entry| entry.shape == *shape).ok_or_else(missing)?;
        let values = model.values(key).await?;
        let tensor = match encoding.is_described() && !trains.rounds() {
            true => Tensor::from_f32(shape.clone(), values),
            false => parameter.stored(&values)?,
        };
        let (form, coded) = (Form::Coded(tensor.encoding()), entry.coded_bytes() > 0);
        // Numbers as names have no prefix that could mean anything.
        let number = names.len().to_string();
        specs.push(TensorSpec { name: number, shape: shape.clone(), form, coded });
        names.push((key, entry.name.clone()));
        tensors.push(tensor);
    }
    let mut writer = Writer::new(Vec::new(), &specs, &BTreeMap::new())?;
    for (spec, tensor) in specs.iter().zip(&tensors) {
        writer.write(&spec.name, tensor)?;
    }
    let (bytes, _) = writer.finish()?;
    let trained = if names.is_empty() { None } else { Some(open(&bytes)?.at(source.len())) };
    let table = &model.program.matrix(model.program.table).key;
    let tied = model.program.head.matrix == model.program.table;
    // A head that is the table stays the table.
    let copy = spec.names.get(&index, HEAD).filter(|_| tied).map(|head| head.name.clone());
    for (spec, (key, name)) in specs.iter().zip(names) {
        let Some(now) = trained.as_ref().and_then(|trained| trained.get(&spec.name)) else { continue };
        for entry in &mut index.tensors {
            let same = entry.name == name || entry.tied_to.as_ref() == Some(&name);
            if same || (key == table && copy.as_ref() == Some(&entry.name)) {
                entry.stored = now.stored.clone();
            }
        }
    }
    let parts = [("checkpoint", Box::new(source) as Box<dyn Source>), ("trained", Box::new(bytes))];
    let parts = parts.map(|(name, source)| (name.to_string(), source));
    Ok((Rc::new(Joined::new(parts)), index))
}
