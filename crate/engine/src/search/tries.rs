//! One try after another: what to try next, by what was measured of those before.

use statepress_core::report::{SearchCosts, SearchNext, SearchResult, SearchTarget, SearchTry};

use super::allocate::{allocate, check_target, size_refused};
use crate::EngineError;
use crate::techniques::plan::quantize_step;

/// How many recipes are tried at the most.
const TRIES: usize = 5;

/// A coded file that fills less than this of its size is worth another try.
const ROOM: f64 = 0.99;

/// The recipe to try after those that were tried, in their order. The first is what single costs predict. After a miss the next
/// one is asked to be, or to lose, less in the same proportion; after a coded file that left room it is asked to be larger.
///
/// # Errors
/// For a target that is none, that no recipe is predicted to reach, or that is a size and was missed to the end: the error
/// names what can be had.
pub fn next_try(
    costs: &SearchCosts,
    target: &SearchTarget,
    tried: &[SearchTry],
) -> Result<SearchNext, EngineError> {
    let mut tries = Tries::new(costs, target)?;
    for measured in tried {
        tries.learn(measured)?;
    }
    let Tries { next, best, .. } = tries;
    let reached = best.is_some_and(|best| best.reaches());
    if let (None, Some(best), true) = (&next, best, is_size(target) && !reached) {
        let least = tried[best.at].bytes;
        return Err(size_refused(target, costs.bytes_before as f64 / least.max(1) as f64, least));
    }
    Ok(SearchNext { next, best: best.map(|best| best.at as u64), reached })
}

struct Tries<'a> {
    costs: &'a SearchCosts,
    target: &'a SearchTarget,
    /// Whether codes will be entropy-coded to a size, which leaves room that no arithmetic knows of beforehand.
    fills: bool,
    /// What is asked of single costs so that the target is reached.
    wanted: SearchTarget,
    /// What was asked for, and not measured yet.
    next: Option<SearchResult>,
    best: Option<Best>,
    /// The predicted bytes of those that were measured, by which recipes of one search differ.
    tried: Vec<u64>,
}

#[derive(Clone, Copy)]
struct Best {
    at: usize,
    /// How many times too large it is, or loses too much.
    excess: f64,
}

impl Best {
    fn reaches(self) -> bool {
        self.excess <= 1.0
    }
}

impl<'a> Tries<'a> {
    fn new(costs: &'a SearchCosts, target: &'a SearchTarget) -> Result<Self, EngineError> {
        check_target(target)?;
        let is_coded = quantize_step(&costs.base)?.is_some_and(|quantize| quantize.coded);
        let fills = is_coded && is_size(target);
        let mut wanted = *target;
        if fills {
            // A size below all that are known is tried with the smallest of them.
            let least = costs.tensors.iter().filter_map(|it| Some(it.choices.first()?.bytes)).sum::<u64>();
            let asked = bytes(costs, target).max((costs.fixed_bytes + least) as f64);
            wanted = SearchTarget { bytes: Some(asked), ..SearchTarget::default() };
        }
        let next = Some(allocate(costs, &wanted)?);
        Ok(Self { costs, target, fills, wanted, next, best: None, tried: Vec::new() })
    }

    /// Goes on with what was measured of the recipe that was asked for.
    fn learn(&mut self, measured: &SearchTry) -> Result<(), EngineError> {
        let at = self.tried.len();
        let asked = self.next.take().ok_or_else(|| {
            let allowed = format!("{at}: one of each recipe that was asked for");
            EngineError::option("tried", "more measurements", allowed)
        })?;
        let it = Best { at, excess: self.excess(measured) };
        self.tried.push(asked.chosen.bytes);
        // What reaches the target fills it better than what did before; of what misses it the closest counts.
        let is_better = |best: Best| if best.reaches() { it.reaches() } else { it.excess < best.excess };
        let fell_back = self.best.is_some_and(|best| best.reaches() && !it.reaches());
        if self.best.is_none_or(is_better) {
            self.best = Some(it);
        }
        let is_filled = it.reaches() && !(self.fills && it.excess < ROOM);
        if !(fell_back || is_filled || self.tried.len() == TRIES) {
            self.wanted = scaled(&self.wanted, it.excess);
            self.next = self.after(&asked)?;
        }
        Ok(())
    }

    /// What is asked for now, unless there is nothing but what was tried.
    fn after(
        &self,
        SearchResult { chosen, front, .. }: &SearchResult,
    ) -> Result<Option<SearchResult>, EngineError> {
        let found = match allocate(self.costs, &self.wanted) {
            Err(EngineError::Option { .. }) => None,
            found => Some(found?),
        };
        if is_size(self.target) {
            return Ok(found.filter(|it| !self.tried.contains(&it.chosen.bytes)));
        }
        let out_of_reach = found.is_none();
        if let Some(found) = found.filter(|it| it.chosen.bytes > chosen.bytes) {
            return Ok(Some(found));
        }
        // It is the same recipe again, or none is predicted to be so close: the next one there is, or the closest.
        let mut closer = front.iter().filter(|it| it.bytes > chosen.bytes);
        let closer = if out_of_reach { closer.next_back() } else { closer.next() };
        let of_size = |bytes| SearchTarget { bytes: Some(bytes as f64), ..SearchTarget::default() };
        closer.map(|it| allocate(self.costs, &of_size(it.bytes))).transpose()
    }

    fn excess(&self, measured: &SearchTry) -> f64 {
        match *self.target {
            SearchTarget { max_kl: Some(most), .. } => measured.kl / most,
            SearchTarget { max_loss: Some(most), .. } => measured.perplexity_change / most,
            _ => measured.bytes as f64 / bytes(self.costs, self.target),
        }
    }
}

fn is_size(target: &SearchTarget) -> bool {
    target.ratio.is_some() || target.bytes.is_some()
}

/// The bytes that a size comes to.
fn bytes(costs: &SearchCosts, target: &SearchTarget) -> f64 {
    let of_ratio = |ratio| costs.bytes_before as f64 / ratio;
    target.bytes.or(target.ratio.map(of_ratio)).unwrap_or_default()
}

/// A target for single costs after one that led to `excess` times too much: a little less than in proportion, so that the next try
/// does not miss by a hair.
fn scaled(target: &SearchTarget, excess: f64) -> SearchTarget {
    let by = 0.99 / excess;
    let scaled = |it: Option<f64>| it.map(|it| it * by);
    let SearchTarget { ratio, bytes, max_kl, max_loss } = *target;
    SearchTarget {
        ratio: ratio.map(|ratio| (ratio / by).max(1.0 + f64::EPSILON)),
        bytes: scaled(bytes),
        max_kl: scaled(max_kl),
        max_loss: scaled(max_loss),
    }
}
