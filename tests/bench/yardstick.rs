//! Compresses a model by every yardstick method and evaluates the produced bytes on a
//! text of token ids, next to the published figures.
//!
//! ```text
//! cargo run --release -p statepress-tests --example yardstick -- ids.u16.bin [MODEL-NAME/model.safetensors] [--tiny]
//! ```
//!
//! The published perplexities are of the whole WikiText-2 test text in windows of 256. `--tiny` evaluates two
//! windows only, to see that everything runs.

use std::path::PathBuf;

use statepress::{Checkpoint, Clock, Evaluate, EvaluateOptions, OpenOptions, run};
use statepress_tests::files::{demo, fixture, open};
use statepress_tests::yardstick::yardstick;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (tiny, paths): (Vec<_>, Vec<_>) = std::env::args().skip(1).partition(|argument| argument == "--tiny");
    let mut paths = paths.into_iter();
    let path = paths.next().ok_or("usage: yardstick ids.u16.bin [MODEL-NAME/model.safetensors] [--tiny]")?;
    let model = paths.next().map_or_else(|| demo().join("model.safetensors"), PathBuf::from);
    let name = model.parent().and_then(|folder| folder.file_name()).ok_or("the model has no folder")?;
    let bytes = std::fs::read(path)?;
    let ids: Vec<u32> = bytes.as_chunks().0.iter().map(|bytes| u16::from_le_bytes(*bytes).into()).collect();

    let json: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(fixture("trained/yardstick.json"))?)?;
    let rows = json["models"][name.to_string_lossy().as_ref()]["rows"].as_array();
    let rows = rows.ok_or("the yardstick knows no model of that name")?;
    let checkpoint = open(&model, &[]);
    println!(
        "{:36} {:>9} {:>9} {:>9} {:>9} {:>8} {:>8}",
        "method", "bytes", "published", "ppl", "published", "differ %", "tokens/s"
    );
    for (name, recipe) in yardstick() {
        let row =
            rows.iter().find(|row| row["variant"] == name).ok_or("a method that is not in the yardstick")?;
        let (job, produced) = checkpoint.compress_to_memory(&recipe)?;
        run(job, |_| {})?;
        let model = Checkpoint::open(produced.take(), OpenOptions::default())?.model()?;
        let limit = (!tiny.is_empty()).then_some(512);
        let options = EvaluateOptions { window: Some(256), limit, ..EvaluateOptions::default() };
        let found = run(Evaluate::new(&model, &ids, &options, Clock::default().seconds())?, |_| {})?;
        let published = row["ppl"].as_f64().ok_or("a row without perplexity")?;
        println!(
            "{name:36} {:>9} {:>9} {:>9.3} {published:>9.3} {:>8.3} {:>8.1}",
            model.info.bytes,
            row["bytes"],
            found.perplexity,
            100.0 * (found.perplexity / published - 1.0),
            found.tokens_per_second
        );
    }
    Ok(())
}
