//! Fuzzes the readers: files of the fixtures are mutated where it hurts, opened, and every tensor is read; and so are
//! entropy-coded streams.
//!
//! ```text
//! cargo run -p statepress-tests --example fuzz -- [--seconds N] [--seed N] [--input N]
//! ```
//!
//! A panic, more than [`SECONDS`] or more than the memory that a file of its size justifies ends it with exit code 1 and
//! says which input it was: `--seed S --input N` makes the same one again. No input depends on the clock or the machine.

mod corpus;
mod mutate;
mod streams;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use peak_alloc::PeakAlloc;
use statepress_core::Source;
use statepress_core::index::Stored;
use statepress_formats::{Choice, Fit, Key, Whole, open_with, read_tensor};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Seconds that one input may take.
const SECONDS: u64 = 20;

/// Bytes that opening may take beside what the file justifies: chunks, messages, tables of this crate.
const OPEN_BYTES: usize = 8 << 20;

/// Bytes that opening may take for each byte of the file: a value of a pickle is one byte and takes a node.
const OPEN_FACTOR: usize = 400;

/// Numbers of a tensor that is read: larger ones are legal (expanded masks), and only cost time.
const NUMBERS: u64 = 1 << 20;

/// Names of weights by which a file is opened again.
const NAMED: usize = 3;

/// What an input did.
#[derive(Default)]
struct Tally {
    inputs: u64,
    opened: u64,
    tensors: u64,
    streams: u64,
    slowest: Duration,
    peak: usize,
}

fn main() -> ExitCode {
    let mut seconds = 60;
    let mut seed = 1;
    let mut only = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().and_then(|value| value.parse().ok());
        match (name.as_str(), value) {
            ("--seconds", Some(value)) => seconds = value,
            ("--seed", Some(value)) => seed = value,
            ("--input", Some(value)) => only = Some(value),
            _ => {
                eprintln!("usage: fuzz [--seconds N] [--seed N] [--input N]");
                return ExitCode::from(2);
            }
        }
    }
    let corpus = corpus::load();
    let streams = streams::Streams::load();
    println!("{} files, seed {seed}, {seconds} seconds", corpus.len());
    // What panics is caught and told with its input.
    std::panic::set_hook(Box::new(|_| {}));
    let begin = Instant::now();
    let mut tally = Tally::default();
    let mut input: u64 = only.unwrap_or(0);
    while begin.elapsed() < Duration::from_secs(seconds) || only.is_some() {
        let mut random = fastrand::Rng::with_seed(seed ^ input.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let (name, result) = if random.u8(..4) == 0 {
            tally.streams += 1;
            ("a stream", streams.run(&mut random, peak))
        } else {
            let (name, bytes) = mutate::mutated(&corpus, &mut random);
            (name, run(&bytes, &mut tally))
        };
        if let Err(why) = result {
            eprintln!("{why}\nfrom {name}; again with --seed {seed} --input {input}");
            return ExitCode::FAILURE;
        }
        input += 1;
        if only.is_some() {
            break;
        }
    }
    println!(
        "{} files, {} opened, {} tensors read, slowest {:?}, most memory {} bytes; {} streams\n\
         test result: ok. 1 passed; 0 failed",
        tally.inputs, tally.opened, tally.tensors, tally.slowest, tally.peak, tally.streams
    );
    ExitCode::SUCCESS
}

/// To whom everything is a model, and the more the better: whatever can be put together is.
fn eager(path: Option<&str>) -> Choice<'_> {
    let fit: &dyn Fn(&[Key<'_>]) -> Fit = &|keys| Fit { whole: Whole::No, read: keys.len() };
    Choice { config: None, path, is_model: &|keys| keys.len() > 1, fit }
}

/// The most memory that was taken while `work` ran.
fn peak(work: &mut dyn FnMut()) -> usize {
    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage();
    work();
    ALLOCATOR.peak_usage().saturating_sub(before)
}

/// Opens one input and reads what it holds.
fn run(file: &dyn Source, tally: &mut Tally) -> Result<(), String> {
    let start = Instant::now();
    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage();
    let opened = catch_unwind(AssertUnwindSafe(|| open_with(file, &eager(None))));
    let opened = opened.map_err(|panic| format!("opening panicked: {}", words(&*panic)))?;
    let peak = ALLOCATOR.peak_usage().saturating_sub(before);
    let allowed = OPEN_BYTES + OPEN_FACTOR * file.len() as usize;
    if peak > allowed {
        return Err(format!(
            "opening {} bytes took {peak} bytes of memory, allowed are {allowed}",
            file.len()
        ));
    }
    tally.peak = tally.peak.max(peak);
    tally.inputs += 1;
    match opened {
        Ok(index) => {
            tally.opened += 1;
            for at in index.weights.iter().take(NAMED) {
                let again = catch_unwind(AssertUnwindSafe(|| open_with(file, &eager(Some(&at.path)))));
                let again =
                    again.map_err(|panic| format!("opening `{}` panicked: {}", at.path, words(&*panic)))?;
                if let Ok(again) = again
                    && again.wrapper != at.path
                {
                    return Err(format!("`{}` was asked for, `{}` was opened", at.path, again.wrapper));
                }
            }
            if index.tensors.is_empty() {
                return Err("it opened without a tensor".into());
            }
            // What coding turns is read by other code: what is stored as numbers is enough here.
            for entry in index.tensors.iter().filter(|entry| entry.params() <= NUMBERS).take(200) {
                let read = catch_unwind(AssertUnwindSafe(|| read_tensor(file, entry)));
                let read =
                    read.map_err(|panic| format!("reading `{}` panicked: {}", entry.name, words(&*panic)))?;
                if let (Ok(tensor), Stored::Strided(_)) = (&read, &entry.stored)
                    && tensor.shape != entry.shape
                {
                    return Err(format!("`{}` has another shape than its entry", entry.name));
                }
                tally.tensors += u64::from(read.is_ok());
            }
        }
        Err(error) if error.to_string().is_empty() => return Err("an error says nothing".into()),
        Err(_) => {}
    }
    let elapsed = start.elapsed();
    if elapsed > Duration::from_secs(SECONDS) {
        return Err(format!("it took {elapsed:?}"));
    }
    tally.slowest = tally.slowest.max(elapsed);
    Ok(())
}

fn words(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no words")
}
