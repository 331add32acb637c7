//! Fewer layers, or fewer parts of them: they go one after the other, each time the one without which predictions change least.
//!
//! A layer takes the residual stream in and leaves one, and so does each of its parts (a mixer, a feed-forward network, a mixture of
//! experts), so that a model runs without it as well. What is left are the tensors of the others as they were stored: no code is
//! decoded, and nothing makes up for what went. How far predictions are from the original's is measured anew after each removal, as
//! layers stand in for each other: after SLEB (Song et al. 2024), and for parts of layers BlockPruner (Zhong et al. 2024).
//!
//! ```text
//! gone = {}
//! while too many are left:
//!     for each layer or part l that is left: kl[l] = divergence of the model without gone and l from the original
//!     gone += the l of the least kl
//! ```
//!
//! Layers are counted anew in what is left. Of a layer one part always stays, and what went is said in the file
//! ([`PRUNED`](crate::families::PRUNED)): without it the file would lack tensors.

use std::mem;
use std::ops::Range;
use std::rc::Rc;

use statepress_core::job::{Job, Progress};
use statepress_core::recipe::{Prune, PruneKind};
use statepress_core::report::{Pruned, PrunedPlace};
use statepress_core::words::counted;
use statepress_core::{Entry, Finding, Index};
use statepress_kernels::program::{Node, Op, Program, Sublayer};

use super::left::{idle, report, running};
use super::{PrunedCheckpoint, Renamed, WINDOW, no_text};
use crate::EngineError;
use crate::calibrate::{Marks, Sample, windows};
use crate::eval::{Divergence, STREAMS};
use crate::families::{ModelSpec, keys_of_nodes};
use crate::models::Model;
use crate::techniques::derived::{Checkpoint, Derived, Draft, program, real};
use crate::techniques::loading::Loading;

/// The most windows of the calibration text that divergences are measured on.
const WINDOWS: usize = 4;

/// What can go: a layer, or a part of one.
#[derive(Clone, Debug)]
struct Unit {
    layer: usize,
    nodes: Range<usize>,
    /// What people call it.
    name: String,
}

/// A step that takes layers or parts of them out, under way. What it does next is to measure a model without one more of them.
pub(crate) struct Shortening {
    of: Checkpoint,
    step: Prune,
    ids: Rc<Vec<u32>>,
    windows: Vec<Vec<u32>>,
    loading: Loading,
    judge: Option<Divergence>,
    /// All that can go, and how many are to go.
    units: Vec<Unit>,
    goes: usize,
    /// Those that went, in this order.
    gone: Vec<usize>,
    /// The next one to be tried, and what was measured of those before it.
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
        let (units, goes) = removable(&program, step)?;
        let ids = ids.ok_or_else(no_text)?.clone();
        let loading = Loading::new(&of, model)?;
        Ok(Self {
            of,
            step: step.clone(),
            ids,
            windows: Vec::new(),
            loading,
            judge: None,
            units,
            goes,
            gone: Vec::new(),
            next: 0,
            tried: Vec::new(),
            kl: 0.0,
            done: 0,
        })
    }

    /// Measures the model without the next one, if that is still there and can go.
    async fn measure(&mut self, model: &Model, judge: &Divergence) -> Result<(), EngineError> {
        if self.gone.contains(&self.next) {
            return Ok(());
        }
        self.done += 1;
        let without: Vec<usize> = self.gone.iter().copied().chain([self.next]).collect();
        if self.shortened(0, &without).is_ok() {
            let kl = judge.of(&model.without(&nodes(&self.units, &without))).await?;
            self.tried.push((self.next, kl));
        }
        Ok(())
    }

    /// Lets the one go without which the least is lost; of equals the first.
    async fn remove(&mut self, model: &Model, judge: &mut Divergence) -> Result<(), EngineError> {
        let tried = mem::take(&mut self.tried);
        let best = tried.into_iter().min_by(|(_, a), (_, b)| a.total_cmp(b));
        let left = self.units.len() - self.gone.len();
        let (unit, kl) = best.ok_or_else(|| too_few(&self.step, left))?;
        self.gone.push(unit);
        (self.kl, self.next) = (kl, 0);
        if self.gone.len() < self.goes {
            judge.go_on_from(model.without(&nodes(&self.units, &self.gone))).await?;
        }
        Ok(())
    }

    /// What is left of `len` bytes without some.
    fn shortened(&self, len: u64, gone: &[usize]) -> Result<Derived, EngineError> {
        let Checkpoint { index, spec, .. } = &self.of;
        shortened((index, spec), &self.step, len, (&self.units, gone))
    }

    fn progress(&self) -> Progress {
        // One fewer is left to be tried after each that went.
        let total = self.goes * self.units.len() - self.goes * (self.goes - 1) / 2;
        Progress {
            stage: "prune".into(),
            done: self.done as f64,
            total: total as f64,
            unit: "trials".into(),
            item: self.next.checked_sub(1).map(|unit| self.units[unit].name.clone()),
        }
    }

    /// Says which went, and what that costs.
    fn summary(&self) -> Finding {
        let name = |&unit: &usize| match self.step.kind {
            PruneKind::Layers => unit.to_string(),
            _ => self.units[unit].name.clone(),
        };
        let order: Vec<String> = self.gone.iter().map(name).collect();
        let message = format!(
            "{} of {} {} went, in this order: {}. Predictions are {:.4} nats a token from those before, on {} of {WINDOW} tokens of the \
             calibration text. An approximation, for which nothing makes up; train it with the original as the teacher",
            self.goes,
            self.units.len(),
            words(&self.step),
            order.join(", "),
            self.kl,
            counted(self.windows.len() as u64, "window", "windows"),
        );
        Finding::info("shortened", message)
    }
}

/// What a model has of what a step takes out, and how many of them it takes.
///
/// # Errors
/// Where anything but the residual stream goes from one to the next, and where layers have but one part.
fn removable(program: &Program, step: &Prune) -> Result<(Vec<Unit>, usize), EngineError> {
    let refused = |allowed: &str| EngineError::option("prune.kind", step.kind.name(), allowed.to_string());
    if !stand_alone(program) {
        return Err(refused(
            "what the model can lose: from layer to layer goes more than the residual stream",
        ));
    }
    let units = match step.kind {
        PruneKind::Sublayers => parts(program),
        _ => layers(program),
    };
    if step.kind == PruneKind::Sublayers && !has_parts(program) {
        return Err(refused(
            "layers: each of the model's is one part, which adds to the residual stream once",
        ));
    }
    let goes = units.len() - step.kept(units.len());
    Ok((units, goes))
}

/// Whether nothing but the residual stream goes from one layer to the next.
pub(super) fn stand_alone(program: &Program) -> bool {
    (1..=program.n_layers()).all(|layer| program.begin(layer).is_some())
}

/// Whether there is a layer of several parts.
pub(super) fn has_parts(program: &Program) -> bool {
    program.sublayers().windows(2).any(|pair| pair[0].layer == pair[1].layer)
}

fn layers(program: &Program) -> Vec<Unit> {
    let of = |layer: usize| {
        let begin = program.nodes.iter().position(|node| node.layer == Some(layer))?;
        let count = program.nodes[begin..].iter().take_while(|node| node.layer == Some(layer)).count();
        Some(Unit { layer, nodes: begin..begin + count, name: format!("layer {layer}") })
    };
    (0..program.n_layers()).filter_map(of).collect()
}

fn parts(program: &Program) -> Vec<Unit> {
    let unit = |Sublayer { layer, nodes }: Sublayer| {
        let what = program.nodes[nodes.clone()].iter().find_map(|node| match &node.op {
            Op::Attention(_) => Some("attention"),
            Op::Scan { .. } | Op::SelectiveScan { .. } | Op::Ssd(_) => Some("the state space"),
            Op::Experts(_) => Some("the experts"),
            _ => None,
        });
        let name = format!("{} of layer {layer}", what.unwrap_or("the feed-forward network"));
        Unit { layer, nodes, name }
    };
    program.sublayers().into_iter().map(unit).collect()
}

fn chosen(units: &[Unit], gone: &[usize]) -> Vec<Unit> {
    gone.iter().map(|&unit| units[unit].clone()).collect()
}

fn nodes(units: &[Unit], gone: &[usize]) -> Vec<Range<usize>> {
    gone.iter().map(|&unit| units[unit].nodes.clone()).collect()
}

/// What is left of a checkpoint without some.
///
/// # Errors
/// Where that is no model that computes what the others have computed: a hybrid without its last layer of a kind is another
/// family's, what a layer computes may follow from its number, and a layer keeps one of its parts.
fn shortened(
    (index, spec): (&Index, &ModelSpec),
    step: &Prune,
    len: u64,
    (units, gone): (&[Unit], &[usize]),
) -> Result<Derived, EngineError> {
    let refused = |allowed: &str| EngineError::option("prune.kind", step.kind.name(), allowed.to_string());
    let before = program(spec)?;
    let draft = match step.kind {
        PruneKind::Sublayers => {
            let stays =
                |layer| (0..units.len()).any(|unit| units[unit].layer == layer && !gone.contains(&unit));
            if !gone.iter().all(|&unit| stays(units[unit].layer)) {
                return Err(refused("what leaves one part of every layer"));
            }
            let keys = gone.iter().flat_map(|&unit| keys_of_nodes(&before, units[unit].nodes.clone()));
            Draft::without_tensors(index, spec, len, &keys.collect::<Vec<_>>())
        }
        _ => {
            let numbers: Vec<usize> = gone.iter().map(|&unit| units[unit].layer).collect();
            Draft::without_layers(index, spec, len, &numbers)
        }
    };
    let left = running(draft.understood()?, step)?;
    let scale = |node: &Node| if let Op::Attention(op) = &node.op { Some(op.scale) } else { None };
    let does = |node: &Node| (mem::discriminant(&node.op), scale(node));
    let (wanted, after) = (before.without(&nodes(units, gone)), program(&left.spec)?);
    let is_same = wanted.nodes.iter().map(does).eq(after.nodes.iter().map(does));
    if is_same && left.spec.family == spec.family {
        return Ok(left);
    }
    Err(refused("what leaves the other layers as they are, some of which would compute something else"))
}

/// What goes, in words.
fn words(step: &Prune) -> &'static str {
    match step.kind {
        PruneKind::Sublayers => step.kind.words(),
        _ => "layers",
    }
}

/// So many have to stay.
fn too_few(step: &Prune, left: usize) -> EngineError {
    let words = words(step);
    let allowed =
        format!("at least {left} {words}: what is left without any of those could not be run as it was");
    EngineError::option("prune.keep", step.keep, allowed)
}

/// What a step leaves, by arithmetic alone: the last go that can.
pub(super) fn planned(
    index: &Index,
    spec: &ModelSpec,
    program: &Program,
    step: &Prune,
) -> Result<(Index, ModelSpec, Pruned), EngineError> {
    let (units, goes) = removable(program, step)?;
    let without = |gone: &[usize]| shortened((index, spec), step, 0, (&units, gone));
    let mut gone: Vec<usize> = (units.len() - goes..units.len()).collect();
    if without(&gone).is_err() {
        gone.clear();
        for unit in (0..units.len()).rev() {
            gone.push(unit);
            if gone.len() > goes || without(&gone).is_err() {
                gone.pop();
            }
        }
    }
    if gone.len() < goes {
        return Err(too_few(step, units.len() - gone.len()));
    }
    let left = without(&gone)?;
    let tensors = tensors((index, spec), program, step, &chosen(&units, &gone));
    let mut report = report(step, index, &left.index, place(tensors, units.len(), &gone, None));
    report.places.iter_mut().for_each(|place| place.removed.clear());
    Ok((left.index, left.spec, report))
}

/// Says that a plan does not know sizes, where what may go is not alike.
pub(super) fn estimated(index: &Index, spec: &ModelSpec, program: &Program, step: &Prune) -> Option<Finding> {
    let (units, _) = removable(program, step).ok()?;
    let bytes = |unit| -> u64 {
        let names = tensors((index, spec), program, step, &[unit]);
        index.tensors.iter().filter(|entry| names.contains(&entry.name)).map(Entry::bytes).sum()
    };
    let bytes: Vec<u64> = units.into_iter().map(bytes).collect();
    let message = format!(
        "sizes are an estimate: {} are not equally large, and which of them go is measured; planned are the last",
        words(step)
    );
    (bytes.iter().min() != bytes.iter().max()).then(|| Finding::info("estimated", message))
}

/// What the file calls the tensors of some.
fn tensors(
    (index, spec): (&Index, &ModelSpec),
    program: &Program,
    step: &Prune,
    units: &[Unit],
) -> Vec<String> {
    if step.kind == PruneKind::Sublayers {
        let keys = units.iter().flat_map(|unit| keys_of_nodes(program, unit.nodes.clone()));
        return keys.map(|key| real(spec, index, &key)).collect();
    }
    let goes = |&position: &usize| {
        spec.names
            .layer(index, position)
            .is_some_and(|(layer, _)| units.iter().any(|unit| unit.layer == layer))
    };
    (0..index.tensors.len()).filter(goes).map(|position| index.tensors[position].name.clone()).collect()
}

/// What a report says of what went; nothing, where nothing did.
fn place(tensors: Vec<String>, before: usize, gone: &[usize], error: Option<f64>) -> Vec<PrunedPlace> {
    let mut removed = gone.to_vec();
    removed.sort_unstable();
    let place = PrunedPlace { layer: None, tensors, before, after: before - gone.len(), removed, error };
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
            if self.next == self.units.len() {
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
        let Self { of: Checkpoint { source, index, spec }, step, units, gone, .. } = &self;
        let mut left = self.shortened(source.len(), gone)?;
        let marks = Marks::of(&self.windows, &self.ids);
        marks.iter().for_each(|marks| marks.write(&mut left.index.metadata));
        let kl = (!gone.is_empty()).then_some(self.kl);
        let tensors = tensors((index, spec), &*program(spec)?, step, &chosen(units, gone));
        let report = report(step, index, &left.index, place(tensors, units.len(), gone, kl));
        let mut findings: Vec<Finding> = idle(&report).into_iter().collect();
        if kl.is_some() {
            findings.push(self.summary());
        }
        let left = left.over(source.clone());
        let renamed = match step.kind {
            PruneKind::Layers => renamed(&self.of, &left, gone),
            _ => Renamed::new(),
        };
        Ok(PrunedCheckpoint { left, report, findings, renamed })
    }
}
