//! GPTQ and AWQ: `X.qweight`, `X.qzeros`, `X.scales` and perhaps `X.g_idx`, stored as `[in, out]`.
//!
//! GPTQ packs codes along inputs and zero points along outputs, as streams of bits. Its first version stores zero points
//! less one; `checkpoint_format` `gptq_v2` does not. AWQ (`gemm`) packs both along outputs, eight in a word, in the order
//! 0 2 4 6 1 3 5 7. Sources: AutoGPTQ `nn_modules/qlinear`, GPTQModel, AutoAWQ `modules/linear/gemm.py`.

use statepress_core::DType;
use statepress_core::coded::{Array, Codes, Grid, Packed, Rule, Zeros};

use super::{Arrays, Found, Told, Weight};
use crate::FormatError;
use crate::coded::{all_same, are_neighbours, encoding};
use crate::tensor::read_f32;

/// The arrays of a weight.
const ARRAYS: [&str; 4] = ["qweight", "qzeros", "scales", "g_idx"];

/// Neighbours in order, and those of AWQ: where each of eight stands.
const PLAIN: [u8; 8] = [0, 1, 2, 3, 4, 5, 6, 7];
const AWQ: [u8; 8] = [0, 4, 1, 5, 2, 6, 3, 7];

pub(super) fn find(arrays: &Arrays<'_>, key: &str, told: &mut Told) -> Result<Option<Found>, FormatError> {
    let Some(base) = key.strip_suffix("qweight").filter(|base| base.is_empty() || base.ends_with('.')) else {
        return Ok(None);
    };
    let Some(qweight) = arrays.get(key).filter(|it| it.dtype() == DType::I32 && it.shape.len() == 2) else {
        return Ok(None);
    };
    let Some(scales) = arrays.get(&format!("{base}scales")).filter(is_matrix) else {
        return Ok(None);
    };
    let keys = arrays.present(base, &ARRAYS);
    let name = format!("{base}weight");
    let Some(qzeros) =
        arrays.get(&format!("{base}qzeros")).filter(|zeros| zeros.dtype() == DType::I32 && is_matrix(zeros))
    else {
        let why = format!("`{base}qzeros` is missing or not I32");
        return Ok(Some(Found::Opaque { scheme: "GPTQ or AWQ".into(), keys, why }));
    };
    let (groups, outputs) = (scales.shape[0], scales.shape[1]);
    let stored = [qweight.shape[0], qweight.shape[1]];
    let width = qzeros.shape[1];
    let awq = stored[1] != outputs;
    // A word has 32 bits; a stream of them may end within one.
    let bits = if awq {
        4
    } else {
        let fits = |bits: &usize| outputs.saturating_mul(*bits).div_ceil(32) == width;
        let said = arrays.config["bits"].as_u64().and_then(|bits| usize::try_from(bits).ok());
        said.filter(fits).or_else(|| (1..=8).rev().find(fits)).unwrap_or(0)
    };
    let inputs = if awq { stored[0] } else { stored[0].saturating_mul(32) / bits.max(1) };
    let tool = if awq { "AWQ" } else { "GPTQ" };
    let scheme = format!("int{bits} ({tool})");
    let opaque = |why: String| Ok(Some(Found::Opaque { scheme: scheme.clone(), keys: keys.clone(), why }));
    let fits = match awq {
        true => stored[1].checked_mul(8) == Some(outputs) && width == stored[1],
        false => [2, 3, 4, 8].contains(&bits) && inputs.checked_mul(bits) == stored[0].checked_mul(32),
    };
    if !fits || groups == 0 || inputs == 0 || outputs == 0 || qzeros.shape[0] != groups {
        let (q, z, s) = (&qweight.shape, &qzeros.shape, &scales.shape);
        return opaque(format!(
            "qweight {q:?}, qzeros {z:?} and scales {s:?} are of no layout that is known"
        ));
    }
    let format = arrays.config["checkpoint_format"].as_str();
    if let Some(format) = format.filter(|format| !awq && !["gptq", "gptq_v2"].contains(format)) {
        return opaque(format!("its checkpoint_format is `{format}`"));
    }
    let size = match arrays.config["group_size"].as_u64() {
        Some(size) if size > 0 && inputs.div_ceil(size as usize) == groups => size as usize,
        _ => inputs.div_ceil(groups),
    };
    if inputs.div_ceil(size) != groups {
        return opaque(format!("{groups} groups do not divide {inputs} inputs"));
    }
    let packed = |axis| {
        let order = if awq { AWQ } else { PLAIN };
        Some(Packed { bits: bits as u32, axis, order })
    };
    let codes = Codes { array: qweight, packed: packed(usize::from(awq)) };
    let zeros = Codes { array: qzeros, packed: packed(1) };
    let same = all_same(arrays.source, &name, &zeros, groups, outputs)?;
    let middle = 1 << (bits - 1);
    let plus = match (format, same) {
        _ if awq => 0,
        (Some("gptq_v2"), _) => 0,
        (Some(_), _) => 1,
        // Symmetric codes have their zero in the middle.
        (None, Some(zero)) if zero == middle => 0,
        (None, Some(zero)) if zero + 1 == middle => 1,
        (None, _) => {
            let message = "whether zero points are stored less one is not said: assumed that they are, as in \
                           checkpoint_format `gptq`; `quantization_config` in a config.json beside the file tells";
            told.assumed("gptq-zero-points", message.into(), &name);
            1
        }
    };
    let zeros = same.map_or(Zeros::Each(zeros, plus), |zero| Zeros::Same(zero as i32 + plus));
    let order = arrays.get(&format!("{base}g_idx")).filter(|_| !awq);
    if let Some(order) = order.as_ref().filter(|order| order.dtype() != DType::I32 || order.shape != [inputs])
    {
        let (dtype, shape) = (order.dtype().name(), &order.shape);
        return opaque(format!("`g_idx` is {dtype} {shape:?}, not I32 [{inputs}]"));
    }
    let order = match order {
        Some(order) if !are_neighbours(arrays.source, &name, &order, size)? => Some(order),
        _ => None,
    };
    let shape = vec![outputs, inputs];
    let grid = Grid { transposed: true, codes, scales, unit: 1.0, per: [1, size], zeros, groups: order };
    let encoding = encoding(&grid, &shape);
    let rule = Rule::Grid(grid);
    let mut unused = Vec::new();
    let bias = format!("{base}bias");
    if let Some(array) =
        arrays.get(&bias).filter(|bias| !awq && bias.shape == [outputs] && bias.dtype().is_float())
        && read_f32(arrays.source, &bias, &array.shape, &array.view)?.iter().all(|&value| value == 0.0)
    {
        unused.push(bias);
    }
    let unused = ("AutoGPTQ writes a bias of zeros where a model has none", unused);
    Ok(Some(Found::Weight(Box::new(Weight { name, shape, scheme, encoding, rule, keys, unused }))))
}

fn is_matrix(array: &Array) -> bool {
    array.shape.len() == 2
}
