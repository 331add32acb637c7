//! Whose the losses are that the advice speaks of, and what having this model's own takes.

use statepress_core::Finding;
use statepress_core::report::{Basis, MeasureOffer, Recommendation};
use statepress_core::words::{counted, plural};

use super::losses::{JUDGED, Measured, TEXT};
use super::{AdviseOptions, Target};
use crate::families::ModelSpec;

/// Tokens that are read to measure: a loss of 2 % is known to half a percent then.
const TOKENS: u64 = 2048;

/// Parameters times tokens that one core gets through in a second, as measured in wasm with SIMD.
const PACE: f64 = 2.7e9;

/// How to have a model's own figures.
pub fn offer(recipes: Vec<String>, params: u64, target: Option<Target>) -> MeasureOffer {
    // The original and what is made of it.
    let passes = 2 * recipes.len() as u64 * TOKENS;
    let seconds = (passes as f64 * params as f64 / PACE).max(1.0);
    let target = target.map_or(String::new(), |target| format!(" --target {}", target.name()));
    let command = format!("statepress advise FILE --measure TEXT{target}");
    MeasureOffer { recipes, tokens: TOKENS, seconds, command }
}

/// Whose the losses are; nothing where nobody's are told.
pub fn whose<'a>(
    pieces: impl Iterator<Item = &'a Recommendation>,
    family: Option<&Measured>,
    spec: &ModelSpec,
    measure: Option<&MeasureOffer>,
) -> Option<Finding> {
    let how = match measure {
        Some(offer) => {
            format!(": `{}` measures this one, in about {}", offer.command, duration(offer.seconds))
        }
        None if spec.program.is_none() => ": this one cannot be measured, because it cannot be run".into(),
        None => String::new(),
    };
    let is_own = |it: &&Recommendation| it.measured_on.as_deref() == Some(Recommendation::THIS_FILE);
    let (own, others): (Vec<_>, Vec<_>) = pieces.filter(|it| it.basis != Basis::Literature).partition(is_own);
    let which = if own.is_empty() { "losses".into() } else { counted(others.len(), "loss", "losses") };
    let be = plural(&others.len(), "was", "were");
    match family {
        _ if others.is_empty() => (!own.is_empty())
            .then(|| Finding::info("measured-here", "every loss was measured on this very model")),
        Some(Measured { model, .. }) => {
            let message =
                format!("{which} {be} measured on {model} ({TEXT}, {JUDGED} tokens), not on this file{how}");
            Some(Finding::info("measured-elsewhere", message))
        }
        None => {
            let family = &spec.family;
            let message = format!("{which} {be} not measured on the family {family}, so rules decide{how}");
            Some(Finding::info("not-measured", message))
        }
    }
}

/// Seconds in words.
fn duration(seconds: f64) -> String {
    if seconds < 90.0 { format!("{seconds:.0} s") } else { format!("{:.0} min", seconds / 60.0) }
}

/// Where nothing that is recommended makes tokens as fast as the original does.
pub fn faster_as_it_is(options: &AdviseOptions, recommended: &[Recommendation]) -> Option<Finding> {
    let original = options.measured.iter().rfind(|it| it.recipe == "none")?.tokens_per_second?;
    let best = recommended.iter().filter_map(|it| it.tokens_per_second).max_by(f64::total_cmp)?;
    (best < original).then(|| {
        let message = format!(
            "the original makes {original:.0} tokens a second on this device, and nothing recommended more than {best:.0}: \
             compressing pays in bytes here, not in speed"
        );
        Finding::info("original-faster", message)
    })
}
