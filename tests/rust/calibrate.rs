//! Calibration: GPTQ+ against a second one, written in PyTorch from the definition, and against plain
//! loops where scales are shared in other ways; statistics against what the model's own taps add up.

use statepress_core::encoding::ScaleType;
use statepress_engine::calibrate::{Fit, Grid, Groups, Int, Nf4, Options, Prepared, Rounded};
use statepress_tests::files::fixture;
use statepress_tests::golden::Golden;

/// The least share of codes that have to be those of the other implementation: float32 and float64 do
/// not break every tie alike.
const EQUAL_CODES: f64 = 0.999;

/// The most that the losses may differ, relatively.
const LOSS: f64 = 1e-4;

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

fn against_torch(name: &str, grid: &impl Grid, first: i16, group: usize) {
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
    against_torch("nf4", &Nf4::new(ScaleType::Fp16), 0, 32);
    against_torch("int4", &Int::new(4, ScaleType::Fp16), -8, 32);
    against_torch("int3-signed", &Int::new(3, ScaleType::Fp16).signed(), -4, 32);
    against_torch("int8-row", &Int::new(8, ScaleType::Fp16), -128, 160);
}
