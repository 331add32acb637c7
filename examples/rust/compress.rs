//! Opens a checkpoint, compresses it and compares the two: `cargo run --release --example compress`.

use statepress::{Checkpoint, Clock, Compare, CompareOptions, Error, FileSource, OpenOptions, recipes, run};

fn main() -> Result<(), Error> {
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/itera-tiny/model.safetensors");
    let base = Checkpoint::open(FileSource::open(demo)?, OpenOptions::default())?;
    println!("{}, {} parameters", base.inspection().family, base.inspection().params);

    // One tensor a step: show progress, stop whenever you like.
    let (job, bytes) = base.compress_to_memory(&recipes::find("mixed")?)?;
    let report = run(job, |progress| eprint!("\r{} of {} tensors", progress.done, progress.total))?;
    eprintln!();
    println!(
        "{} -> {} bytes, {:.2}x",
        report.plan.bytes.before, report.plan.bytes.after, report.plan.bytes.ratio
    );

    // What is compared is what was produced. Token ids come from your tokenizer; these repeat.
    let compressed = Checkpoint::open(bytes.take(), OpenOptions::default())?;
    let ids: Vec<u32> = (0..1024).map(|i| 300 + (i * i) % 700).collect();
    let (a, b) = (base.model()?, compressed.model()?);
    let job = Compare::new(&a, &b, &ids, CompareOptions::default(), Clock::default().seconds())?;
    let card = run(job, |_| {})?;
    println!("mean KL {:.2e}, top-1 agreement {:.3}", card.kl.mean, card.top1_agreement);
    Ok(())
}
