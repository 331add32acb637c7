//! Training through rounding: passes compute with what a file can hold, and the numbers behind it are moved.
//!
//! Rounding has no slope, so its gradient is taken to be that of what it gives (the straight-through estimator: Bengio, Léonard
//! and Courville 2013, section 4; fake quantization: Jacob et al. 2018). Scales stay as they are stored, and numbers
//! stay within what codes reach with them: farther out no code would change, and they would have to find their way back.
//!
//! Rounding is the codec's own, so what a pass computes with is what the file will decode to, bit for bit, whatever the
//! encoding.

use statepress_core::index::Stored;
use statepress_core::words::{counted, plural};
use statepress_core::{Encoding, Entry, Finding, Index, Tensor as Packed};
use statepress_engine::EngineError;
use statepress_engine::families::{HEAD, ModelSpec};
use statepress_engine::techniques::Checkpoint;
use statepress_kernels::codecs::{self, Clip};

use crate::model::{Parameter, read_back, tensor};
use crate::{Trainable, Trains};

/// The learning rate at one bit a weight, and the most there is. A step of a grid is about as large as bits are few, and
/// numbers begin beside what codes were rounded from: measured on Itera-Lite at 1.8 bits (1.5e-4) and 1.3 (2e-4), where three
/// times as much heals less, and makes entropy-coded files 6 to 14 % larger.
const RATE: (f64, f64) = (6e-4, 2e-4);

/// How often the way from a code to what it stands for is halved until it ends within what the code stands for, and the share of
/// it that is then gone.
const HALVINGS: usize = 8;
const WITHIN: f32 = 0.9;

impl Parameter {
    /// Numbers as its file can hold them.
    pub(crate) fn stored(&self, values: &[f32]) -> Result<Packed, EngineError> {
        let coded = match &self.codes {
            Some(codes) => codecs::encode_like(values, codes),
            None => codecs::encode(values, &self.shape, self.encoding, Clip::Absmax).map(|it| it.tensor),
        };
        coded.map_err(|error| EngineError::Codec { tensor: self.key.clone(), error })
    }
}

impl Trainable {
    /// Rounds anew what is trained so, as its numbers have moved: passes compute with what its file can hold.
    ///
    /// # Errors
    /// For numbers that codes are to stand for and that are not finite.
    pub async fn round(&mut self, trains: Trains) -> Result<(), EngineError> {
        let device = self.device;
        let rounded =
            |it: &&mut Parameter| trains.rounds() && trains.has(it) && it.encoding != Encoding::Fp32;
        for parameter in self.parameters.iter_mut().filter(rounded) {
            let mut values = read_back(device, parameter.values.clone()).await?;
            if let Some(codes) = &parameter.codes {
                codecs::clamp_like(&mut values, codes);
            }
            let stored = parameter.stored(&values)?;
            parameter.rounded = Some(tensor(device, codecs::decode(&stored), &parameter.shape));
            parameter.values = tensor(device, values, &parameter.shape);
        }
        Ok(())
    }

    /// Has numbers behind codes begin where they were before they were rounded, as near as the same codes allow: those that were
    /// nearly another code are soon there. What all rows differ by is left out, as of a centered table it is elsewhere. Tensors
    /// that have another shape in what is `uncoded`, as of the checkpoint before it was pruned, begin at their codes.
    ///
    /// # Errors
    /// For tensors of what is `uncoded` that cannot be read, or are not finite.
    pub fn begin_beside(&mut self, uncoded: &Checkpoint) -> Result<(), EngineError> {
        let device = self.device;
        for parameter in &mut self.parameters {
            let Some(codes) = &parameter.codes else { continue };
            let entry = uncoded.spec.names.get(&uncoded.index, &parameter.key);
            let Some(entry) = entry.filter(|it| it.shape == parameter.shape) else { continue };
            let was = codecs::decode(&statepress_formats::read_tensor(&*uncoded.source, entry)?);
            let now = codecs::decode(codes);
            let rows = parameter.shape.first().copied().unwrap_or(1).max(1);
            let cols = (now.len() / rows).max(1);
            let mut common = vec![0.0; cols];
            for (was, now) in was.chunks_exact(cols).zip(now.chunks_exact(cols)) {
                common.iter_mut().zip(was).zip(now).for_each(|((sum, was), now)| *sum += was - now);
            }
            let common = common.iter().map(|sum| sum / rows as f32).cycle();
            let mut begun: Vec<f32> = was.iter().zip(common).map(|(was, common)| was - common).collect();
            for _ in 0..HALVINGS {
                let rounded = codecs::decode(&parameter.stored(&begun)?);
                for ((begun, rounded), now) in begun.iter_mut().zip(rounded).zip(&now) {
                    if rounded != *now {
                        *begun = now + (*begun - now) / 2.0;
                    }
                }
            }
            let rounded = codecs::decode(&parameter.stored(&begun)?);
            for ((begun, rounded), now) in begun.iter_mut().zip(rounded).zip(&now) {
                *begun = if rounded == *now { now + WITHIN * (*begun - now) } else { *now };
            }
            parameter.values = tensor(device, begun, &parameter.shape);
        }
        Ok(())
    }

    /// How large a share of the codes is not what it was when the model was loaded; `None` where there is none.
    pub(crate) async fn codes_changed(&self) -> Result<Option<f64>, EngineError> {
        let (mut changed, mut all) = (0, 0);
        for parameter in &self.parameters {
            let Some(codes) = &parameter.codes else { continue };
            let (before, now) = (codecs::decode(codes), read_back(self.device, parameter.computed()).await?);
            changed += before.iter().zip(&now).filter(|(before, now)| before != now).count();
            all += before.len();
        }
        Ok((all > 0).then(|| changed as f64 / all as f64))
    }
}

/// Says what rounded training leaves as it is: tensors that the model does not run from, and numbers whose scale is zero.
pub(crate) fn untrained(model: &Trainable, index: &Index, spec: &ModelSpec) -> Vec<Finding> {
    let trained: Vec<&str> = model
        .parameters
        .iter()
        .filter_map(|it| Some(spec.names.get(index, &it.key)?.name.as_str()))
        .collect();
    let is_trained = |name: &str| trained.contains(&name);
    let head = spec.names.get(index, HEAD).map(|head| head.name.as_str());
    let tied = model.program.head.matrix == model.program.table;
    let kept = |entry: &&Entry| {
        let copy = entry.tied_to.as_deref().is_some_and(is_trained) || (tied && head == Some(&entry.name));
        entry.params() > 0 && !is_trained(&entry.name) && !copy
    };
    let kept: Vec<&Entry> = index.tensors.iter().filter(kept).collect();
    let mut findings = Vec::new();
    if let Some(first) = kept.first() {
        let names: Vec<&str> = kept.iter().take(3).map(|it| it.name.as_str()).collect();
        let message = format!(
            "{} kept as {}, as no prediction depends on {}: {}{}",
            counted(kept.len(), "tensor is", "tensors are"),
            plural(&kept.len(), "it is", "they are"),
            plural(&kept.len(), "it", "them"),
            names.join(", "),
            if kept.len() > names.len() { ", ..." } else { "" }
        );
        findings.push(Finding::info("not-trained", message).about(&first.name));
    }
    for parameter in &model.parameters {
        let Some(codes) = &parameter.codes else { continue };
        let still = codecs::still(codes);
        if still > 0 {
            let message = format!(
                "{} {}, as the scale is 0 and all codes stand for the same",
                counted(still, "number of it", "numbers of it"),
                plural(&still, "stays what it is", "stay what they are")
            );
            let name = spec.names.get(index, &parameter.key).map_or(&parameter.key, |entry| &entry.name);
            findings.push(Finding::info("not-trained", message).about(name));
        }
    }
    findings
}

/// The learning rate for weights that are rounded, by the bits that a weight takes where there are codes.
pub fn rounded_rate(index: &Index) -> f64 {
    let coded =
        || index.tensors.iter().filter(|it| !it.is_plain() && !matches!(it.stored, Stored::Opaque { .. }));
    let (bytes, params): (u64, u64) =
        coded().fold((0, 0), |(bytes, params), it| (bytes + it.bytes(), params + it.params()));
    let (at_one_bit, most) = RATE;
    if params == 0 {
        return most;
    }
    let bits = 8.0 * bytes as f64 / params as f64;
    (at_one_bit / (bits * bits)).min(most)
}
