//! Fewer layers: whole ones go, one after the other, each time the one without which predictions change least.
//!
//! A layer takes the residual stream in and leaves one, so that a model runs without it as well. What is left are the tensors of the
//! others as they were stored: no code is decoded, and nothing makes up for what went. How far predictions are from the
//! original's is measured anew after each removal, as layers stand in for each other: after SLEB (Song et al. 2024).
//!
//! ```text
//! gone = {}
//! while too many are left:
//!     for each layer l that is left: kl[l] = divergence of the model without gone and l from the original
//!     gone += the l of the least kl
//! ```

use std::mem;
use std::rc::Rc;

use statepress_core::job::{Job, Progress};
use statepress_core::recipe::Prune;
use statepress_core::report::{Pruned, PrunedPlace};
use statepress_core::words::counted;
use statepress_core::{Finding, Index};
use statepress_kernels::program::{Node, Op, Program};

use super::left::{idle, report, running};
use super::{PrunedCheckpoint, Renamed, WINDOW, no_text};
use crate::EngineError;
use crate::calibrate::{Marks, Sample, windows};
use crate::eval::{Divergence, STREAMS};
use crate::families::ModelSpec;
use crate::models::Model;
use crate::techniques::derived::{Checkpoint, Derived, Draft, program};
use crate::techniques::loading::Loading;

/// The most windows of the calibration text that divergences are measured on.
const WINDOWS: usize = 4;

/// A step that takes layers out, under way. What it does next is to measure a model without one more of them.
pub(crate) struct Shortening {
    of: Checkpoint,
    step: Prune,
    ids: Rc<Vec<u32>>,
    windows: Vec<Vec<u32>>,
    loading: Loading,
    judge: Option<Divergence>,
    /// How many layers there are, and how many are to go.
    layers: usize,
    goes: usize,
    /// Those that went, in this order.
    gone: Vec<usize>,
    /// The next layer to be tried, and what was measured of those before it.
    next: usize,
    tried: Vec<(usize, f64)>,
    /// The divergence without those that went.
    kl: f64,
    /// How many were tried in all.
    done: usize,
}

impl Shortening {
    /// Prepares a step, which needs `ids`; without a model for it, the checkpoint is loaded first.
    pub fn new(
        of: Checkpoint,
        step: &Prune,
        ids: Option<&Rc<Vec<u32>>>,
        model: Option<Model>,
    ) -> Result<Self, EngineError> {
        let program = program(&of.spec)?;
        let (layers, goes) = removable(&program, step)?;
        let ids = ids.ok_or_else(no_text)?.clone();
        let loading = Loading::new(&of, model)?;
        Ok(Self {
            of,
            step: step.clone(),
            ids,
            windows: Vec::new(),
            loading,
            judge: None,
            layers,
            goes,
            gone: Vec::new(),
            next: 0,
            tried: Vec::new(),
            kl: 0.0,
            done: 0,
        })
    }

    /// Measures the model without the next layer, if that is still there and can go.
    async fn measure(&mut self, model: &Model, judge: &Divergence) -> Result<(), EngineError> {
        let Checkpoint { index, spec, .. } = &self.of;
        if self.gone.contains(&self.next) {
            return Ok(());
        }
        self.done += 1;
        let without: Vec<usize> = self.gone.iter().copied().chain([self.next]).collect();
        if shortened(index, spec, &self.step, 0, &without).is_ok() {
            let kl = judge.of(&model.without(&without)).await?;
            self.tried.push((self.next, kl));
        }
        Ok(())
    }

    /// Lets the layer go without which the least is lost; of equals the first.
    async fn remove(&mut self, model: &Model, judge: &mut Divergence) -> Result<(), EngineError> {
        let tried = mem::take(&mut self.tried);
        let best = tried.into_iter().min_by(|(_, a), (_, b)| a.total_cmp(b));
        let (layer, kl) = best.ok_or_else(|| too_few(&self.step, self.layers - self.gone.len()))?;
        self.gone.push(layer);
        (self.kl, self.next) = (kl, 0);
        if self.gone.len() < self.goes {
            judge.go_on_from(model.without(&self.gone)).await?;
        }
        Ok(())
    }

    fn progress(&self) -> Progress {
        // A layer fewer is left to be tried after each that went.
        let total = self.goes * self.layers - self.goes * (self.goes - 1) / 2;
        Progress {
            stage: "prune".into(),
            done: self.done as f64,
            total: total as f64,
            unit: "trials".into(),
            item: self.next.checked_sub(1).map(|layer| format!("layer {layer}")),
        }
    }

    /// Says which went, and what that costs.
    fn summary(&self) -> Finding {
        let order: Vec<String> = self.gone.iter().map(usize::to_string).collect();
        let message = format!(
            "{} of {} layers went, in this order: {}. Predictions are {:.4} nats a token from those before, on {} of {WINDOW} tokens of the \
             calibration text. An approximation, for which nothing makes up; train it with the original as the teacher",
            self.goes,
            self.layers,
            order.join(", "),
            self.kl,
            counted(self.windows.len() as u64, "window", "windows"),
        );
        Finding::info("shortened", message)
    }
}

/// How many layers a model has, and how many of them a step takes out.
///
/// # Errors
/// Where anything but the residual stream goes from one layer to the next.
fn removable(program: &Program, step: &Prune) -> Result<(usize, usize), EngineError> {
    let layers = program.n_layers();
    if !stand_alone(program) {
        let allowed =
            "what the model can lose: from layer to layer goes more than the residual stream".to_string();
        return Err(EngineError::option("prune.kind", step.kind.name(), allowed));
    }
    Ok((layers, layers - step.kept(layers)))
}

/// Whether nothing but the residual stream goes from one layer to the next.
pub(super) fn stand_alone(program: &Program) -> bool {
    (1..=program.n_layers()).all(|layer| program.begin(layer).is_some())
}

/// What is left without some layers.
///
/// # Errors
/// Where that is no model that computes what the others have computed: a hybrid without its last layer of a kind is another
/// family's, and what a layer computes may follow from its number.
fn shortened(
    index: &Index,
    spec: &ModelSpec,
    step: &Prune,
    len: u64,
    gone: &[usize],
) -> Result<Derived, EngineError> {
    let left = running(Draft::without_layers(index, spec, len, gone).understood()?, step)?;
    let is_left = |node: &&Node| node.layer.is_none_or(|layer| !gone.contains(&layer));
    let scale = |node: &Node| if let Op::Attention(op) = &node.op { Some(op.scale) } else { None };
    let does = |node: &Node| (mem::discriminant(&node.op), scale(node));
    let (before, after) = (program(spec)?, program(&left.spec)?);
    let is_same = before.nodes.iter().filter(is_left).map(does).eq(after.nodes.iter().map(does));
    if is_same && left.spec.family == spec.family {
        return Ok(left);
    }
    let allowed = "what leaves the other layers as they are, some of which would compute something else";
    Err(EngineError::option("prune.kind", step.kind.name(), allowed.to_string()))
}

/// So many layers have to stay.
fn too_few(step: &Prune, left: usize) -> EngineError {
    let allowed = format!(
        "at least {left} layers: without any of those that are then left, the others would compute something else"
    );
    EngineError::option("prune.keep", step.keep, allowed)
}

/// What a step leaves, by arithmetic alone: the last layers go that can.
pub(super) fn planned(
    index: &Index,
    spec: &ModelSpec,
    program: &Program,
    step: &Prune,
) -> Result<(Index, ModelSpec, Pruned), EngineError> {
    let (layers, goes) = removable(program, step)?;
    let without = |gone: &[usize]| shortened(index, spec, step, 0, gone);
    let mut gone: Vec<usize> = (layers - goes..layers).collect();
    if without(&gone).is_err() {
        gone.clear();
        for layer in (0..layers).rev() {
            gone.push(layer);
            if gone.len() > goes || without(&gone).is_err() {
                gone.pop();
            }
        }
    }
    if gone.len() < goes {
        return Err(too_few(step, layers - gone.len()));
    }
    let left = without(&gone)?;
    let mut report = report(step, index, &left.index, place(index, spec, (layers, &gone), None));
    report.places.iter_mut().for_each(|place| place.removed.clear());
    Ok((left.index, left.spec, report))
}

/// Says that a plan does not know sizes, where layers are not alike.
pub(super) fn estimated(index: &Index, spec: &ModelSpec) -> Option<Finding> {
    let mut bytes: Vec<u64> = Vec::new();
    for (position, entry) in index.tensors.iter().enumerate() {
        if let Some((layer, _)) = spec.names.layer(index, position) {
            bytes.resize(bytes.len().max(layer + 1), 0);
            bytes[layer] += entry.bytes();
        }
    }
    let message = "sizes are an estimate: layers are not equally large, and which of them go is measured; planned are the last";
    (bytes.iter().min() != bytes.iter().max()).then(|| Finding::info("estimated", message))
}

/// What a report says of the layers that went; nothing, where none did.
fn place(
    index: &Index,
    spec: &ModelSpec,
    (layers, gone): (usize, &[usize]),
    error: Option<f64>,
) -> Vec<PrunedPlace> {
    let of_gone =
        |position| spec.names.layer(index, position).is_some_and(|(layer, _)| gone.contains(&layer));
    let tensors = (0..index.tensors.len()).filter(|&position| of_gone(position));
    let tensors = tensors.map(|position| index.tensors[position].name.clone()).collect();
    let mut removed = gone.to_vec();
    removed.sort_unstable();
    let (before, after) = (layers, layers - gone.len());
    let place = PrunedPlace { layer: None, tensors, before, after, removed, error };
    Some(place).filter(|_| !gone.is_empty()).into_iter().collect()
}

/// What tensors are called now; both checkpoints have them in the same order.
fn renamed(of: &Checkpoint, left: &Checkpoint, gone: &[usize]) -> Renamed {
    let mut now = left.index.tensors.iter().zip(left.spec.names.usual());
    let mut renamed = Renamed::new();
    for (position, (entry, usual)) in of.index.tensors.iter().zip(of.spec.names.usual()).enumerate() {
        let layer = of.spec.names.layer(&of.index, position).map(|(layer, _)| layer);
        let now = if layer.is_some_and(|layer| gone.contains(&layer)) { None } else { now.next() };
        if layer.is_some() {
            renamed.insert(usual.into(), now.map(|(_, usual)| usual.into()));
            renamed.insert(entry.name.clone(), now.map(|(entry, _)| entry.name.clone()));
        }
    }
    renamed
}

impl Job for Shortening {
    type Output = PrunedCheckpoint;
    type Error = EngineError;

    async fn step(&mut self) -> Result<Option<Progress>, EngineError> {
        if self.gone.len() == self.goes {
            return Ok(None);
        }
        if let Some(progress) = self.loading.step().await? {
            return Ok(Some(progress));
        }
        let Some(model) = self.loading.model().cloned() else { return Ok(None) };
        let mut judge = match self.judge.take() {
            Some(judge) => judge,
            None => {
                let tokens = WINDOW.min(model.info.max_tokens.unwrap_or(WINDOW));
                let most = self.step.windows.min(WINDOWS).min(Divergence::most(&model, tokens));
                self.windows = windows(&self.ids, &Sample { windows: most, window: WINDOW }, &model.info)?;
                Divergence::new(&model, self.windows.clone(), STREAMS)
            }
        };
        if !judge.prepare().await? {
            self.measure(&model, &judge).await?;
            self.next += 1;
            if self.next == self.layers {
                self.remove(&model, &mut judge).await?;
            }
        }
        self.judge = Some(judge);
        Ok(Some(self.progress()))
    }

    fn finish(self) -> Result<PrunedCheckpoint, EngineError> {
        if self.gone.len() < self.goes {
            return Err(EngineError::Evaluation("pruning was finished before all was pruned".into()));
        }
        let Self { of: Checkpoint { source, index, spec }, step, gone, .. } = &self;
        let mut left = shortened(index, spec, step, source.len(), gone)?;
        let marks = Marks::of(&self.windows, &self.ids);
        marks.iter().for_each(|marks| marks.write(&mut left.index.metadata));
        let kl = (!gone.is_empty()).then_some(self.kl);
        let report = report(step, index, &left.index, place(index, spec, (self.layers, gone), kl));
        let mut findings: Vec<Finding> = idle(&report).into_iter().collect();
        if kl.is_some() {
            findings.push(self.summary());
        }
        let left = left.over(source.clone());
        let renamed = renamed(&self.of, &left, gone);
        Ok(PrunedCheckpoint { left, report, findings, renamed })
    }
}
