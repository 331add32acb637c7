//! What coding did to the numbers of a tensor, and what was odd about them before: one pass over both.

use statepress_core::encoding::ScaleType;
use statepress_core::index::Stored;
use statepress_core::report::RoundingError;
use statepress_core::words::plural;
use statepress_core::{
    Codes, Coding, DType, Encoding, Entry, Finding, Group, Packed, Scales, Source, Tensor, shape,
};
use statepress_formats::Survey;
use statepress_kernels::codecs::{self, all_finite};

use crate::EngineError;

/// The error of a tensor that is in its encoding already: it is not decoded and coded again.
pub(crate) const KEPT: RoundingError = RoundingError {
    mse: Some(0.0),
    max_abs: Some(0.0),
    cosine: Some(1.0),
    clipped: 0,
    overflowed: 0,
    zeroed: 0,
    non_finite: 0,
};

/// Numbers looked at together; enough that what is done once for them costs nothing.
const CHUNK: usize = 4096;

/// Exponents of infinities and NaN.
const F16_SPECIAL: u16 = 0x7c00;
const BF16_SPECIAL: u16 = 0x7f80;

/// Of the values of a 16-bit float that became 0, so many are worth a word: ordinary weights have a few
/// that are nearly 0.
const FLUSHED_PERCENT: f64 = 1.0;

/// Scales of fewer bits than this many values have (all subnormal): off by more than three percent.
const COARSE: u32 = 16;

/// What is not finite in a tensor that was read.
pub(crate) fn survey(source: &dyn Source, entry: &Entry, read: &Tensor) -> Result<Survey, EngineError> {
    // Only the file knows what float64 was before it was read.
    if matches!(&entry.stored, Stored::Strided(view) if view.dtype == DType::F64) {
        return Ok(statepress_formats::survey(source, entry)?);
    }
    if !may_be_special(read) {
        return Ok(Survey::default());
    }
    let mut it = Survey::default();
    for (index, value) in codecs::decode(read).into_iter().enumerate().filter(|(_, value)| !value.is_finite())
    {
        *(if value.is_nan() { &mut it.nan } else { &mut it.infinite }) += 1;
        it.first.get_or_insert((index, value.into()));
    }
    Ok(it)
}

/// Whether any number may not be finite.
fn may_be_special(tensor: &Tensor) -> bool {
    match &tensor.data {
        Packed::F32(values) => !all_finite(values),
        Packed::F16(bits) => highest(bits) >= F16_SPECIAL,
        Packed::Bf16(bits) => highest(bits) >= BF16_SPECIAL,
        Packed::Codes(codes) => match &codes.scales {
            Scales::F32(values) => !all_finite(values),
            Scales::Affine { scales, minimums } => !(all_finite(scales) && all_finite(minimums)),
            Scales::F16(bits) => highest(bits) >= F16_SPECIAL,
            Scales::Log8 { unit, .. } => !unit.is_finite(),
            Scales::Double { nested, offset, .. } => !(all_finite(nested) && offset.is_finite()),
        },
        Packed::Rows(rows) => rows.parts().iter().any(may_be_special),
    }
}

/// The highest magnitude of 16-bit floats, as bits.
fn highest(bits: &[u16]) -> u16 {
    bits.iter().fold(0, |highest, bits| (bits & 0x7fff).max(highest))
}

/// Says what was not finite, or became so when it was read.
pub(crate) fn told(entry: &Entry, found: &Survey) -> Vec<Finding> {
    let (name, n) = (&entry.name, entry.params());
    let numbers = plural(&n, "number", "numbers");
    let mut findings = Vec::new();
    if let Some((index, value)) = found.first {
        let count = found.nan + found.infinite;
        let are = plural(&count, "is", "are");
        let message = format!(
            "{count} of the {n} {numbers} of {name} {are} not finite ({} NaN, {} infinite); the first is number {index}, {value}",
            found.nan, found.infinite
        );
        findings.push(Finding::warning("non-finite", message).about(name));
    }
    if let Some((index, value)) = found.first_beyond {
        let count = found.beyond;
        let are = plural(&count, "is", "are");
        let message = format!(
            "{count} of the {n} {numbers} of {name} {are} beyond float32 ({:e}) and infinite once read; the first is number {index}, {value:e}. Recipe none keeps what is stored",
            f32::MAX
        );
        findings.push(Finding::warning("overflow", message).about(name));
    }
    if let Some((index, value)) = found.first_below {
        let count = found.below;
        let are = plural(&count, "is", "are");
        let message = format!(
            "{count} of the {n} {numbers} of {name} {are} too small for float32 and 0 once read; the first is number {index}, {value:e}. Recipe none keeps what is stored"
        );
        findings.push(Finding::warning("zeroed", message).about(name));
    }
    findings
}

/// The error of a tensor that is in its encoding already, once it was read.
pub(crate) fn kept(found: &Survey) -> RoundingError {
    let non_finite = found.nan + found.infinite;
    match found.beyond {
        0 => RoundingError { non_finite, zeroed: found.below, ..KEPT },
        overflowed => RoundingError {
            mse: None,
            max_abs: None,
            cosine: None,
            overflowed,
            non_finite,
            zeroed: found.below,
            ..KEPT
        },
    }
}

/// Compares numbers with what they are coded as, and says what was lost. `before` is what was found in them.
pub(crate) fn measure(
    entry: &Entry,
    values: &[f32],
    coded: &Tensor,
    before: &Survey,
    beyond_codes: u64,
) -> (RoundingError, Vec<Finding>) {
    let mut measure = Measure::new(entry, coded.encoding());
    measure.add(values, coded, before, beyond_codes);
    let coarse = coarse_scales(coded);
    measure.finish(before, coarse)
}

/// The numbers of a tensor compared with what they are coded as, some rows after the other.
pub(crate) struct Measure<'a> {
    entry: &'a Entry,
    encoding: Encoding,
    /// Numbers of a row, group or block, and which of these.
    unit: usize,
    what: &'static str,
    sums: Sums,
    /// Numbers so far.
    count: usize,
    beyond_codes: u64,
    overflowed: u64,
    first_overflow: Option<(usize, f32)>,
    zeroed: u64,
    /// Units that were something and are nothing but zeros.
    zero_units: u64,
    /// Those whose scale has lost its sign.
    flipped: u64,
}

impl<'a> Measure<'a> {
    pub fn new(entry: &'a Entry, encoding: Encoding) -> Self {
        let (unit, what) = match encoding.coding() {
            Some(Coding { group: group @ Group::Values(_), .. }) => (group.size(&entry.shape), "groups"),
            _ => (shape::matrix(&entry.shape).1.max(1), "rows"),
        };
        Self {
            entry,
            encoding,
            unit,
            what,
            sums: Sums::default(),
            count: 0,
            beyond_codes: 0,
            overflowed: 0,
            first_overflow: None,
            zeroed: 0,
            zero_units: 0,
            flipped: 0,
        }
    }

    /// Compares the numbers that follow with what they are coded as; `before` is what was found in them.
    pub fn add(&mut self, values: &[f32], coded: &Tensor, before: &Survey, beyond_codes: u64) {
        let unit = self.unit;
        let floats = !self.encoding.is_described();
        let overflowed = match &coded.data {
            // Beyond codes is one thing, beyond the floats of another class something else.
            Packed::Rows(_) if may_be_special(coded) => {
                let pairs = values.iter().zip(codecs::decode(coded));
                pairs.filter(|(a, b)| a.is_finite() && !b.is_finite()).count() as u64
            }
            Packed::Rows(_) | Packed::Codes(_) => 0,
            _ => beyond_codes,
        };
        let special = before != &Survey::default() || overflowed > 0;
        let step = unit * (CHUNK / unit).max(1);
        let mut buffer = vec![0.0; step.min(values.len())];
        for (at, values) in values.chunks(step).enumerate() {
            let decoded = &mut buffer[..values.len()];
            codecs::decode_range(coded, at * step, decoded);
            if special {
                for (i, (&a, &b)) in
                    values.iter().zip(&*decoded).enumerate().filter(|(_, (a, _))| a.is_finite())
                {
                    match b.is_finite() {
                        true => self.sums.add(a, b),
                        false => {
                            let place = self.count + at * step + i;
                            self.first_overflow.get_or_insert((place, a));
                        }
                    }
                }
            } else {
                values.iter().zip(&*decoded).for_each(|(&a, &b)| self.sums.add(a, b));
            }
            for (i, (values, decoded)) in values.chunks(unit).zip(decoded.chunks(unit)).enumerate() {
                let is_something = || values.iter().any(|&value| value != 0.0);
                self.flipped +=
                    u64::from(is_negative(self.encoding, coded, at * step / unit + i) && is_something());
                if decoded.iter().all(|&value| value == 0.0) {
                    let lost = values.iter().filter(|&&value| value != 0.0).count() as u64;
                    self.zero_units += u64::from(lost > 0);
                    self.zeroed += if floats { 0 } else { lost };
                }
            }
            if floats {
                let lost = values.iter().zip(&*decoded).map(|(&a, &b)| u32::from((a != 0.0) & (b == 0.0)));
                self.zeroed += u64::from(lost.sum::<u32>());
            }
        }
        self.count += values.len();
        self.beyond_codes += beyond_codes;
        self.overflowed += overflowed;
    }

    /// Of all its numbers; `before` is what was found in them, `coarse` how many scales are too small for their type.
    pub fn finish(self, before: &Survey, coarse: u64) -> (RoundingError, Vec<Finding>) {
        let Self { entry, encoding, unit, what, overflowed, zeroed, .. } = self;
        let floats = !encoding.is_described();
        let infinite = overflowed + before.beyond > 0;
        let error = RoundingError {
            clipped: if floats { 0 } else { self.beyond_codes },
            overflowed: overflowed + before.beyond,
            zeroed: zeroed + before.below,
            non_finite: before.nan + before.infinite,
            ..if infinite {
                RoundingError { mse: None, max_abs: None, cosine: None, ..KEPT }
            } else {
                self.sums.error()
            }
        };
        let of_coding = Lost {
            entry,
            encoding,
            units: (self.count as u64).div_ceil(unit as u64),
            what,
            zero_units: self.zero_units,
            coarse: coarse + self.flipped,
            first_overflow: self.first_overflow,
        };
        // What was 0 before is told of by whoever read it.
        (error, of_coding.findings(&RoundingError { zeroed, ..error }))
    }
}

/// Sums over pairs of numbers, in their order.
#[derive(Default)]
struct Sums {
    count: u64,
    squares: f64,
    max_abs: f64,
    dot: f64,
    norm_a: f64,
    norm_b: f64,
}

impl Sums {
    #[inline(always)]
    fn add(&mut self, a: f32, b: f32) {
        let (a, b) = (f64::from(a), f64::from(b));
        self.count += 1;
        self.squares += (a - b) * (a - b);
        self.max_abs = self.max_abs.max((a - b).abs());
        self.dot += a * b;
        self.norm_a += a * a;
        self.norm_b += b * b;
    }

    fn error(&self) -> RoundingError {
        let norms = self.norm_a.sqrt() * self.norm_b.sqrt();
        let both = f64::from(u8::from(self.norm_a == self.norm_b));
        RoundingError {
            mse: Some(self.squares / self.count.max(1) as f64),
            max_abs: Some(self.max_abs),
            cosine: Some(if norms > 0.0 { (self.dot / norms).min(1.0) } else { both }),
            ..KEPT
        }
    }
}

/// What a coding lost beyond rounding.
struct Lost<'a> {
    entry: &'a Entry,
    encoding: Encoding,
    /// Rows, groups or blocks, and which of these.
    units: u64,
    what: &'static str,
    /// Those that were something and are nothing but zeros.
    zero_units: u64,
    /// Scales that are too small for their type.
    coarse: u64,
    first_overflow: Option<(usize, f32)>,
}

impl Lost<'_> {
    fn findings(&self, error: &RoundingError) -> Vec<Finding> {
        let Self { entry, encoding, units, what, zero_units, coarse, .. } = self;
        let (name, n, precision) = (&entry.name, entry.params(), encoding.name());
        let numbers = plural(&n, "number", "numbers");
        let percent = |part: u64, whole: u64| 100.0 * part as f64 / whole.max(1) as f64;
        let mut findings = Vec::new();
        if let Some((index, value)) = self.first_overflow {
            let is_fp16 = |encoding: Encoding| encoding == Encoding::Fp16;
            let classes = encoding.classes().map_or(&[][..], |classes| classes.all());
            let (most, instead) = match encoding {
                it if is_fp16(*it) || classes.iter().any(|class| is_fp16(class.encoding())) => {
                    ("65504", "bf16 and fp32 hold")
                }
                _ => ("3.39e38", "fp32 holds"),
            };
            let message = format!(
                "{} of the {n} {numbers} of {name} {} beyond what {precision} holds ({most}) and became infinite; the first is number {index}, {value}. {instead} more",
                error.overflowed,
                plural(&error.overflowed, "is", "are")
            );
            findings.push(Finding::warning("overflow", message).about(name));
        }
        let share = percent(error.zeroed, n);
        let message = if encoding.is_described() {
            format!(
                "{zero_units} of {units} {what} of {name}, {share:.1} % of its numbers, are too small for {precision} and became nothing but zeros"
            )
        } else {
            format!(
                "{} of the {n} {numbers} of {name} ({share:.1} %) {} too small for {precision} and became 0",
                error.zeroed,
                plural(&error.zeroed, "is", "are")
            )
        };
        if *zero_units > 0 || (error.zeroed > 0 && share >= FLUSHED_PERCENT) {
            findings.push(Finding::warning("zeroed", message).about(name));
        }
        if *coarse > 0 {
            let share = percent(*coarse, *units);
            let message = format!(
                "{coarse} scales of {name} ({share:.1} %) are too small for how they are stored, and off by more than 3 % or of the wrong sign: store them in fp32, or choose another precision"
            );
            findings.push(Finding::warning("coarse-scale", message).about(name));
        }
        findings
    }
}

/// Whether double quantization took the sign of a group's scale.
fn is_negative(encoding: Encoding, coded: &Tensor, group: usize) -> bool {
    let double = encoding.coding().is_some_and(|coding| coding.scale == ScaleType::Double);
    double
        && matches!(&coded.data, Packed::Codes(Codes { scales, .. }) if codecs::scales::get(scales, group) < 0.0)
}

/// Scales so small that their type has next to no digits for them.
fn coarse_scales(coded: &Tensor) -> u64 {
    match &coded.data {
        Packed::Codes(codes) => coarse(&codes.scales),
        Packed::Rows(rows) => rows.parts().iter().map(coarse_scales).sum(),
        Packed::F32(_) | Packed::F16(_) | Packed::Bf16(_) => 0,
    }
}

/// The same of the scales of codes.
pub(crate) fn coarse(scales: &Scales) -> u64 {
    let small = |bits: u32| u64::from(bits > 0 && bits < COARSE);
    match scales {
        Scales::F32(values) | Scales::Affine { scales: values, .. } => {
            values.iter().map(|value| small(value.to_bits())).sum()
        }
        Scales::F16(bits) => bits.iter().map(|&bits| small(bits.into())).sum(),
        Scales::Log8 { .. } | Scales::Double { .. } => 0,
    }
}
