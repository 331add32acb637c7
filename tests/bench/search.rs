//! Searches for the best recipe at several sizes, carries them out, and puts what was predicted beside what is measured.
//!
//! ```text
//! cargo run --release -p statepress-tests --example search -- CALIBRATION.u16.bin TEST.u16.bin MODEL RATIO... [--coded] [--fast] [--tiny]
//! ```
//!
//! `MODEL` is a folder; the texts are token ids. The first 16,384 ids of the calibration text are read: the last quarter
//! of them judges while searching. `--tiny` searches fast and measures two windows only.

use std::path::Path;
use std::time::Instant;

use statepress::report::SearchTarget;
use statepress::{Checkpoint, Compare, CompareOptions, CostsOptions, MemorySink, OpenOptions, allocate, run};
use statepress_tests::files::open_folder;

const USAGE: &str =
    "usage: search CALIBRATION.u16.bin TEST.u16.bin MODEL RATIO... [--coded] [--fast] [--tiny]";

fn ids(path: &str) -> Vec<u32> {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    bytes.as_chunks().0.iter().map(|bytes| u16::from_le_bytes(*bytes).into()).collect()
}

fn main() {
    let (options, paths): (Vec<_>, Vec<_>) =
        std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
    let [calibration, test, folder, ratios @ ..] = paths.as_slice() else { panic!("{USAGE}") };
    let has = |name: &str| options.iter().any(|option| option == name);
    let (calibration, test) = (ids(calibration), ids(test));
    let (read, judged) =
        calibration[..calibration.len().min(1 << 14)].split_at(calibration.len().min(1 << 14) / 4 * 3);
    let base = open_folder(Path::new(folder));
    let model = base.model().unwrap();

    let started = Instant::now();
    let how = CostsOptions {
        fast: has("--fast") || has("--tiny"),
        coded: has("--coded"),
        ..CostsOptions::default()
    };
    let costs = run(base.search_costs(&model, (read, judged), &how).unwrap(), |_| {}).unwrap();
    println!("costs of {} tensors: {:.1} s", costs.tensors.len(), started.elapsed().as_secs_f64());
    for tensor in &costs.tensors {
        let measured = tensor.choices.iter().filter(|it| it.measured);
        let bits = |bytes: u64| 8.0 * bytes as f64 / tensor.params as f64;
        let choices =
            measured.map(|it| format!("{} {:.2} bits {:.2e}", it.precision.name(), bits(it.bytes), it.kl));
        println!("  {:40} {}", tensor.tensor, choices.collect::<Vec<_>>().join("  "));
    }
    for ratio in ratios {
        let ratio = ratio.parse().expect(USAGE);
        let found =
            allocate(&costs, &SearchTarget { ratio: Some(ratio), ..SearchTarget::default() }).unwrap();
        let sink = MemorySink::default();
        let job = base.compress_calibrated(&found.recipe, Box::new(sink.clone()), &model, read).unwrap();
        let report = run(job, |_| {}).unwrap();
        let compressed = Checkpoint::open(sink.take(), OpenOptions::default()).unwrap().model().unwrap();
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
    }
}
