//! Searches for the best recipe at several sizes, carries them out, and puts what was predicted beside what is measured.
//!
//! ```text
//! cargo run --release -p statepress-tests --example search -- CALIBRATION.u16.bin TEST.u16.bin MODEL RATIO... [--first=STEPS] [--gradients=FILE] [--coded] [--save=FOLDER] [--fast] [--tensors] [--tiny]
//! ```
//!
//! `MODEL` is a folder; the texts are token ids. The first 16,384 ids of the calibration text are read: the last quarter
//! of them judges while searching. `STEPS` is a JSON list of recipe steps that come before; `FILE` is what the example
//! `gradients` of crate/distill writes; `--save` leaves the compressed files in a folder, named after their ratios; `--tensors`
//! lists what each tensor takes; `--tiny` searches fast and measures two windows only.

use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use statepress::report::{CompressReport, Fisher, SearchTarget};
use statepress::{
    Calibration, Checkpoint, Compare, CompareOptions, CostsOptions, MemorySink, Model, OpenOptions, Recipe,
    allocate, run, split_text,
};
use statepress_tests::files::{gradients, open_folder};

const USAGE: &str = "usage: search CALIBRATION.u16.bin TEST.u16.bin MODEL RATIO... [--first=STEPS] [--gradients=FILE] [--coded] [--save=FOLDER] [--fast] [--tensors] [--tiny]";

fn ids(path: &str) -> Vec<u32> {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    bytes.as_chunks().0.iter().map(|bytes| u16::from_le_bytes(*bytes).into()).collect()
}

/// What a recipe makes of a checkpoint.
fn followed(
    base: &Checkpoint,
    recipe: &Recipe,
    (model, read, fisher): (&Model, &[u32], &Option<Rc<Fisher>>),
) -> (CompressReport, Vec<u8>) {
    let sink = MemorySink::default();
    let job = match recipe.needs_calibration() {
        true => base.compress_calibrated(
            recipe,
            Box::new(sink.clone()),
            Calibration { fisher: fisher.clone(), ..Calibration::new(model, read) },
        ),
        false => base.compress(recipe, Box::new(sink.clone())),
    };
    let report = run(job.unwrap(), |_| {}).unwrap();
    (report, sink.take())
}

fn open(bytes: Vec<u8>) -> Checkpoint {
    Checkpoint::open(bytes, OpenOptions::default()).unwrap()
}

fn main() {
    let (options, paths): (Vec<_>, Vec<_>) =
        std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
    let [calibration, test, folder, ratios @ ..] = paths.as_slice() else { panic!("{USAGE}") };
    let has = |name: &str| options.iter().any(|option| option == name);
    let (calibration, test) = (ids(calibration), ids(test));
    let (read, judged) = split_text(&calibration[..calibration.len().min(1 << 14)]);
    let fisher = options.iter().find_map(|option| option.strip_prefix("--gradients=")).map(gradients);
    let base = open_folder(Path::new(folder));
    let model = base.model().unwrap();

    let started = Instant::now();
    let how = CostsOptions::new(has("--fast") || has("--tiny"), has("--coded"));
    let steps = options.iter().find_map(|option| option.strip_prefix("--first=")).unwrap_or("[]");
    let first = format!(r#"{{"version":1,"name":"first","steps":{steps}}}"#);
    let first = Recipe::from_json(&first).unwrap_or_else(|error| panic!("{steps}: {error}"));
    let left = open(followed(&base, &first, (&model, read, &fisher)).1);
    let left_model = left.model().unwrap();
    let mut costs = run(
        left.search_costs(
            Calibration { fisher: fisher.clone(), ..Calibration::new(&left_model, read) },
            judged,
            &how,
            Vec::new(),
        )
        .unwrap(),
        |_| {},
    )
    .unwrap();
    costs.base.steps.splice(0..0, first.steps);
    costs.bytes_before = base.plan(&costs.base).unwrap().bytes.before;
    println!("costs of {} tensors: {:.1} s", costs.tensors.len(), started.elapsed().as_secs_f64());
    for tensor in &costs.tensors {
        let measured = tensor.choices.iter().filter(|it| it.measured);
        let bits = |bytes: u64| 8.0 * bytes as f64 / tensor.params as f64;
        let choices =
            measured.map(|it| format!("{} {:.2} bits {:.2e}", it.precision.name(), bits(it.bytes), it.kl));
        println!("  {:40} {}", tensor.tensor, choices.collect::<Vec<_>>().join("  "));
    }
    for ratio in ratios {
        let ratio: f64 = ratio.parse().expect(USAGE);
        let found =
            allocate(&costs, &SearchTarget { ratio: Some(ratio), ..SearchTarget::default() }).unwrap();
        let (report, bytes) = followed(&base, &found.recipe, (&model, read, &fisher));
        if let Some(folder) = options.iter().find_map(|option| option.strip_prefix("--save=")) {
            let path = Path::new(folder).join(format!("{ratio}x.safetensors"));
            std::fs::write(&path, &bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
        let compressed = open(bytes).model().unwrap();
        let limit = has("--tiny").then_some(512);
        let options = CompareOptions { window: Some(256), limit, ..CompareOptions::default() };
        let card = run(Compare::new(&model, &compressed, &test, options, || 0.0).unwrap(), |_| {}).unwrap();
        println!(
            "{:.2}x  predicted KL {:.4} {:+.2} %  measured KL {:.4} {:+.2} %",
            report.plan.bytes.ratio,
            found.chosen.kl,
            found.chosen.perplexity_change,
            card.kl.mean,
            card.perplexity_change
        );
        for tensor in report.plan.tensors.iter().filter(|tensor| has("--tensors") && tensor.params >= 1024) {
            let bits = 8.0 * tensor.bytes_after as f64 / tensor.params as f64;
            println!("  {:40} {:8} bytes {bits:.2} bits", tensor.name, tensor.bytes_after);
        }
    }
}
