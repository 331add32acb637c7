//! Finds the best recipe for a size: `cargo run --release --example best`.

use statepress::report::SearchTarget;
use statepress::{Checkpoint, Error, FileSource, OpenOptions, SearchOptions};

fn main() -> Result<(), Error> {
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/itera-tiny/model.safetensors");
    let base = Checkpoint::open(FileSource::open(demo)?, OpenOptions::default())?;

    // Token ids come from your tokenizer; these repeat. Three quarters are read, the rest judges.
    let ids: Vec<u32> = (0..2048).map(|i| 300 + (i * i) % 700).collect();
    let target = SearchTarget { ratio: Some(8.0), ..SearchTarget::default() };
    let options = SearchOptions { fast: true, ..SearchOptions::default() };
    let found = base.search(&ids, &target, &options, |progress| {
        eprint!("\r{}: {} of {} {}   ", progress.stage, progress.done, progress.total, progress.unit);
    })?;
    eprintln!();

    let bytes = found.report.plan.bytes;
    println!("{} -> {} bytes, {:.2}x", bytes.before, bytes.after, bytes.ratio);
    println!("KL predicted {:.4}, measured {:.4}", found.predicted.kl, found.measured.kl);
    // `found.bytes` is a safetensors file, and `found.recipe` makes it again.
    println!("{}: chosen of {} tensors and classes of rows", found.recipe.name, found.costs.tensors.len());
    Ok(())
}
