//! Which precision for which tensor: the step that saves most divergence for a byte, again and again.

use statepress_core::Recipe;
use statepress_core::recipe::{RowRule, Rule, Step};
use statepress_core::report::{Cost, SearchCosts, SearchPoint, SearchResult, SearchTarget, TensorCosts};

use crate::EngineError;

/// The recipe that reaches a target, and all on the way to the closest one.
///
/// # Errors
/// For a target that is none, and for one that no choice reaches: the error names what can be had.
pub fn allocate(costs: &SearchCosts, target: &SearchTarget) -> Result<SearchResult, EngineError> {
    let reached = Reached::new(target, costs.bytes_before)?;
    if let Some(it) = costs.tensors.iter().find(|it| it.choices.is_empty()) {
        return Err(EngineError::option(
            "costs",
            format!("without a choice for {}", it.tensor),
            "one at least",
        ));
    }
    let mut walk = Walk::new(costs);
    let mut front = vec![walk.point()];
    while walk.step(u64::MAX) {
        front.push(walk.point());
    }
    let mut walk = Walk::new(costs);
    match reached {
        Reached::Bytes(most) => {
            if walk.point().bytes > most {
                return Err(refused(target, &front));
            }
            while walk.step(most) {}
        }
        Reached::Kl(most) => {
            while walk.point().kl > most {
                if !walk.step(u64::MAX) {
                    return Err(refused(target, &front));
                }
            }
        }
    }
    Ok(SearchResult { recipe: walk.recipe(), chosen: walk.point(), front })
}

/// Refuses a target that is none, or two.
pub fn check_target(target: &SearchTarget) -> Result<(), EngineError> {
    Reached::new(target, 0).map(drop)
}

/// What a target comes to.
enum Reached {
    Bytes(u64),
    Kl(f64),
}

impl Reached {
    fn new(target: &SearchTarget, before: u64) -> Result<Self, EngineError> {
        let SearchTarget { ratio, bytes, max_kl, max_loss } = *target;
        let refused = |option, value: f64, allowed| Err(EngineError::option(option, value, allowed));
        match (ratio, bytes, max_kl, max_loss) {
            (Some(ratio), None, None, None) if ratio > 1.0 && ratio.is_finite() => {
                Ok(Self::Bytes((before as f64 / ratio) as u64))
            }
            (Some(ratio), None, None, None) => refused("ratio", ratio, "a number above 1"),
            (None, Some(bytes), None, None) if bytes >= 1.0 => Ok(Self::Bytes(bytes as u64)),
            (None, Some(bytes), None, None) => refused("bytes", bytes, "a number from 1 on"),
            (None, None, Some(kl), None) if kl > 0.0 => Ok(Self::Kl(kl)),
            (None, None, Some(kl), None) => refused("maxKl", kl, "a number above 0"),
            (None, None, None, Some(loss)) if loss > 0.0 => Ok(Self::Kl((loss / 100.0).ln_1p())),
            (None, None, None, Some(loss)) => refused("maxLoss", loss, "a number above 0"),
            _ => Err(EngineError::option("target", "not one", "one of ratio, bytes, maxKl and maxLoss")),
        }
    }
}

/// Why no choice reaches a target, in the words that it was given in.
fn refused(target: &SearchTarget, front: &[SearchPoint]) -> EngineError {
    let (smallest, closest) = (front[0], front[front.len() - 1]);
    let (value, from) = match *target {
        SearchTarget { max_loss: Some(loss), .. } => {
            (format!("a loss of {loss} %"), format!("{:.6} %", closest.perplexity_change))
        }
        SearchTarget { max_kl: Some(kl), .. } => {
            (format!("a divergence of {kl:.6}"), format!("{:.6}", closest.kl))
        }
        _ => return size_refused(target, smallest.ratio, smallest.bytes),
    };
    EngineError::option("target", value, format!("from {from} on, at {:.2}x", closest.ratio))
}

/// Why nothing is as small as that: the smallest there is.
pub(super) fn size_refused(target: &SearchTarget, ratio: f64, bytes: u64) -> EngineError {
    let value = match *target {
        SearchTarget { bytes: Some(bytes), .. } => format!("{bytes} bytes"),
        SearchTarget { ratio, .. } => format!("{}x", ratio.unwrap_or_default()),
    };
    EngineError::option("target", value, format!("up to {ratio:.2}x, from {bytes} bytes on"))
}

/// On the way from the smallest choice of every tensor to the closest.
struct Walk<'a> {
    costs: &'a SearchCosts,
    /// The choice of each tensor.
    taken: Vec<usize>,
}

impl<'a> Walk<'a> {
    fn new(costs: &'a SearchCosts) -> Self {
        Self { costs, taken: vec![0; costs.tensors.len()] }
    }

    fn choices(&self) -> impl Iterator<Item = &'a Cost> {
        self.costs.tensors.iter().zip(&self.taken).map(|(tensor, &at)| &tensor.choices[at])
    }

    fn point(&self) -> SearchPoint {
        let bytes = self.costs.fixed_bytes + self.choices().map(|cost| cost.bytes).sum::<u64>();
        let kl = self.choices().map(|cost| cost.kl).sum::<f64>();
        let ratio = self.costs.bytes_before as f64 / bytes.max(1) as f64;
        SearchPoint { bytes, ratio, kl, perplexity_change: 100.0 * kl.exp_m1() }
    }

    /// Takes the step that saves most for a byte, among those that leave it at `most` bytes; answers whether there was one.
    fn step(&mut self, most: u64) -> bool {
        let room = most.saturating_sub(self.point().bytes);
        let steps = self.costs.tensors.iter().zip(&self.taken).enumerate().flat_map(|(tensor, (it, &at))| {
            let now = it.choices[at];
            it.choices.iter().enumerate().skip(at + 1).filter_map(move |(to, then)| {
                let more = then.bytes.saturating_sub(now.bytes);
                let saved = (now.kl - then.kl) / more.max(1) as f64;
                (more <= room && saved > 0.0).then_some((tensor, to, saved))
            })
        });
        let best = steps.max_by(|a, b| a.2.total_cmp(&b.2));
        if let Some((tensor, to, _)) = best {
            self.taken[tensor] = to;
        }
        best.is_some()
    }

    /// The base, with a rule before its own for each tensor.
    fn recipe(&self) -> Recipe {
        let mut recipe = self.costs.base.clone();
        // Of one search there may be many, which are saved side by side.
        recipe.name = format!("{}-{:.2}x", recipe.name, self.point().ratio);
        for step in &mut recipe.steps {
            let Step::Quantize(quantize) = step else { continue };
            let chosen: Vec<_> = self.costs.tensors.iter().zip(self.choices()).collect();
            // The rows of a tensor follow each other; the last are what its rule says of the rest.
            let rules = chosen.chunk_by(|(a, _), (b, _)| a.tensor == b.tensor && b.rows.is_some());
            let rules = rules.filter_map(|units| {
                let ((it, cost), before) = units.split_last()?;
                let row = |(unit, cost): &(&TensorCosts, &Cost)| RowRule {
                    label: None,
                    count: unit.rows.map(|rows| rows.count as usize),
                    precision: cost.precision,
                };
                let rows = before.iter().map(row).collect();
                Some(Rule { pattern: it.tensor.clone(), precision: cost.precision, step: cost.step, rows })
            });
            let rules: Vec<Rule> = rules.collect();
            quantize.rules.splice(0..0, rules);
        }
        recipe.compensated()
    }
}
