//! Codes with scales beside them: compressed-tensors (`weight_packed`; `weight` in I8 or float8 with `weight_scale`), and
//! the float8 of DeepSeek (`weight_scale_inv`, a scale for each block) and others (`scale_weight`).
//! Sources: compressed-tensors `compressors/`, transformers `integrations/finegrained_fp8.py`.

use serde_json::Value;
use statepress_core::coded::{Array, Codes, Grid, Packed, Rule, Zeros};
use statepress_core::{DType, shape};

use super::{Arrays, Found, Told, Weight};
use crate::FormatError;
use crate::coded::{are_neighbours, encoding};
use crate::view::read_view;

/// What belongs to activations, which are floats here.
const ACTIVATIONS: [&str; 6] = [
    "input_scale",
    "output_scale",
    "input_zero_point",
    "output_zero_point",
    "scale_input",
    "input_global_scale",
];

/// Why they are left out.
const FLOATS: &str = "activations are floats here";

/// `X.weight_packed`: codes of 1 to 8 bits in words of 32, a stream of bits for each row.
pub(super) fn packed(arrays: &Arrays<'_>, key: &str, _: &mut Told) -> Result<Option<Found>, FormatError> {
    const BESIDE: [&str; 6] = [
        "weight_packed",
        "weight_scale",
        "weight_shape",
        "weight_zero_point",
        "weight_g_idx",
        "weight_global_scale",
    ];
    let Some(base) = key.strip_suffix("weight_packed").filter(|base| base.is_empty() || base.ends_with('.'))
    else {
        return Ok(None);
    };
    let Some(words) = arrays.get(key) else { return Ok(None) };
    let (keys, unused) = (arrays.present(base, &BESIDE), arrays.present(base, &ACTIVATIONS));
    let of = |suffix: &str| arrays.get(&format!("{base}{suffix}"));
    let opaque = |scheme: &str, why: &str| {
        let keys = keys.iter().chain(&unused).cloned().collect();
        Ok(Some(Found::Opaque { scheme: format!("{scheme} (compressed-tensors)"), keys, why: why.into() }))
    };
    let (Some(scales), Some(dims)) = (of("weight_scale"), of("weight_shape")) else {
        let four = of("weight_scale").is_some() && words.dtype() == DType::U8;
        return match four {
            true => opaque("float4", "floats of four bits are not read"),
            false => opaque("packed", "`weight_scale` or `weight_shape` is missing"),
        };
    };
    let dims = match (dims.dtype(), &dims.shape[..]) {
        (DType::I64, [2]) => read_view(arrays.source, key, &dims.shape, &dims.view, u64::from_le_bytes)?,
        _ => return opaque("packed", "`weight_shape` is not two numbers"),
    };
    let dims: Vec<usize> = dims.into_iter().map(|dim| usize::try_from(dim).unwrap_or(usize::MAX)).collect();
    let (&[rows, cols], &[stored, width]) = (&dims[..], &words.shape[..]) else {
        return opaque("packed", "codes are not a matrix");
    };
    // The shape tells the bits, unless rows are so short that several would do.
    let fits = |bits: usize| cols.checked_mul(bits).is_some_and(|all| all.div_ceil(32) == width);
    let said = bits_said(&arrays.config);
    let known = said.iter().copied().find(|&bits| fits(bits));
    let bits = known.or_else(|| [4, 8, 2, 3, 6, 5, 7, 1].into_iter().find(|&bits| fits(bits)));
    let Some(bits) = bits.filter(|_| stored == rows && rows > 0 && cols > 0 && words.dtype() == DType::I32)
    else {
        return opaque("packed", "the words are not those of a matrix of `weight_shape`");
    };
    let scheme = format!("int{bits} (compressed-tensors)");
    let Some(per) = per(&scales, rows, cols, &arrays.config) else {
        return opaque(&format!("int{bits}"), "scales do not fit the shape");
    };
    let bits = bits as u32;
    let middle = 1 << (bits - 1);
    let (down, across) = (rows.div_ceil(per[0]), cols.div_ceil(per[1]));
    let zeros = match of("weight_zero_point") {
        None => Zeros::Same(middle),
        // Packed along outputs, like codes; or one to an element, without what codes have been raised by.
        Some(array)
            if array.dtype() == DType::I32
                && array.shape == [(down * bits as usize).div_ceil(32), across] =>
        {
            Zeros::Each(Codes { array, packed: Some(Packed { bits, axis: 0, order: ORDER }) }, 0)
        }
        Some(array) if array.dtype() == DType::I8 && array.shape == [down, across] => {
            Zeros::Each(Codes { array, packed: None }, middle)
        }
        Some(_) => return opaque(&format!("int{bits}"), "zero points do not fit the shape"),
    };
    let mut groups = of("weight_g_idx");
    if let Some(order) = &groups {
        if order.dtype() != DType::I32 || order.shape != [cols] {
            let (dtype, shape) = (order.dtype().name(), &order.shape);
            let why = format!("`weight_g_idx` is {dtype} {shape:?}, not I32 [{cols}]");
            return opaque(&format!("int{bits}"), &why);
        }
        // Not set: -1 throughout.
        let first =
            read_view(arrays.source, key, &order.shape, &order.view, i32::from_le_bytes)?.first().copied();
        if first == Some(-1) || are_neighbours(arrays.source, key, order, per[1])? {
            groups = None;
        } else if per[0] != 1 {
            return opaque(&format!("int{bits}"), "its groups have scales for several rows");
        }
    }
    let codes = Codes { array: words, packed: Some(Packed { bits, axis: 1, order: ORDER }) };
    let grid = Grid { transposed: false, codes, scales, unit: 1.0, per, zeros, groups };
    Ok(Some(Found::Weight(Box::new(weight(base, vec![rows, cols], scheme, grid, keys, unused)))))
}

const ORDER: [u8; 8] = [0, 1, 2, 3, 4, 5, 6, 7];

/// `X.weight` in I8 or float8 with a scale beside it.
pub(super) fn plain(arrays: &Arrays<'_>, key: &str, _: &mut Told) -> Result<Option<Found>, FormatError> {
    let Some(base) = key.strip_suffix("weight").filter(|base| base.is_empty() || base.ends_with('.')) else {
        return Ok(None);
    };
    let kinds = [DType::I8, DType::F8E4m3, DType::F8E5m2];
    let Some(codes) = arrays.get(key).filter(|it| kinds.contains(&it.dtype())) else { return Ok(None) };
    let scale = ["weight_scale", "weight_scale_inv", "scale_weight"];
    let scale = scale.into_iter().find_map(|suffix| Some((suffix, arrays.get(&format!("{base}{suffix}"))?)));
    let Some((suffix, scales)) = scale else { return Ok(None) };
    let unused = arrays.present(base, &ACTIVATIONS);
    let keys = arrays.present(base, &["weight", suffix, "weight_zero_point"]);
    let tool = if suffix == "weight_scale" { "compressed-tensors" } else { "scaled" };
    let scheme = format!("{} ({tool})", if codes.dtype() == DType::I8 { "int8" } else { "float8" });
    let opaque = |why: String| {
        let keys = keys.iter().chain(&unused).cloned().collect();
        Ok(Some(Found::Opaque { scheme: scheme.clone(), keys, why }))
    };
    let per = match codes.shape[..] {
        [rows, cols] if rows > 0 && cols > 0 => {
            per(&scales, rows, cols, &arrays.config).map(|per| ([rows, cols], per))
        }
        _ => None,
    };
    let Some(([rows, cols], per)) = per else {
        return opaque(format!("scales of {:?} do not fit codes of {:?}", scales.shape, codes.shape));
    };
    let zeros = match arrays.get(&format!("{base}weight_zero_point")) {
        None => Zeros::Same(0),
        Some(array) if array.dtype() == DType::I8 && per_scale(&array, &scales) => {
            let shape = vec![rows.div_ceil(per[0]), cols.div_ceil(per[1])];
            let view =
                statepress_core::index::Strided { strides: crate::view::row_major(&shape), ..array.view };
            Zeros::Each(Codes { array: Array { shape, view }, packed: None }, 0)
        }
        Some(array) => return opaque(format!("zero points of {:?} do not fit", array.shape)),
    };
    let codes = Codes { array: codes, packed: None };
    let grid = Grid { transposed: false, codes, scales, unit: 1.0, per, zeros, groups: None };
    Ok(Some(Found::Weight(Box::new(weight(base, vec![rows, cols], scheme, grid, keys, unused)))))
}

fn weight(
    base: &str,
    shape: Vec<usize>,
    scheme: String,
    grid: Grid,
    keys: Vec<String>,
    unused: Vec<String>,
) -> Weight {
    let encoding = encoding(&grid, &shape);
    Weight {
        name: format!("{base}weight"),
        shape,
        scheme,
        encoding,
        rule: Rule::Grid(grid),
        keys,
        unused: (FLOATS, unused),
    }
}

/// Whether there is a zero point to each scale, in rows without gaps.
fn per_scale(zeros: &Array, scales: &Array) -> bool {
    let contiguous = crate::view::is_contiguous(&zeros.shape, &zeros.view.strides);
    contiguous && shape::elements(&zeros.shape) == shape::elements(&scales.shape)
}

/// How many outputs and inputs share a scale.
fn per(scales: &Array, rows: usize, cols: usize, config: &Value) -> Option<[usize; 2]> {
    let floats = !scales.dtype().is_whole() && scales.dtype() != DType::C64;
    let block = |n: usize| config["weight_block_size"][n].as_u64().map_or(128, |size| size as usize).max(1);
    let size = groups_said(config);
    match scales.shape[..] {
        _ if !floats => None,
        [] | [1] | [1, 1] => Some([rows, cols]),
        [n] | [n, 1] if n == rows => Some([1, cols]),
        [n, groups] if n == rows && groups > 0 => {
            let said = size.filter(|&size| cols.div_ceil(size) == groups);
            said.or_else(|| cols.is_multiple_of(groups).then(|| cols / groups)).map(|size| [1, size])
        }
        [down, across] if rows.div_ceil(block(0)) == down && cols.div_ceil(block(1)) == across => {
            Some([block(0), block(1)])
        }
        _ => None,
    }
}

/// What `config_groups` say of weights.
fn said<'a>(config: &'a Value, field: &'a str) -> impl Iterator<Item = usize> + 'a {
    let groups = config["config_groups"].as_object().into_iter().flat_map(|groups| groups.values());
    groups.filter_map(move |group| group["weights"][field].as_u64()).map(|n| n as usize)
}

fn bits_said(config: &Value) -> Vec<usize> {
    said(config, "num_bits").filter(|bits| (1..=8).contains(bits)).collect()
}

fn groups_said(config: &Value) -> Option<usize> {
    said(config, "group_size").find(|&size| size > 0)
}
