//! Rounds every matrix of a model by plain rounding, by clip search and with compensation, and measures
//! perplexity and divergence of the results.
//!
//! ```text
//! cargo run --release -p statepress-tests --example calibrate -- CALIBRATION.u16.bin TEST.u16.bin MODEL [--windows=16] [--only=METHOD] [--limit=TOKENS] [--tiny]
//! ```
//!
//! `MODEL` is a folder; the texts are token ids. All matrices become NF4 in blocks of 64 with FP16 absmax,
//! but for small ones: state matrices, routers and taps are INT8 by rows; everything else is FP16. All
//! bytes but the container's header are counted. `--tiny` measures two windows only.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use statepress::program::{Layout, MatrixId, Program};
use statepress::{Checkpoint, Clock, Compare, CompareOptions, Loaded, Model, OpenOptions, run};
use statepress_core::encoding::ScaleType;
use statepress_core::{Grid, Role, tables};
use statepress_engine::calibrate::{
    Measured, Probe, Sample, Statistics, StatisticsOptions, head_rows, lookup_substitute,
};
use statepress_kernels::codecs::Clip;
use statepress_kernels::codecs::levels::{Integers, Quantizer, Table};
use statepress_kernels::gptq::{Groups, Options, Prepared, fitted};
use statepress_tests::edit::Edit;
use statepress_tests::files::open_folder;

const BLOCK: usize = 64;

/// How matrices are rounded.
#[derive(Clone, Copy, Debug)]
enum Method {
    Scales(Clip),
    Compensated(usize),
}

struct Bench {
    base: Model,
    edit: Edit,
    measured: BTreeMap<MatrixId, Measured>,
    /// H of the table, and of positions, where something is known.
    lookups: BTreeMap<MatrixId, Vec<f32>>,
}

fn ids(path: &Path) -> Vec<u32> {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    bytes.as_chunks().0.iter().map(|bytes| u16::from_le_bytes(*bytes).into()).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn is_small(role: Role) -> bool {
    matches!(role, Role::StateMatrix | Role::Router)
}

impl Bench {
    fn program(&self) -> Rc<Program> {
        self.base.info().program.clone()
    }

    /// The compressed model with float32 weights, and the bytes it would have.
    fn rounded(&self, method: Method, only: Option<Role>) -> (Checkpoint, usize) {
        let (edit, total) = self.edited(method, only);
        (Checkpoint::open(edit.write(), OpenOptions::default()).unwrap(), total)
    }

    fn edited(&self, method: Method, only: Option<Role>) -> (Edit, usize) {
        let program = self.program();
        let mut edit = self.edit.clone();
        let (mut total, mut done) = (0, Vec::new());
        let grid = Table::new(&tables::NF4, ScaleType::Fp16);
        for id in program.used_matrices() {
            let matrix = program.matrix(id);
            let stored = edit.tensor(&matrix.key);
            let values = floats(&stored.bytes);
            let (rows, cols) = (matrix.rows, matrix.cols);
            done.push(matrix.key.clone());
            if only.is_some_and(|role| role != matrix.role) {
                continue;
            }
            assert!(!matches!(matrix.layout, Layout::Part { .. }), "parts are not measured here");
            let transposed = matrix.layout == Layout::Transposed;
            let eight = is_small(matrix.role);
            let group = if eight { cols } else { BLOCK.min(cols) };
            let groups = Groups { rows, cols, group, transposed };
            total += if eight { values.len() } else { values.len().div_ceil(2) } + 2 * groups.count();
            let values = if eight {
                plain(&values, &Integers::new(Grid::Int8, ScaleType::Fp16), &groups, Clip::Absmax, &[])
            } else {
                self.matrix(id, &values, &grid, &groups, method)
            };
            stored.bytes = bytes(&values);
        }
        for stored in &mut edit.0 {
            if done.contains(&stored.name) || stored.name == "lm_head.weight" || only.is_some() {
                continue;
            }
            let mut values = floats(&stored.bytes);
            if stored.name.contains("conv1d.weight") {
                // [C, 1, k], by taps.
                let (channels, k) = (stored.shape[0], stored.shape[2]);
                total += values.len() + 2 * k;
                let groups = Groups { rows: k, cols: channels, group: channels, transposed: false };
                let taps: Vec<f32> = (0..k).flat_map(|j| values.iter().skip(j).step_by(k).copied()).collect();
                let taps =
                    plain(&taps, &Integers::new(Grid::Int8, ScaleType::Fp16), &groups, Clip::Absmax, &[]);
                for (at, value) in values.iter_mut().enumerate() {
                    *value = taps[at % k * channels + at / k];
                }
            } else {
                total += 2 * values.len();
                let half =
                    |value: &mut f32| *value = Integers::new(Grid::Int8, ScaleType::Fp16).store(*value);
                values.iter_mut().for_each(half);
            }
            stored.bytes = bytes(&values);
        }
        (edit, total)
    }

    fn matrix(
        &self,
        id: MatrixId,
        values: &[f32],
        grid: &Table,
        groups: &Groups,
        method: Method,
    ) -> Vec<f32> {
        let d = groups.cols;
        let h = match self.lookups.get(&id) {
            Some(h) => Some(h),
            None => self.measured.get(&id).map(|measured| &measured.h),
        };
        match (method, h) {
            (Method::Scales(fit), Some(h)) => plain(values, grid, groups, fit, h),
            (Method::Compensated(passes), Some(h)) => {
                let program = self.program();
                let key = &program.matrix(id).key;
                let prepared = Prepared::new(h, d, 0.01, key);
                let rounded =
                    prepared.round(values, grid, *groups, &Options { passes, ..Options::default() });
                for finding in &rounded.findings {
                    println!("  {key}: {}: {}", finding.code, finding.message);
                }
                rounded.values(grid, groups.group)
            }
            (Method::Scales(clip), None) if clip != Clip::Weighted => plain(values, grid, groups, clip, &[]),
            (_, None) => plain(values, grid, groups, Clip::Absmax, &[]),
        }
    }
}

/// Rounds every weight by itself.
fn plain(values: &[f32], grid: &impl Quantizer, groups: &Groups, fit: Clip, h: &[f32]) -> Vec<f32> {
    let scales = fitted(values, grid, groups, h, fit);
    let round = |(at, value): (usize, &f32)| {
        let scale = scales[at / groups.group];
        grid.nearest(value * (1.0 / scale)) * scale
    };
    values.iter().enumerate().map(round).collect()
}

fn main() {
    let (options, paths): (Vec<_>, Vec<_>) =
        std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
    let [calibration, test, folder] = paths.as_slice() else {
        panic!(
            "usage: calibrate CALIBRATION.u16.bin TEST.u16.bin MODEL [--windows=16] [--only=METHOD] [--limit=TOKENS] [--tiny]"
        )
    };
    let option = |name: &str| options.iter().find_map(|option| option.strip_prefix(name));
    let count = option("--windows=").map_or(16, |count| count.parse().unwrap());
    let limit = option("--tiny").map(|_| 512).or(option("--limit=").map(|limit| limit.parse().unwrap()));
    let (calibration, test) = (ids(Path::new(calibration)), ids(Path::new(test)));
    let folder = PathBuf::from(folder);
    let checkpoint = open_folder(&folder);
    let base = checkpoint.model().unwrap();
    let program = base.info().program.clone();
    let edit = Edit::folder(&folder);
    let whole: usize = edit.0.iter().map(|stored| stored.bytes.len()).sum();

    let started = Instant::now();
    let wanted: Vec<MatrixId> = program.used_matrices().collect();
    let sample = Sample { windows: count, window: 256 };
    let covariance_of = head_rows(&base).map(Rc::new);
    let job = Statistics::new(
        &base,
        &calibration,
        &wanted,
        &StatisticsOptions { sample, covariance_of, ..StatisticsOptions::default() },
    );
    let job = job.unwrap();
    let read = job.windows().to_vec();
    let measured = run(job, |_| {}).unwrap();
    println!("statistics of {count} windows: {:.1} s", started.elapsed().as_secs_f64());
    let measured = measured.into_iter().map(|measured| (measured.matrix, measured)).collect();
    let mut bench = Bench { base, edit, measured, lookups: BTreeMap::new() };
    let head = bench.measured[&program.head.matrix].head.clone().unwrap();

    let compare = |bench: &Bench, name: &str, checkpoint: &Checkpoint, bytes: usize, limit: Option<usize>| {
        let model = checkpoint.model().unwrap();
        let options = CompareOptions { window: Some(256), limit, ..CompareOptions::default() };
        let clock = Clock::default().seconds();
        let found = run(Compare::new(&bench.base, &model, &test, options, clock).unwrap(), |_| {}).unwrap();
        println!(
            "{name:34} {bytes:>9} bytes {:>6.3}x  ppl {:.3}  {:+.3} %  KL {:.5}",
            whole as f64 / bytes.max(1) as f64,
            found.b.perplexity,
            found.perplexity_change,
            found.kl.mean
        );
        found.kl.mean
    };
    let only = option("--only=");
    let go = |bench: &Bench, name: &str, method: Method| {
        if only.is_some_and(|only| !name.contains(only)) {
            return;
        }
        let started = Instant::now();
        let (checkpoint, bytes) = bench.rounded(method, None);
        let seconds = started.elapsed().as_secs_f64();
        compare(bench, &format!("{name} ({seconds:.1} s)"), &checkpoint, bytes, limit);
    };
    go(&bench, "absmax", Method::Scales(Clip::Absmax));
    go(&bench, "mse", Method::Scales(Clip::Mse));
    go(&bench, "weighted", Method::Scales(Clip::Weighted));
    go(&bench, "gptq E[hh^T]", Method::Compensated(0));
    go(&bench, "gptq+ E[hh^T]", Method::Compensated(2));
    bench.lookups.insert(program.table, head.h.clone());
    go(&bench, "gptq H_head", Method::Compensated(0));
    go(&bench, "gptq+ H_head", Method::Compensated(2));

    // What the look-up feels: the shape of a substitute, whose size one probe says.
    let model = bench.base.clone();
    let f = lookup_substitute(&model, head.covariance.as_ref().unwrap());
    let started = Instant::now();
    let probe = Probe::new(&model, &head.alpha, &read).unwrap();
    let probed = run(probe, |_| {}).unwrap();
    let size = probed.size(&head.h, &f);
    println!(
        "probe of the table: KL {:.5}; F_in is {size:?} times the substitute of mean 1 ({:.1} s)",
        probed.kl,
        started.elapsed().as_secs_f64()
    );
    let Some(size) = size else { return };
    let both = head.h.iter().zip(&f).map(|(h, f)| h + size as f32 * f).collect();
    bench.lookups.insert(program.table, both);
    if let Some(positions) = program.used_matrices().find(|id| program.matrix(*id).role == Role::Positions) {
        bench.lookups.insert(positions, f);
    }
    go(&bench, "gptq+ H_head + substitute", Method::Compensated(2));
}
