//! The order of what is recommended, and in words how it came about.

use std::cmp::Ordering;

use statepress_core::Finding;
use statepress_core::report::Recommendation;

use super::judge::Judged;
use super::{AdviseOptions, Target};

/// Divergence that nobody notices: a tenth of a percent of perplexity, on text that the model itself could have written.
const NOTHING: f64 = 1e-3;

/// Divergences are as large where so many hundredths of a nat make no difference: about a percent of perplexity.
const NOTICED: f64 = 1e-2;

type Piece = (Recommendation, Judged);

/// Sorts them, and says by what.
pub fn order(recommended: &mut [Piece], options: &AdviseOptions, runs: bool) -> Finding {
    let has_speeds = options.target.is_some_and(|target| has_speeds(recommended, target, options));
    let limited = options.max_loss.is_some() || options.max_size.is_some();
    let known = recommended.iter().all(|(it, _)| it.kl.is_some());
    let (first, by): (fn(&Piece, &Piece) -> Ordering, &str) = if has_speeds {
        let by = "the fastest first of what the limits allow, as measured on this device";
        (|(a, _), (b, _)| larger(a.tokens_per_second, b.tokens_per_second), by)
    } else if limited && known {
        (|(a, _), (b, _)| smaller(a, b), "the smallest first of what the limits allow")
    } else if known && options.target.is_some() {
        let by = "the least harm first; of what does as much, what the findings document of Itera-Lite wants for the target";
        (by_target, by)
    } else if known {
        let by = "the least harm first; what does no harm that could be noticed, the smallest of it first";
        (|_, _| Ordering::Equal, by)
    } else {
        let by = "what is known to do no harm first, then by the rules: quality limit, size class, architecture, target";
        (|_, _| Ordering::Equal, by)
    };
    recommended.sort_by(|a, b| {
        let harm = || by_harm(&a.0, &b.0);
        first(a, b).then_with(harm).then_with(|| a.1.rank().cmp(&b.1.rank()))
    });
    let mut by = by.to_string();
    if let (Some(target), false) = (options.target, has_speeds) {
        let name = target.name();
        by += &match target.backend() {
            Some(_) if runs => format!(
                "; how fast each is on a {name} is that document's guess: `statepress advise FILE --measure TEXT --target \
                 {name}` measures it on this device"
            ),
            None if runs => {
                "; how fast each is there is that document's guess: `statepress bench FILE` measures a device"
                    .into()
            }
            _ => "; how fast each is there is the guess of the findings document of Itera-Lite".into(),
        };
    }
    Finding::info("order", by)
}

/// Whether the speed of all of them was measured on this device, by what the target means.
fn has_speeds(recommended: &[Piece], target: Target, options: &AdviseOptions) -> bool {
    let Some(backend) = target.backend() else { return false };
    let timed = |recipe: &str| {
        let last = options.measured.iter().rfind(|it| it.recipe == recipe);
        last.is_some_and(|it| it.tokens_per_second.is_some() && it.backend.as_deref() == Some(backend))
    };
    !recommended.is_empty() && recommended.iter().all(|(it, _)| timed(&it.recipe))
}

/// What was measured counts more than what is wanted for a target.
fn by_target((a, a_judged): &Piece, (b, b_judged): &Piece) -> Ordering {
    let harm = |it: &Recommendation| (it.kl.unwrap_or(0.0) / NOTICED) as u64;
    (harm(a), a_judged.place_by_target()).cmp(&(harm(b), b_judged.place_by_target()))
}

/// What does no harm comes first, the smallest of it; then the least harm; then what nobody knows.
fn by_harm(a: &Recommendation, b: &Recommendation) -> Ordering {
    match (a.kl, b.kl) {
        (Some(a_kl), Some(b_kl)) if a_kl < NOTHING && b_kl < NOTHING => smaller(a, b),
        (Some(a), Some(b)) => a.total_cmp(&b),
        (None, None) => Ordering::Equal,
        (a, b) => b.is_some().cmp(&a.is_some()),
    }
}

fn smaller(a: &Recommendation, b: &Recommendation) -> Ordering {
    larger(a.expected_ratio, b.expected_ratio)
}

/// The larger number first.
fn larger(a: Option<f64>, b: Option<f64>) -> Ordering {
    b.unwrap_or(0.0).total_cmp(&a.unwrap_or(0.0))
}
