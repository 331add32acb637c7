//! bitsandbytes: `W` with codes of four bits and a table (`nf4`, `fp4`), or `X.weight` of LLM.int8.
//! Source: `bitsandbytes/functional.py` (`QuantState`), `bitsandbytes/nn/modules.py`; the files are those it writes.

use serde_json::Value;
use statepress_core::coded::{Array, BlockMax, Codes, Grid, Rule, Table, Zeros};
use statepress_core::encoding::{Granularity, NESTED_BLOCK, ScaleType};
use statepress_core::index::Extent;
use statepress_core::words::counted;
use statepress_core::{DType, Encoding, shape, tables};

use super::{ALL_USED, Arrays, Found, Told, Weight};
use crate::FormatError;
use crate::cursor::read;
use crate::shape::checked_elements;
use crate::tensor::read_f32;
use crate::view::contiguous_extent;

/// What follows a weight's name in the key of its description, before `nf4` or `fp4`.
const STATE: &str = ".quant_state.bitsandbytes__";

/// The arrays that lie beside the codes.
const BESIDE: [&str; 4] = [".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map"];

/// Bytes of a description: a few names and numbers.
const STATE_BYTES: u64 = 1 << 14;

/// `W.quant_state.bitsandbytes__nf4`: JSON in bytes, beside `W`, `W.absmax`, `W.quant_map`.
pub(super) fn four_bits(
    arrays: &Arrays<'_>,
    key: &str,
    told: &mut Told,
) -> Result<Option<Found>, FormatError> {
    let Some((name, kind)) = key.split_once(STATE) else { return Ok(None) };
    let scheme = format!("{kind} (bitsandbytes)");
    let mut keys = vec![name.to_string()];
    keys.extend(arrays.present(name, &BESIDE));
    keys.push(key.into());
    Ok(Some(match put_together(arrays, key, name, told)? {
        Ok((table, shape, encoding)) => {
            let (name, rule) = (name.into(), Rule::Table(table));
            Found::Weight(Box::new(Weight { name, shape, scheme, encoding, rule, keys, unused: ALL_USED }))
        }
        Err(why) => Found::Opaque { scheme, keys, why },
    }))
}

type Together = Result<(Table, Vec<usize>, Encoding), String>;

fn put_together(
    arrays: &Arrays<'_>,
    key: &str,
    name: &str,
    told: &mut Told,
) -> Result<Together, FormatError> {
    let wanted =
        |suffix: &str| arrays.get(&format!("{name}{suffix}")).ok_or(format!("`{name}{suffix}` is missing"));
    let (codes, absmax, map) = match (wanted(""), wanted(".absmax"), wanted(".quant_map")) {
        (Ok(codes), Ok(absmax), Ok(map)) => (codes, absmax, map),
        (Err(why), ..) | (_, Err(why), _) | (.., Err(why)) => return Ok(Err(why)),
    };
    let Some(state) = arrays.get(key).filter(|state| state.dtype() == DType::U8) else {
        return Ok(Err(format!("`{key}` is not bytes")));
    };
    let at = contiguous_extent(key, &state.shape, &state.view)?;
    if at.len > STATE_BYTES {
        return Ok(Err(format!("`{key}` has {} bytes, more than a description has", at.len)));
    }
    let state = read(arrays.source, key, at.offset, at.len)?;
    let Ok(state) = serde_json::from_slice::<Value>(&state) else {
        return Ok(Err(format!("`{key}` is not JSON")));
    };
    let number = |field: &str| state[field].as_u64().and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0);
    let dims = state["shape"].as_array().and_then(|dims| {
        dims.iter()
            .map(|dim| dim.as_u64().and_then(|dim| usize::try_from(dim).ok()))
            .collect::<Option<Vec<_>>>()
    });
    let (Some(shape), Some(block)) = (dims, number("blocksize")) else {
        return Ok(Err(format!("`{key}` has no shape or no blocksize")));
    };
    let n = checked_elements(name, &shape)?;
    let stored = contiguous_extent(name, &codes.shape, &codes.view)?;
    // Other storage types than bytes are a few bytes longer.
    let bytes = n.div_ceil(2) as u64;
    if n == 0 || stored.len < bytes || stored.len >= bytes + 8 {
        return Ok(Err(format!("{} of codes for the shape {shape:?}", counted(stored.len, "byte", "bytes"))));
    }
    let blocks = n.div_ceil(block);
    let Ok(table) = <[f32; 16]>::try_from(numbers(arrays, &map, name)?) else {
        return Ok(Err(format!("`{name}.quant_map` has the shape {:?}, not [16]", map.shape)));
    };
    let flat = |array: &Array, dtype, len: usize| {
        array.dtype() == dtype && shape::elements(&array.shape) == Some(len)
    };
    let (absmax, double) = if flat(&absmax, DType::F32, blocks) {
        (BlockMax::Plain(absmax), false)
    } else {
        let (nested, table) = match (wanted(".nested_absmax"), wanted(".nested_quant_map")) {
            (Ok(nested), Ok(table)) => (nested, table),
            (Err(why), _) | (_, Err(why)) => return Ok(Err(why)),
        };
        let size = number("nested_blocksize").unwrap_or(NESTED_BLOCK);
        let table = numbers(arrays, &table, name)?;
        let fits = flat(&absmax, DType::U8, blocks)
            && flat(&nested, DType::F32, blocks.div_ceil(size))
            && table.len() == 256;
        let Some(offset) = state["nested_offset"].as_f64().filter(|_| fits) else {
            return Ok(Err("block maxima do not fit the shape, or their offset is missing".into()));
        };
        // A GPU and a CPU write different lowest entries; ours is the CPU's.
        let ours = size == NESTED_BLOCK && table == tables::dynamic();
        (BlockMax::Double { codes: absmax, table, nested, block: size, offset: offset as f32 }, ours)
    };
    let nf4 = table == tables::NF4;
    if !nf4 && key.ends_with("nf4") {
        let message =
            "the table beside the codes is not that of NF4: values are those of the table in the file";
        told.assumed("quant-map", message.into(), name);
    }
    let absmax_type = if double { ScaleType::Double } else { ScaleType::Fp32 };
    let encoding = Encoding::nf4(block, absmax_type);
    let ours = nf4 && encoding.refusal(&shape).is_none();
    let codes = Extent { offset: stored.offset, len: bytes };
    let encoding = if ours { encoding } else { Encoding::Fp32 };
    Ok(Ok((Table { codes, table, block, absmax }, shape, encoding)))
}

/// A few numbers of a table.
fn numbers(arrays: &Arrays<'_>, array: &Array, name: &str) -> Result<Vec<f32>, FormatError> {
    match shape::elements(&array.shape) {
        Some(n) if n <= 256 => read_f32(arrays.source, name, &array.shape, &array.view),
        _ => Ok(Vec::new()),
    }
}

/// How LLM.int8 orders codes, by the number in `X.weight_format`.
const ORDERS: [&str; 4] = ["row", "col32", "col_turing", "col_ampere"];

/// `X.SCB`: the largest magnitude of every row of `X.weight`, in I8.
pub(super) fn eight_bits(arrays: &Arrays<'_>, key: &str, _: &mut Told) -> Result<Option<Found>, FormatError> {
    let Some(base) = key.strip_suffix("SCB").filter(|base| base.is_empty() || base.ends_with('.')) else {
        return Ok(None);
    };
    let name = format!("{base}weight");
    let (Some(codes), Some(absmax)) = (arrays.get(&name), arrays.get(key)) else { return Ok(None) };
    if codes.dtype() != DType::I8 {
        return Ok(None);
    }
    let mut keys = vec![name.clone(), key.into()];
    keys.extend(arrays.present(base, &["weight_format"]));
    let scheme = "int8 (bitsandbytes)".to_string();
    let format = match arrays.get(&format!("{base}weight_format")) {
        Some(format) => numbers(arrays, &format, &name)?.first().copied().unwrap_or(0.0),
        None => 0.0,
    };
    let why = match (&codes.shape[..], ORDERS.get(format as usize)) {
        (&[rows, cols], Some(&"row"))
            if rows * cols > 0 && absmax.shape == [rows] && absmax.dtype() == DType::F32 =>
        {
            let codes = Codes { array: codes, packed: None };
            let (shape, per) = (vec![rows, cols], [1, cols]);
            let grid = Grid {
                transposed: false,
                codes,
                scales: absmax,
                per,
                zeros: Zeros::Same(0),
                groups: None,
                unit: 1.0 / 127.0,
            };
            let encoding = Encoding::int8(Granularity::Row);
            let rule = Rule::Grid(grid);
            return Ok(Some(Found::Weight(Box::new(Weight {
                name,
                shape,
                scheme,
                encoding,
                rule,
                keys,
                unused: ALL_USED,
            }))));
        }
        (_, Some(&order)) if order != "row" => format!("its codes are in the order `{order}` of a GPU"),
        (_, None) => format!("its order is number {format}, which is not known"),
        _ => format!("codes of {:?} and SCB of {:?} do not fit", codes.shape, absmax.shape),
    };
    Ok(Some(Found::Opaque { scheme, keys, why }))
}
