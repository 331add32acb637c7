//! Calibration: eigenvectors against LAPACK's, GPTQ+ against a second one, written in PyTorch from the definition, and against plain
//! loops where scales are shared in other ways; statistics against what the model's own taps add up.

use std::collections::BTreeMap;

use statepress::program::MatrixId;
use statepress::{Loaded, Observe, Workspace, run};
use statepress_core::encoding::ScaleType;
use statepress_core::{Grid, tables};
use statepress_engine::calibrate::passes::{Group, groups, plan, products};
use statepress_engine::calibrate::{Sample, Statistics, StatisticsOptions, entered};
use statepress_kernels::codecs::Clip;
use statepress_kernels::codecs::levels::{Integers, Quantizer, Table};
use statepress_kernels::eigen;
use statepress_kernels::gptq::{Groups, Options, Prepared, fitted};
use statepress_kernels::linear::outer;
use statepress_tests::families::samples;
use statepress_tests::files::{fixture, open_folder};
use statepress_tests::golden::{Golden, assert_close};

/// The least share of codes that have to be those of the other implementation: float32 and float64 do
/// not break every tie alike.
const EQUAL_CODES: f64 = 0.999;

/// The most that the losses may differ, relatively.
const LOSS: f64 = 1e-4;

#[test]
fn eigenvectors_are_those_of_lapack() {
    let golden = Golden::open(&fixture("cases/calibrate/eigen.safetensors"));
    for name in ["any", "gram"] {
        let of = |part: &str| golden.f64(&format!("{name}/{part}"));
        let (a, values, vectors) = (of("a"), of("values"), of("vectors"));
        let (found, n) = (eigen::symmetric(&a, values.len()).unwrap(), values.len());
        let largest = values.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
        for (at, (found, value)) in found.values.iter().zip(&values).enumerate() {
            assert!((found - value).abs() < 1e-13 * largest, "{name} {at}: {found}, not {value}");
        }
        // A vector is as well known as its value is far from the others.
        for (at, (found, vector)) in found.vectors.chunks(n).zip(vectors.chunks(n)).enumerate() {
            let others = values.iter().enumerate().filter(|(other, _)| *other != at);
            let gap = others.fold(f64::MAX, |gap, (_, value)| gap.min((value - values[at]).abs()));
            let off = found.iter().zip(vector).fold(0.0f64, |off, (x, y)| off.max((x - y).abs()));
            assert!(off < 1e-13 * largest / gap, "{name} {at}: {off}");
        }
    }
}

/// `sum_i e_i^T H e_i`, plainly.
fn loss(w: &[f32], values: &[f32], h: &[f32], groups: &Groups) -> f64 {
    let mut sum = 0.0;
    for row in 0..groups.rows {
        let e = |col: usize| {
            let place = groups.place(row, col);
            f64::from(w[place]) - f64::from(values[place])
        };
        for i in 0..groups.cols {
            for j in 0..groups.cols {
                sum += e(i) * f64::from(h[i * groups.cols + j]) * e(j);
            }
        }
    }
    sum
}

fn against_torch(name: &str, grid: &impl Quantizer, first: i16, group: usize) {
    let golden = Golden::open(&fixture("cases/calibrate/gptq.safetensors"));
    let shape = golden.shape("w");
    let (w, h) = (golden.f32("w"), golden.f16("h"));
    let groups = Groups { rows: shape[0], cols: shape[1], group, transposed: false };
    let prepared = Prepared::new(&h, groups.cols, 0.01, "w");
    for passes in [0, 2] {
        let options = Options { passes, ..Options::default() };
        let found = prepared.round(&w, grid, groups, &options);
        let about = |part: &str| format!("{name}/{passes}/{part}");
        let codes = golden.bytes(&about("codes"));
        let equal = found.codes.iter().zip(&codes).filter(|(found, code)| {
            i16::from(**found as i8) == i16::from(**code) + first || found == code && first == 0
        });
        let share = equal.count() as f64 / codes.len() as f64;
        let exact = f64::from(golden.f32(&about("loss"))[0]);
        let off = (found.loss / exact - 1.0).abs();
        assert!(share >= EQUAL_CODES, "{name} {passes}: {share} of the codes are equal, loss {off:.1e}");
        assert!(off <= LOSS, "{name} {passes}: the loss is {} and not {exact}", found.loss);
        let plainly = loss(&w, &found.values(grid, group), &h, &groups);
        assert!((found.loss / plainly - 1.0).abs() < 1e-4, "{name} {passes}: {} {plainly}", found.loss);
        let scales = found.scales.iter().zip(golden.f32(&about("scales")));
        let equal = scales.filter(|(x, y)| **x == *y).count();
        assert!(equal as f64 >= 0.95 * found.scales.len() as f64, "{name} {passes}: {equal} scales");
        assert_eq!(found.findings.len(), 1, "{:?}", found.findings);
        assert_eq!(found.findings[0].code, "dead-inputs");
    }
}

#[test]
fn codes_are_those_of_an_independent_gptq_plus() {
    against_torch("nf4", &Table::new(&tables::NF4, ScaleType::Fp16), 0, 32);
    against_torch("int4", &Integers::new(Grid::Int4, ScaleType::Fp16), -8, 32);
    against_torch("int3-signed", &Integers::new(Grid::Int3, ScaleType::Fp16).signed(), -4, 32);
    against_torch("int8-row", &Integers::new(Grid::Int8, ScaleType::Fp16), -128, 160);
}

/// Runs of scales that go over the ends of rows, that are several rows long, and matrices that lie
/// transposed: whoever shares a scale, the loss is what plain loops say, and every step lowers it.
#[test]
fn whoever_shares_a_scale_compensation_helps() {
    let mut random = fastrand::Rng::with_seed(5);
    for (rows, cols, group, transposed) in [
        (300, 24, 64, false),
        (300, 48, 96, false),
        (70, 40, 16, false),
        (300, 150, 50, false),
        (40, 64, 8, true),
        (512, 20, 64, true),
        (50, 33, 64, true),
    ] {
        let groups = Groups { rows, cols, group, transposed };
        let mixed: Vec<f32> = (0..cols * 10).map(|_| random.f32() - 0.5).collect();
        let x: Vec<f32> = (0..400)
            .flat_map(|_| {
                let source: Vec<f32> = (0..10).map(|_| random.f32() - 0.5).collect();
                let row: Vec<f32> = mixed
                    .chunks_exact(10)
                    .map(|mix| mix.iter().zip(&source).map(|(x, y)| x * y).sum::<f32>() + 0.05 * random.f32())
                    .collect();
                row
            })
            .collect();
        let mut h = vec![0.0; cols * cols];
        outer::add_gram(&mut h, &x, cols);
        let w: Vec<f32> = (0..rows * cols).map(|_| random.f32() + random.f32() - 1.0).collect();
        let what = format!("{groups:?}");
        let prepared = Prepared::new(&h, cols, 0.01, "w");
        let grid = Integers::new(Grid::Int3, ScaleType::Fp16);
        let losses = [0, 1, 2].map(|passes| {
            let found = prepared.round(&w, &grid, groups, &Options { passes, ..Options::default() });
            let plainly = loss(&w, &found.values(&grid, group), &h, &groups);
            assert!((found.loss / plainly - 1.0).abs() < 1e-3, "{what}: {} {plainly}", found.loss);
            assert!(found.findings.is_empty() && found.scales.len() == groups.count());
            plainly
        });
        let scales = fitted(&w, &grid, &groups, &h, Clip::Weighted);
        let rounded: Vec<f32> = w
            .iter()
            .enumerate()
            .map(|(at, x)| grid.nearest(x * (1.0 / scales[at / group])) * scales[at / group])
            .collect();
        let plain = loss(&w, &rounded, &h, &groups);
        assert!(losses[0] < 0.8 * plain, "{what}: {losses:?}, {plain} if plainly rounded");
        assert!(losses[1] < losses[0] && losses[2] <= losses[1] * 1.0001, "{what}: {losses:?}");
    }
}

/// Rows are worked on together, but do not know each other.
#[test]
fn rows_are_rounded_as_if_they_were_alone() {
    let golden = Golden::open(&fixture("cases/calibrate/gptq.safetensors"));
    let (w, h, cols) = (golden.f32("w"), golden.f16("h"), golden.shape("w")[1]);
    let prepared = Prepared::new(&h, cols, 0.01, "w");
    let round = |w: &[f32]| {
        let groups = Groups { rows: w.len() / cols, cols, group: 32, transposed: false };
        prepared.round(w, &Table::new(&tables::NF4, ScaleType::Fp16), groups, &Options::default())
    };
    let many: Vec<f32> = w.iter().copied().cycle().take(37 * w.len()).collect();
    let (one, many) = (round(&w), round(&many));
    assert!(many.codes.chunks_exact(w.len()).all(|codes| codes == one.codes));
    assert!(many.scales.chunks_exact(one.scales.len()).all(|scales| scales == one.scales));
}

#[test]
fn statistics_that_cannot_be_inverted_are_told() {
    let grid = Table::new(&tables::NF4, ScaleType::Fp16);
    let groups = Groups { rows: 2, cols: 2, group: 2, transposed: false };
    let codes = |h: &[f32]| {
        let found =
            Prepared::new(h, 2, 0.01, "w").round(&[1.0, -0.3, 0.2, 0.7], &grid, groups, &Options::default());
        found.findings.iter().map(|finding| finding.code.clone()).collect::<Vec<_>>()
    };
    assert_eq!(codes(&[1.0, 0.0, 0.0, 1.0]), [""; 0]);
    assert_eq!(codes(&[1.0, 1.05, 1.05, 1.0]), ["damped-again"]);
    assert_eq!(codes(&[1.0, 3.0, 3.0, 1.0]), ["not-compensated"]);
    assert_eq!(codes(&[0.0; 4]), ["not-compensated"]);
    assert_eq!(codes(&[1.0, 0.0, 0.0, 0.0]), ["dead-inputs"]);
}

/// Adds up what enters products, by the taps.
#[derive(Default)]
struct Taps(BTreeMap<MatrixId, Vec<f64>>);

impl Observe for Taps {
    fn tap(&mut self, matrix: MatrixId, _: &str, rows: &[f32]) {
        let sums = self.0.entry(matrix).or_default();
        sums.extend(rows.iter().map(|x| f64::from(*x)));
    }
}

/// Means are those of the rows that a tap sees, parts of one tensor told apart, whatever the budget; and
/// what the head says of its rows is what its logits say.
#[test]
fn statistics_of_every_family_are_means_of_what_enters() {
    for sample in samples().into_iter().filter(|sample| sample.golden.is_some()) {
        let model = open_folder(&sample.folder).model().unwrap();
        let program = model.info().program.clone();
        let ids = sample.golden.as_ref().unwrap().ids("len40/ids");
        let wanted: Vec<MatrixId> = program.used_matrices().collect();
        let take = |wanted: &[MatrixId], budget: usize| {
            let read = Sample { windows: 2, window: 16 };
            let options = StatisticsOptions { sample: read, budget, covariance_of: None };
            run(Statistics::new(&model, &ids, wanted, &options).unwrap(), |_| {}).unwrap()
        };
        let found = take(&wanted, usize::MAX);
        // Without room for any stream, and with some, forwards and backwards.
        assert_eq!(found, take(&wanted, 1), "{}", sample.name);
        assert!(!groups(&program, &wanted, 1).iter().any(|group| group.len() > 1));
        let some = 4 * 32 * program.hidden_size();
        assert_eq!(found, take(&wanted, some), "{}", sample.name);
        let backwards: Vec<MatrixId> = wanted.iter().copied().rev().collect();
        let mut turned = take(&backwards, 3 * some);
        turned.reverse();
        assert_eq!(found, turned, "{}", sample.name);

        let mut taps = Taps::default();
        let mut alpha = vec![0.0; program.vocab_size];
        for first in [0, ids.len() - 16] {
            let (mut state, mut workspace) = (model.start(), Workspace::exact());
            model.forward(&ids[first..first + 16], &mut state, &mut workspace, Some(&mut taps)).unwrap();
            let (hidden, mut logits) = (workspace.hidden.clone(), Vec::new());
            model.logits(&hidden, &mut workspace, &mut logits);
            for row in logits.chunks_exact(program.vocab_size) {
                let sum: f64 = row.iter().map(|x| f64::from(*x).exp()).sum();
                for (alpha, x) in alpha.iter_mut().zip(row) {
                    let p = f64::from(*x).exp() / sum;
                    *alpha += p * (1.0 - p) / 32.0;
                }
            }
        }
        for measured in &found {
            let cols = program.matrix(measured.matrix).cols;
            let mut exact = vec![0.0; cols * cols];
            for row in taps.0.get(&measured.matrix).map_or(&[][..], Vec::as_slice).chunks_exact(cols) {
                for (at, sum) in exact.iter_mut().enumerate() {
                    *sum += row[at / cols] * row[at % cols] / 32.0;
                }
            }
            let exact: Vec<f32> = exact.into_iter().map(|x| x as f32).collect();
            let what = format!("{} {}", sample.name, program.matrix(measured.matrix).key);
            assert_close(&what, &measured.h, &exact, 1e-4);
            assert_eq!(measured.head.is_some(), measured.matrix == program.head.matrix);
            if let Some(head) = &measured.head {
                let exact: Vec<f32> = alpha.iter().map(|x| *x as f32).collect();
                assert_close(&what, &head.alpha, &exact, 1e-5);
                let total: f32 = head.mean.iter().sum();
                assert!((total - 1.0).abs() < 1e-4, "{what}: {total}");
            }
        }
    }
}

/// Passes run every product that is wanted once, begin where there is a stream, and none of their nodes a second time where there
/// is room.
#[test]
fn passes_go_on_where_others_ended() {
    for sample in samples().into_iter().filter(|sample| sample.golden.is_some()) {
        let program = open_folder(&sample.folder).model().unwrap().info().program.clone();
        let wanted = entered(&program);
        let (end, stops) = (program.nodes.len(), program.stops());
        let by_name = {
            let mut ids = wanted.clone();
            ids.sort_by_key(|id| &program.matrix(*id).key);
            ids
        };
        let nodes_of = |id: MatrixId| {
            let reads = program.nodes.iter().map(|node| products(&node.op).contains(&id));
            let reads = reads.enumerate().filter(|(_, reads)| *reads).map(|(at, _)| at);
            reads.chain((id == program.head.matrix).then_some(end)).collect::<Vec<_>>()
        };
        let mut runs = Vec::new();
        for order in [wanted.clone(), by_name] {
            for room in [0, 1, usize::MAX] {
                let groups: Vec<Vec<MatrixId>> = order.chunks(3).map(<[MatrixId]>::to_vec).collect();
                let (mut held, mut run) = (Vec::new(), 0);
                for Group { matrices, stretches, held: after } in plan(&program, groups, room) {
                    let mut ended = 0;
                    for stretch in &stretches {
                        let what = format!("{} {room} {stretch:?} after {ended}, {held:?}", sample.name);
                        let known = [0, ended].contains(&stretch.start) || held.contains(&stretch.start);
                        assert!(known && stops.contains(&stretch.start), "{what}");
                        assert!(stretch.end == end || stops.contains(&stretch.end), "{what}");
                        run += stretch.len();
                        ended = stretch.end;
                        if after.contains(&ended) {
                            held.push(ended);
                        }
                    }
                    for node in matrices.iter().flat_map(|id| nodes_of(*id)) {
                        let is_run = |it: &&std::ops::Range<usize>| {
                            it.contains(&node) || (node == end && it.end == end)
                        };
                        assert_eq!(stretches.iter().filter(is_run).count(), 1, "{} {node}", sample.name);
                    }
                    assert!(
                        after.iter().all(|stop| held.contains(stop)) && after.len() <= room,
                        "{}",
                        sample.name
                    );
                    held = after;
                }
                runs.push(run);
            }
        }
        let [none, _, all, none_by_name, _, all_by_name] = runs[..] else { unreachable!() };
        assert!(all < none && all_by_name < none_by_name, "{}: {runs:?}", sample.name);
        // Groups that are whole layers: every node once.
        let layer = |id: &MatrixId| program.matrix(*id).layer;
        let layers = wanted.chunk_by(|a, b| layer(a) == layer(b)).map(<[MatrixId]>::to_vec).collect();
        let run: usize =
            plan(&program, layers, 2).iter().flat_map(|it| &it.stretches).map(|it| it.len()).sum();
        assert_eq!(run, end, "{}", sample.name);
    }
}

#[test]
fn a_text_that_is_too_short_is_refused_with_what_it_has() {
    let sample = samples().into_iter().find(|sample| sample.golden.is_some()).unwrap();
    let model = open_folder(&sample.folder).model().unwrap();
    let read = |ids: &[u32], windows, window| {
        let options =
            StatisticsOptions { sample: Sample { windows, window }, ..StatisticsOptions::default() };
        Statistics::new(&model, ids, &[], &options).map(|statistics| statistics.tokens())
    };
    let refused = |ids: &[u32]| read(ids, 16, 8).unwrap_err().to_string();
    assert!(refused(&[1; 7]).contains("7 tokens do not fill one window of 8"));
    assert!(refused(&[1; 1]).contains("1 token does not fill one window of 8"));
    assert!(refused(&[u32::MAX; 40]).contains("outside the vocabulary"));
    // As many windows as the text has.
    assert_eq!(read(&[1; 47], 16, 8).unwrap(), 40);
    assert_eq!(read(&[1; 47], 3, 8).unwrap(), 24);
}
