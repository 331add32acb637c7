//! Rounding a large tensor plainly, a band of its rows after the other: the codes, the error and the findings are those of rounding
//! all of it at once. For its scales codes are gone through twice, as double quantization looks at all scales together.

use statepress_core::encoding::{Coding, Group};
use statepress_core::index::Stored;
use statepress_core::report::RoundingError;
use statepress_core::{Codes, Encoding, Entry, Finding, Packed, Scales, Sink, Source, Tensor, shape};
use statepress_formats::{Survey, Writer};
use statepress_kernels::codecs::{self, Clip, Fitted};

use super::coding;
use super::compress::numbers;
use super::measure::{self, Measure};
use crate::EngineError;
use crate::bands::{Band, Bands};

/// A tensor that is rounded so.
pub(super) struct Large<'a> {
    source: &'a dyn Source,
    entry: &'a Entry,
    encoding: Encoding,
    bands: Bands<'a>,
}

/// What came of it.
pub(super) struct Pressed {
    pub error: RoundingError,
    pub findings: Vec<Finding>,
    /// Bytes it takes in the file.
    pub stored: u64,
    /// The most bytes that were held.
    pub memory: u64,
}

impl<'a> Large<'a> {
    /// `None` for what is one band of about `most` numbers, has these codes already, or shares a scale in all its rows; and for vectors.
    pub fn of(
        source: &'a dyn Source,
        entry: &'a Entry,
        encoding: Encoding,
        most: usize,
    ) -> Result<Option<Self>, EngineError> {
        // Codes begin with a byte, and groups are whole; what is lost of floats is told by rows of the last dimension.
        let unit = match encoding {
            Encoding::Codes(Coding { group: Group::Values(size), .. }) => size.saturating_mul(8),
            Encoding::Codes(Coding { group: Group::Row, .. }) => 8,
            Encoding::Codes(Coding { group: Group::Tensor, .. }) | Encoding::Rows(_) => return Ok(None),
            Encoding::Fp32 | Encoding::Fp16 | Encoding::Bf16 => shape::matrix(&entry.shape).1.max(1),
        };
        // What torch quantized says only as it is read whether it has our codes.
        let may_be_kept = matches!(entry.stored, Stored::Affine { .. })
            || (entry.encoding() == Some(encoding) && encoding.is_described());
        if may_be_kept {
            return Ok(None);
        }
        let bands = Bands::about(most, source, entry, unit)?;
        Ok(bands.is_several().then_some(Self { source, entry, encoding, bands }))
    }

    /// Rounds and writes it, as the next tensor of the file.
    ///
    /// # Errors
    /// As [`coding::code`].
    pub fn press<S: Sink>(&self, clip: Clip, writer: &mut Writer<S>) -> Result<Pressed, EngineError> {
        let mut pressed = match self.encoding {
            Encoding::Codes(coding) => self.codes(coding, clip, writer)?,
            _ => self.floats(writer)?,
        };
        pressed.memory += self.bands.held();
        Ok(pressed)
    }

    fn floats<S: Sink>(&self, writer: &mut Writer<S>) -> Result<Pressed, EngineError> {
        let (entry, encoding) = (self.entry, self.encoding);
        let mut to = writer.begin(&entry.name, &entry.shape)?;
        let mut measure = Measure::new(entry, encoding);
        let (mut found, mut memory) = (Survey::default(), 0);
        // Of codes it is seen what they lose, though it is nothing.
        let mut kept = entry.encoding().is_none_or(|stored| stored == encoding);
        self.bands.each(&mut |band: Band<'_>| {
            let here = self.survey(&band, &mut found)?;
            if kept && band.tensor.encoding() == encoding {
                memory = memory.max(band.tensor.bytes());
                return Ok(to.floats(&band.tensor)?);
            }
            kept = false;
            let shape = band.tensor.shape.clone();
            let (values, while_decoding) = numbers(band.tensor);
            let coded = codecs::encode(&values, &shape, encoding, Clip::Absmax);
            let coded = coded.map_err(|error| EngineError::Codec { tensor: entry.name.clone(), error })?;
            measure.add(&values, &coded.tensor, &here, coded.clipped);
            memory = memory.max(while_decoding).max(4 * values.len() as u64 + coded.tensor.bytes());
            Ok(to.floats(&coded.tensor)?)
        })?;
        let stored = to.finish()?;
        let (error, lost) = match kept {
            true => (measure::kept(&found), Vec::new()),
            false => measure.finish(&found, 0),
        };
        let findings = measure::told(entry, &found).into_iter().chain(lost).collect();
        Ok(Pressed { error, findings, stored, memory })
    }

    fn codes<S: Sink>(
        &self,
        coding: Coding,
        clip: Clip,
        writer: &mut Writer<S>,
    ) -> Result<Pressed, EngineError> {
        let (entry, encoding) = (self.entry, self.encoding);
        clip.check().map_err(|error| EngineError::Codec { tensor: entry.name.clone(), error })?;
        let size = coding.group.size(&entry.shape);
        let (mut found, mut memory) = (Survey::default(), 0);
        let mut wanted = Fitted::default();
        self.bands.each(&mut |band: Band<'_>| {
            self.survey(&band, &mut found)?;
            coding::check_finite(entry, encoding, &found)?;
            let (values, while_decoding) = numbers(band.tensor);
            memory = memory.max(while_decoding);
            let fitted = codecs::fit(&values, size, coding, clip);
            wanted.scales.extend(fitted.scales);
            wanted.clipped = fitted.clipped.map(|clipped| wanted.clipped.unwrap_or(0) + clipped);
            Ok(())
        })?;
        let (scales, used) = codecs::store(coding, wanted.scales);
        let mut to = writer.begin(&entry.name, &entry.shape)?;
        let mut measure = Measure::new(entry, encoding);
        self.bands.each(&mut |Band { first, tensor, .. }: Band<'_>| {
            let shape = tensor.shape.clone();
            let values = codecs::into_numbers(tensor);
            let groups = first / size..(first + values.len()).div_ceil(size);
            let (codes, beyond) = codecs::round_by(&values, size, coding, &used[groups.clone()]);
            to.write(&codes)?;
            let as_read = groups.map(|group| codecs::scales::get(&scales, group)).collect();
            let codes = Codes { grid: coding.grid, group: coding.group, codes, scales: Scales::F32(as_read) };
            memory = memory.max(4 * values.len() as u64 + codes.codes.len() as u64);
            let coded = Tensor { shape, data: Packed::Codes(codes) };
            measure.add(&values, &coded, &Survey::default(), beyond);
            Ok(())
        })?;
        to.scales(&scales)?;
        let stored = to.finish()?;
        let (error, lost) = measure.finish(&found, measure::coarse(&scales));
        let error = RoundingError { clipped: wanted.clipped.unwrap_or(error.clipped), ..error };
        let findings = measure::told(entry, &found).into_iter().chain(lost).collect();
        let of_scales = 4 * used.len() as u64 + encoding.bytes(&entry.shape)
            - entry.params() * coding.grid.bits() as u64 / 8;
        Ok(Pressed { error, findings, stored, memory: memory + of_scales })
    }

    /// What is not finite in a band, also added to what was found before.
    fn survey(&self, band: &Band<'_>, found: &mut Survey) -> Result<Survey, EngineError> {
        let here = measure::survey(self.source, band.entry, &band.tensor)?;
        found.follow(&here, band.first);
        Ok(here)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use statepress_core::encoding::{Granularity, ScaleType};
    use statepress_core::index::{Extent, Strided};
    use statepress_core::{DType, Form, Grid};
    use statepress_formats::TensorSpec;

    use super::super::coding::Coded;
    use super::*;

    const SHAPE: [usize; 3] = [13, 4, 24];
    const N: usize = 13 * 4 * 24;

    /// Numbers of all sizes, a row of them zeros and one too small for 16 bits.
    fn numbers() -> Vec<f32> {
        let mut values: Vec<f32> = (0..N).map(|i| ((i * 7919 % 1009) as f32 - 500.0) / 321.0).collect();
        values[120..144].fill(0.0);
        values[240..264].iter_mut().for_each(|value| *value *= 1e-9);
        values[700] = 40.0;
        values
    }

    fn entry(dtype: DType, strides: [u64; 3]) -> Entry {
        let storage = Extent { offset: 0, len: (N * dtype.bytes()) as u64 };
        let stored =
            Stored::Strided(Strided { dtype, storage, first: 0, strides: strides.to_vec(), negated: false });
        Entry { name: "w".into(), shape: SHAPE.to_vec(), stored, tied_to: None }
    }

    fn writer(encoding: Encoding) -> Writer<Vec<u8>> {
        let form = Form::Coded(encoding);
        let spec = TensorSpec { name: "w".into(), shape: SHAPE.to_vec(), form, coded: false };
        Writer::new(Vec::new(), &[spec], &BTreeMap::new()).unwrap()
    }

    /// The file and what is told, of all at once.
    fn whole(source: &dyn Source, entry: &Entry, encoding: Encoding, clip: Clip) -> Told {
        let tensor = statepress_formats::read_tensor(source, entry).unwrap();
        let found = measure::survey(source, entry, &tensor).unwrap();
        let mut findings = measure::told(entry, &found);
        let mut writer = writer(encoding);
        let error = if tensor.encoding() == encoding {
            writer.write("w", &tensor).unwrap();
            measure::kept(&found)
        } else {
            let coded = coding::code(entry, &codecs::into_numbers(tensor), encoding, clip, &found)?;
            let Coded { tensor, error, findings: lost } = coded;
            findings.extend(lost);
            writer.write("w", &tensor).unwrap();
            error
        };
        Ok((writer.finish().unwrap().0, error, findings))
    }

    /// The same in bands of `most` numbers, or one row at the least.
    fn banded(source: &dyn Source, entry: &Entry, encoding: Encoding, clip: Clip, most: usize) -> Told {
        let mut writer = writer(encoding);
        let large = Large::of(source, entry, encoding, most)?.unwrap();
        let Pressed { error, findings, stored, memory } = large.press(clip, &mut writer)?;
        assert_eq!(stored, encoding.bytes(&SHAPE));
        assert!(memory > 0);
        Ok((writer.finish().unwrap().0, error, findings))
    }

    type Told = Result<(Vec<u8>, RoundingError, Vec<Finding>), EngineError>;

    fn check(source: &dyn Source, entry: &Entry, encoding: Encoding, clip: Clip) {
        for most in [96, 200, 400] {
            let said = |told: Told| told.map_err(|error| error.to_string());
            let (expected, found) =
                (whole(source, entry, encoding, clip), banded(source, entry, encoding, clip, most));
            assert_eq!(said(found), said(expected), "{encoding:?}, {clip:?}, {most}");
        }
    }

    const CODES: [Encoding; 7] = [
        Encoding::int8(Granularity::Row),
        Encoding::int4(8, ScaleType::Fp16),
        Encoding::nf4(48, ScaleType::Fp32),
        Encoding::nf4(24, ScaleType::Double),
        Encoding::grouped(Grid::Int3, 8, ScaleType::Log8),
        Encoding::grouped(Grid::Int5, 12, ScaleType::Fp16),
        Encoding::grouped(Grid::Int6, 24, ScaleType::Fp32),
    ];

    #[test]
    fn bands_are_rounded_as_the_whole_is() {
        let values = numbers();
        let f32s: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let f64s: Vec<u8> = values.iter().flat_map(|&value| f64::from(value).to_le_bytes()).collect();
        let bf16s: Vec<u8> =
            values.iter().flat_map(|&value| half::bf16::from_f32(value).to_le_bytes()).collect();
        for (bytes, dtype) in [(&f32s, DType::F32), (&f64s, DType::F64), (&bf16s, DType::Bf16)] {
            for strides in [[96, 24, 1], [1, 13, 52]] {
                let entry = entry(dtype, strides);
                for encoding in CODES {
                    for clip in [Clip::Absmax, Clip::Percentile(90.0), Clip::Mse] {
                        check(bytes, &entry, encoding, clip);
                    }
                }
                for encoding in [Encoding::Fp32, Encoding::Fp16, Encoding::Bf16] {
                    check(bytes, &entry, encoding, Clip::Absmax);
                }
            }
        }
    }

    #[test]
    fn what_is_not_finite_is_told_or_refused_by_its_place_in_the_whole() {
        let mut values: Vec<f64> = numbers().into_iter().map(f64::from).collect();
        values[1001] = 1e300;
        values[900] = 1e-300;
        values[901] = f64::NAN;
        values[333] = 70000.0;
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let entry = entry(DType::F64, [96, 24, 1]);
        for encoding in [Encoding::Fp16, Encoding::Bf16, Encoding::Fp32] {
            check(&bytes, &entry, encoding, Clip::Absmax);
        }
        let refused = |told: Told| told.map_err(|error| error.to_string()).unwrap_err();
        let found = refused(banded(&bytes, &entry, CODES[0], Clip::Absmax, 96));
        assert_eq!(found, refused(whole(&bytes, &entry, CODES[0], Clip::Absmax)));
        assert!(found.contains("number 901 is NaN"), "{found}");
        let error = banded(&bytes, &entry, CODES[1], Clip::Percentile(101.0), 96).unwrap_err();
        assert!(matches!(error, EngineError::Codec { .. }), "{error}");
    }

    #[test]
    fn codes_are_decoded_a_band_at_a_time() {
        let source: Vec<u8> = numbers().iter().flat_map(|value| value.to_le_bytes()).collect();
        let plain = entry(DType::F32, [96, 24, 1]);
        for before in CODES {
            let file = whole(&source, &plain, before, Clip::Absmax).unwrap().0;
            let index = statepress_formats::open(&file).unwrap();
            let coded = index.get("w").unwrap();
            for encoding in CODES {
                match encoding == before {
                    true => assert!(Large::of(&file, coded, encoding, 96).unwrap().is_none()),
                    false => check(&file, coded, encoding, Clip::Absmax),
                }
            }
            for encoding in [Encoding::Fp32, Encoding::Bf16] {
                check(&file, coded, encoding, Clip::Absmax);
            }
        }
    }

    #[test]
    fn what_shares_a_scale_or_is_small_is_no_matter_for_bands() {
        let source: Vec<u8> = numbers().iter().flat_map(|value| value.to_le_bytes()).collect();
        let entry = entry(DType::F32, [96, 24, 1]);
        let large = |encoding, most| Large::of(&source, &entry, encoding, most).unwrap().is_some();
        assert!(!large(Encoding::int8(Granularity::Tensor), 96));
        assert!(
            large(Encoding::int8(Granularity::Row), N - 1) && !large(Encoding::int8(Granularity::Row), N)
        );
    }
}
