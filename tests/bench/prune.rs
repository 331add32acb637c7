//! Follows several recipes, such as some that prune, and measures what each is worth.
//!
//! ```text
//! cargo run --release -p statepress-tests --example prune -- CALIBRATION.u16.bin TEST.u16.bin MODEL STEPS... [--gradients=FILE] [--limit=TOKENS] [--out=FILE]
//! ```
//!
//! `MODEL` is a folder, the texts are token ids, and every `STEPS` a JSON list of recipe steps, or the name of a file that
//! holds a recipe. Parameters are against those before, losses against the model as it is. `FILE` of gradients is what
//! the example of that name in crate/distill writes. What the last
//! `STEPS` leave goes to `FILE`, a safetensors file.

use std::path::Path;
use std::time::Instant;

use statepress::recipe::PruneKind;
use statepress::{Calibration, Checkpoint, Compare, CompareOptions, MemorySink, OpenOptions, Recipe, run};
use statepress_tests::files::{gradients, open_folder};

const USAGE: &str = "usage: prune CALIBRATION.u16.bin TEST.u16.bin MODEL STEPS... [--gradients=FILE] [--limit=TOKENS] [--out=FILE]";

fn ids(path: &str) -> Vec<u32> {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    bytes.as_chunks().0.iter().map(|bytes| u16::from_le_bytes(*bytes).into()).collect()
}

fn recipe(steps: &str) -> Recipe {
    let json = match steps.starts_with('[') {
        true => format!(r#"{{"version":1,"name":"prune","steps":{steps}}}"#),
        false => std::fs::read_to_string(steps).unwrap_or_else(|error| panic!("{steps}: {error}")),
    };
    Recipe::from_json(&json).unwrap_or_else(|error| panic!("{steps}: {error}"))
}

fn main() {
    let (options, paths): (Vec<_>, Vec<_>) =
        std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
    let [calibration, test, folder, recipes @ ..] = paths.as_slice() else { panic!("{USAGE}") };
    let fisher = options.iter().find_map(|option| option.strip_prefix("--gradients=")).map(gradients);
    let limit = options.iter().find_map(|option| option.strip_prefix("--limit="));
    let limit = limit.map(|limit| limit.parse().expect(USAGE));
    let out = options.iter().find_map(|option| option.strip_prefix("--out="));
    let (calibration, test) = (ids(calibration), ids(test));
    let base = open_folder(Path::new(folder));
    let model = base.model().unwrap();
    for steps in recipes {
        let (recipe, sink, started) = (recipe(steps), MemorySink::default(), Instant::now());
        let job = match recipe.needs_calibration() {
            true => base.compress_calibrated(
                &recipe,
                Box::new(sink.clone()),
                Calibration { fisher: fisher.clone(), ..Calibration::new(&model, &calibration) },
            ),
            false => base.compress(&recipe, Box::new(sink.clone())),
        };
        let report = run(job.unwrap(), |_| {}).unwrap();
        let seconds = started.elapsed().as_secs_f64();
        let bytes = sink.take();
        if let Some(out) = out {
            std::fs::write(out, &bytes).unwrap_or_else(|error| panic!("{out}: {error}"));
        }
        let pruned = Checkpoint::open(bytes, OpenOptions::default()).unwrap();
        let options = CompareOptions { window: Some(256), limit, ..CompareOptions::default() };
        let smaller = pruned.model().unwrap();
        let card = run(Compare::new(&model, &smaller, &test, options, || 0.0).unwrap(), |_| {}).unwrap();
        println!(
            "{:.3}x parameters, {:.2}x bytes  {:+.2} %  KL {:.4}  ({seconds:.1} s)  {steps}",
            base.inspection().params as f64 / pruned.inspection().params as f64,
            report.plan.bytes.ratio,
            card.perplexity_change,
            card.kl.mean,
        );
        let places =
            report.plan.pruned.iter().flat_map(|it| it.places.iter().map(|place| (it.step.kind, place)));
        for (kind, place) in places {
            let told = |error| match kind {
                PruneKind::Layers | PruneKind::Sublayers => format!(", KL {error:.4}"),
                _ => format!(", {:.2} % lost", 100.0 * error),
            };
            let lost = place.error.map(told).unwrap_or_default();
            let layer = place.layer.map_or(String::new(), |layer| format!("layer {layer}, "));
            println!("    {layer}{}: {} of {}{lost}", place.tensors[0], place.after, place.before);
        }
    }
}
