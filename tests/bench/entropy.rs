//! What the entropy coder makes of codes, natively: bits of a code beside what they could be, and how fast it is.
//!
//! ```text
//! cargo run --release -p statepress-tests --example entropy -- [model.safetensors...] [--tiny]
//! ```
//!
//! Normally distributed codes first, then every matrix of the models (the demo's, if none is named), rounded to 8 bits with
//! a scale a row, to 4 bits in groups of 64, and to a step that gives about 2.5 bits. `kernels/bench.mjs` has the same in
//! WebAssembly. `--tiny` takes small matrices and measures once, to see that everything runs.

use std::hint::black_box;
use std::path::PathBuf;
use std::time::Instant;

use statepress_formats::FormatError;
use statepress_formats::entropy::{Decoder, encode};
use statepress_tests::codes::{conditional_entropy, entropy, normal, rounded};
use statepress_tests::files::demo;
use statepress_tests::golden::Golden;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (tiny, paths): (Vec<_>, Vec<_>) = std::env::args().skip(1).partition(|argument| argument == "--tiny");
    let (rows, times) = if tiny.is_empty() { (8000, 12) } else { (200, 1) };
    println!(
        "{:40} {:>9} {:>8} {:>8} {:>8} {:>9} {:>9}",
        "codes", "number", "bits", "entropy", "by class", "Mcodes/s", "encoding"
    );
    for (name, deviation) in [("0.5 bits", 0.28), ("2.5 bits", 1.37), ("4 bits", 3.87), ("7 bits", 31.0)] {
        for (classes, spread) in [("one class", false), ("many classes", true)] {
            let mut sum = Sum::default();
            sum.add(&normal(rows, 128, deviation, spread), 128, times)?;
            sum.print(&format!("{name}, {classes}"));
        }
    }
    let models = if paths.is_empty() {
        vec![demo().join("model.safetensors")]
    } else {
        paths.into_iter().map(PathBuf::from).collect()
    };
    for path in models {
        let model = Golden::open(&path);
        let name = path.parent().and_then(|folder| folder.file_name()).unwrap_or_default().to_string_lossy();
        let (mut int8, mut int4, mut steps) = (Sum::default(), Sum::default(), Sum::default());
        for tensor in model.names() {
            let shape = model.shape(&tensor);
            let Some(&cols) = shape.last().filter(|_| shape.len() > 1) else { continue };
            let values = model.f32(&tensor);
            if cols < 8 || !tiny.is_empty() && values.len() > 100_000 {
                continue;
            }
            int8.add(&rounded(&values, cols, 0, 127.0), cols, times)?;
            if cols % 64 == 0 {
                int4.add(&rounded(&values, cols, 64, 7.0), cols, times)?;
            }
            let square = values.iter().map(|value| value * value).sum::<f32>() / values.len() as f32;
            let step = 0.73 * square.sqrt();
            let codes: Vec<i16> = values.iter().map(|value| (value / step).round() as i16).collect();
            steps.add(&codes, cols, times)?;
        }
        int8.print(&format!("{name}, int8"));
        int4.print(&format!("{name}, int4 in groups of 64"));
        steps.print(&format!("{name}, one step a matrix"));
    }
    Ok(())
}

/// What was found, of several matrices.
#[derive(Default)]
struct Sum {
    codes: f64,
    bits: f64,
    entropy: f64,
    conditional: f64,
    decoding: f64,
    encoding: f64,
}

impl Sum {
    fn add(&mut self, codes: &[i16], cols: usize, times: u32) -> Result<(), FormatError> {
        let rows = codes.len() / cols;
        let start = Instant::now();
        let stream = encode(codes, rows, cols)?;
        self.encoding += start.elapsed().as_secs_f64();
        let mut panel = vec![0; 8 * cols];
        let mut best = f64::INFINITY;
        for _ in 0..times {
            let start = Instant::now();
            let mut decoder = Decoder::new(black_box(&stream), rows, cols)?;
            for at in (0..rows).step_by(8) {
                decoder.read(&mut panel[..cols * (rows - at).min(8)])?;
                black_box(&panel);
            }
            best = best.min(start.elapsed().as_secs_f64());
        }
        self.decoding += best;
        self.codes += codes.len() as f64;
        self.bits += 8.0 * stream.len() as f64;
        self.entropy += entropy(codes.iter().copied());
        self.conditional += conditional_entropy(codes, cols);
        Ok(())
    }

    fn print(&self, name: &str) {
        println!(
            "{name:40} {:>9} {:>8.4} {:>8.4} {:>8.4} {:>9.2} {:>9.2}",
            self.codes,
            self.bits / self.codes,
            self.entropy / self.codes,
            self.conditional / self.codes,
            self.codes / self.decoding / 1e6,
            self.codes / self.encoding / 1e6
        );
    }
}
