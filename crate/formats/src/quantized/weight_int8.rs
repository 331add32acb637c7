//! `X.weight_int8` with `X.scale`: INT8 rows as upstream's mixed-precision converter stores them.

use statepress_core::words::counted;
use std::collections::HashMap;

use statepress_core::encoding::Granularity;
use statepress_core::index::Stored;
use statepress_core::{DType, Encoding, Entry, Finding, shape};

use crate::FormatError;
use crate::view::contiguous_extent;

/// Joins every `X.weight_int8` (I8 `[rows, ...]`) and its `X.scale` (F32 `[rows]`) into `X.weight`.
pub(super) fn join(entries: Vec<Entry>, findings: &mut Vec<Finding>) -> Result<Vec<Entry>, FormatError> {
    let places: HashMap<String, usize> =
        entries.iter().enumerate().map(|(at, entry)| (entry.name.clone(), at)).collect();
    let mut joined: Vec<Option<Entry>> = entries.iter().cloned().map(Some).collect();
    let mut count = 0usize;
    for (at, entry) in entries.iter().enumerate() {
        let Some(base) = entry.name.strip_suffix(".weight_int8") else { continue };
        let wrong = |why: String| FormatError::tensor(&entry.name, why);
        let scale = format!("{base}.scale");
        let name = format!("{base}.weight");
        if places.contains_key(&name) {
            return Err(wrong(format!("`{name}` is stored as well")));
        }
        let scale_at = *places.get(&scale).ok_or_else(|| wrong(format!("`{scale}` is missing")))?;
        let (Stored::Strided(codes), Stored::Strided(scales)) = (&entry.stored, &entries[scale_at].stored)
        else {
            return Err(wrong(format!("it or `{scale}` is quantized itself")));
        };
        let rows = shape::matrix(&entry.shape).0;
        if codes.dtype != DType::I8 || scales.dtype != DType::F32 || entries[scale_at].shape != [rows] {
            return Err(wrong(format!(
                "{} {:?} with a `scale` of {} {:?}, where I8 [rows, columns] and F32 [rows] are expected",
                codes.dtype.name(),
                entry.shape,
                scales.dtype.name(),
                entries[scale_at].shape
            )));
        }
        let encoding = Encoding::int8(Granularity::Row);
        if let Some(why) = encoding.refusal(&entry.shape) {
            return Err(wrong(why));
        }
        let parts = vec![
            contiguous_extent(&entry.name, &entry.shape, codes)?,
            contiguous_extent(&scale, &[rows], scales)?,
        ];
        let stored = Stored::Packed { encoding, coded: false, parts };
        joined[at] = Some(Entry { name, shape: entry.shape.clone(), stored, tied_to: None });
        joined[scale_at] = None;
        count += 1;
    }
    if count > 0 {
        let message = counted(count, "weight is", "weights are")
            + " stored as INT8 codes with a scale per row (`weight_int8`, `scale`)";
        findings.push(Finding::info("weight-int8", message));
    }
    Ok(joined.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use statepress_core::index::{Extent, Strided};

    use super::*;

    fn entry(name: &str, dtype: DType, shape: &[usize], offset: u64) -> Entry {
        let len = (shape.iter().product::<usize>() * dtype.bytes()) as u64;
        let strides = crate::view::row_major(shape);
        let stored = Stored::Strided(Strided {
            dtype,
            storage: Extent { offset, len },
            first: 0,
            strides,
            negated: false,
        });
        Entry { name: name.into(), shape: shape.to_vec(), stored, tied_to: None }
    }

    fn joined(entries: &[Entry]) -> Result<Vec<Entry>, FormatError> {
        super::join(entries.to_vec(), &mut Vec::new())
    }

    #[test]
    fn codes_and_scale_are_one_weight_at_the_place_of_the_codes() {
        let codes = entry("x.weight_int8", DType::I8, &[2, 3], 10);
        let scale = entry("x.scale", DType::F32, &[2], 16);
        let bias = entry("x.bias", DType::F32, &[2], 24);
        let joined = joined(&[bias, codes, scale]).unwrap();
        let names: Vec<_> = joined.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["x.bias", "x.weight"]);
        let Stored::Packed { parts, .. } = &joined[1].stored else { panic!("{:?}", joined[1]) };
        assert_eq!(parts[..], [Extent { offset: 10, len: 6 }, Extent { offset: 16, len: 8 }]);
    }

    #[test]
    fn codes_without_their_scale_are_refused() {
        let codes = entry("x.weight_int8", DType::I8, &[2, 3], 0);
        let said = |entries: &[Entry]| joined(entries).unwrap_err().to_string();
        assert!(said(std::slice::from_ref(&codes)).contains("`x.weight_int8`: `x.scale` is missing"));
        let short = entry("x.scale", DType::F32, &[1], 6);
        assert!(said(&[codes.clone(), short]).contains("a `scale` of F32 [1]"));
        let scale = entry("x.scale", DType::F32, &[2], 6);
        let weight = entry("x.weight", DType::F32, &[2, 3], 14);
        assert!(said(&[codes, scale, weight]).contains("`x.weight` is stored as well"));
    }
}
