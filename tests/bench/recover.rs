//! Recovers compressed checkpoints by training, and measures them on a text before and after.
//!
//! ```text
//! cargo run --release -p statepress-distill-tests --example recover -- TRAIN.u16.bin TEST.u16.bin ORIGINAL COMPRESSED... [--uncoded=FILE] [--weights=all|vectors] [--steps=500] [--batch=2] [--alpha=1] [--rate=R] [--seed=0] [--held-out=4097] [--save=FOLDER] [--tiny]
//! ```
//!
//! `ORIGINAL` is a folder, `COMPRESSED` are files, as the example `search` leaves them, and `--uncoded` names the file that they
//! were rounded from where that is not the original; the texts are token ids. The last
//! `--held-out` ids of the training text judge while training, and the test text is read only to measure. `--rate` is chosen by
//! bits a weight where it is left out. `--tiny` trains ten steps on little text.

use std::path::Path;
use std::sync::LazyLock;
use std::time::Instant;

use statepress_core::job::{self, Job};
use statepress_distill::{
    Device, Distill, Mixture, Objective, Student, Teacher, TrainOptions, Trains, rounded_rate,
};
use statepress_distill_tests::{Opened, Written};
use statepress_engine::eval::{Compare, CompareOptions};
use statepress_engine::models::Model;

const USAGE: &str = "usage: recover TRAIN.u16.bin TEST.u16.bin ORIGINAL COMPRESSED... [--uncoded=FILE] [--weights=all|vectors] [--steps=500] [--batch=2] [--alpha=1] [--rate=R] [--seed=0] [--held-out=4097] [--save=FOLDER] [--tiny]";

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

fn clock() -> f64 {
    START.elapsed().as_secs_f64()
}

fn ids(path: &str) -> Vec<u32> {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    bytes.as_chunks().0.iter().map(|bytes| u16::from_le_bytes(*bytes).into()).collect()
}

/// Bytes of all tensors.
fn bytes(of: &Opened) -> u64 {
    of.index.tensors.iter().filter(|it| it.tied_to.is_none()).map(|it| it.bytes()).sum()
}

/// Says how far a model is from the original on a text.
fn measure(what: &str, original: &Model, file: &Opened, test: &[u32], bytes_before: u64) {
    let options = CompareOptions { window: Some(256), ..CompareOptions::default() };
    let compare = Compare::new(original, &file.engine(), test, options, clock).unwrap();
    let card = pollster::block_on(job::run(compare, |_| ())).unwrap();
    let bytes = bytes(file);
    println!(
        "{what}: {bytes} bytes, {:.2}x  KL {:.4}  {:+.2} %",
        bytes_before as f64 / bytes as f64,
        card.kl.mean,
        card.perplexity_change
    );
}

fn main() {
    let (options, paths): (Vec<_>, Vec<_>) =
        std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
    let [train, test, folder, files @ ..] = paths.as_slice() else { panic!("{USAGE}") };
    let option = |name: &str| options.iter().find_map(|it| it.strip_prefix(&format!("--{name}=")));
    let number = |name: &str| option(name).map(|value| value.parse::<f64>().expect(USAGE));
    let tiny = options.iter().any(|option| option == "--tiny");
    let (mut train, mut test) = (ids(train), ids(test));
    if tiny {
        train.truncate(4096);
        test.truncate(512);
    }
    let held_out = number("held-out").map_or(if tiny { 129 } else { 4097 }, |count| count as usize);
    let (text, held_out) = train.split_at(train.len() - held_out.min(train.len()));
    let original = Opened::folder(Path::new(folder));
    let model = original.engine();
    let bytes_before = bytes(&original);
    let open = |file: &str| {
        Opened::new(std::fs::read(file).unwrap_or_else(|error| panic!("{file}: {error}")), None, &[])
    };
    for file in files {
        let compressed = open(file);
        measure(&format!("{file} before"), &model, &compressed, &test, bytes_before);
        let rate = number("rate").unwrap_or_else(|| rounded_rate(&compressed.index));
        let steps = number("steps").map_or(if tiny { 10 } else { 500 }, |steps| steps as usize);
        let usual = TrainOptions::default();
        let options = TrainOptions {
            steps,
            batch: number("batch").map_or(usual.batch, |batch| batch as usize),
            window: if tiny { 64 } else { usual.window },
            objective: Objective {
                mixture: Mixture { alpha: number("alpha").unwrap_or(1.0), temperature: 1.0 },
                balance: 0.0,
            },
            trains: match option("weights").unwrap_or("all") {
                "all" => Trains::Rounded,
                "vectors" => Trains::Vectors,
                _ => panic!("{USAGE}"),
            },
            learning_rate: rate,
            warm_up: 10.min(steps - 1),
            validate_every: (steps / 5).max(1),
            seed: number("seed").unwrap_or(0.0) as u64,
            ..usual
        };
        let (sink, written) = Written::new();
        let mut run = Distill::<Model>::new(
            Student {
                uncoded: option("uncoded").map(|file| open(file).checkpoint()),
                ..compressed.checkpoint().into()
            },
            // Natively its logits are made twice as fast where the student's are.
            (Teacher::Numbers(original.trainable(Device::Flex)), &original.checkpoint()),
            (text, held_out),
            options,
            Device::Flex,
            Box::new(sink),
            clock,
        )
        .unwrap();
        let started = clock();
        let mut shown = 0;
        let done = pollster::block_on(async {
            while run.step().await.unwrap().is_some() {
                for point in &run.curve()[shown..] {
                    println!(
                        "  step {:4}  {:6.1} s  loss {:.5}  held out KL {:.5}, perplexity {:.3}",
                        point.step,
                        point.seconds,
                        point.loss.unwrap_or(f64::NAN),
                        point.kl.unwrap_or(f64::NAN),
                        point.perplexity
                    );
                    shown += 1;
                }
            }
            run.finish().unwrap()
        });
        println!(
            "  rate {rate:.2e}, {steps} steps in {:.1} s, best at {}, {:.2} % of the codes changed",
            clock() - started,
            done.training.best.step,
            100.0 * done.training.codes_changed.unwrap_or(0.0)
        );
        for finding in &done.written.plan.findings {
            println!("  {}: {}", finding.code, finding.message);
        }
        let written = written.take();
        if let Some(folder) = option("save") {
            let name = Path::new(file).file_name().expect(USAGE);
            let path = Path::new(folder).join(name);
            std::fs::write(&path, &written).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
        let recovered = Opened::new(written, None, &[]);
        measure(&format!("{file} after"), &model, &recovered, &test, bytes_before);
    }
}
