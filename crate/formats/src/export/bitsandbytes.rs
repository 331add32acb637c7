//! Weights under the names and in the types in which bitsandbytes stores them in safetensors: NF4 as `QuantState.as_dict(packed=True)`
//! of `bitsandbytes/functional.py` does, and the rows of LLM.int8 as `Int8Params` of `bitsandbytes/nn/modules.py`. Codes stay bit for
//! bit what they are here. `quantized::bitsandbytes` reads them.

use serde_json::json;
use statepress_core::encoding::{Group, NESTED_BLOCK, ScaleType};
use statepress_core::{Coding, DType, Encoding, Form, Grid, Packed, Scales, Tensor, shape, tables};

use crate::{FormatError, TensorSpec};

/// Numbers of a block, of which there is one maximum: what bitsandbytes has kernels for on every device. (Blocks of 32 are new.)
const BLOCKS: [usize; 7] = [64, 128, 256, 512, 1024, 2048, 4096];

/// What the largest code of LLM.int8 stands for is the largest magnitude of a row.
const LARGEST: f32 = 127.0;

/// The most characters of an f32 as JSON has it: sizes are known before any number is.
const NUMBER: usize = 26;

/// How a weight is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// NF4 with a maximum for each block of so many numbers.
    Nf4 {
        /// Numbers of a block.
        block: usize,
        /// Whether maxima are codes themselves.
        double: bool,
    },
    /// LLM.int8: eight bits, and a scale for each row.
    Int8,
}

/// One array of a weight.
struct Array {
    suffix: &'static str,
    dtype: DType,
    shape: Vec<usize>,
}

impl Packing {
    /// How a matrix of that encoding is stored so that it stands for the same numbers; `None` where bitsandbytes has nothing for it.
    pub fn of(encoding: Encoding, shape: &[usize]) -> Option<Self> {
        let Encoding::Codes(Coding { grid, group, scale }) = encoding else { return None };
        match (grid, group, shape) {
            (Grid::Nf4, Group::Values(block), [_, _]) if BLOCKS.contains(&block) => {
                Some(Self::Nf4 { block, double: scale == ScaleType::Double })
            }
            (Grid::Int8, Group::Row | Group::Tensor, [_, _]) => Some(Self::Int8),
            _ => None,
        }
    }

    /// What bitsandbytes calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nf4 { .. } => "nf4",
            Self::Int8 => "LLM.int8",
        }
    }

    /// The arrays of a weight, in the order of [`Self::bytes`].
    pub fn specs(self, name: &str, shape: &[usize]) -> Vec<TensorSpec> {
        let named = |Array { suffix, dtype, shape }| {
            // What is beside eight bits belongs to their module, not to the weight.
            let base = match self {
                Self::Int8 if !suffix.is_empty() => name.strip_suffix("weight").unwrap_or(name),
                _ => name,
            };
            TensorSpec { name: format!("{base}{suffix}"), shape, form: Form::Kept(dtype), coded: false }
        };
        self.arrays(shape).into_iter().map(named).collect()
    }

    fn arrays(self, shape: &[usize]) -> Vec<Array> {
        let array = |suffix, dtype, shape| Array { suffix, dtype, shape };
        let (n, rows) = (shape::elements(shape).unwrap_or(0), shape::matrix(shape).0);
        let Self::Nf4 { block, double } = self else {
            return vec![
                array("", DType::I8, shape.to_vec()),
                array("SCB", DType::F32, vec![rows]),
                array("weight_format", DType::U8, Vec::new()),
            ];
        };
        let blocks = n.div_ceil(block);
        let state = state(shape, block, double.then_some(0.0)).len();
        let mut arrays = vec![array("", DType::U8, vec![n.div_ceil(2), 1])];
        arrays.push(array(".absmax", if double { DType::U8 } else { DType::F32 }, vec![blocks]));
        if double {
            arrays.push(array(".nested_absmax", DType::F32, vec![blocks.div_ceil(NESTED_BLOCK)]));
            arrays.push(array(".nested_quant_map", DType::F32, vec![256]));
        }
        arrays.push(array(".quant_map", DType::F32, vec![16]));
        arrays.push(array(".quant_state.bitsandbytes__nf4", DType::U8, vec![state]));
        arrays
    }

    /// The bytes of the arrays of a weight, which has the encoding that this is [`Self::of`]; `widened` are the numbers of its scales.
    ///
    /// # Errors
    /// For a weight of another encoding.
    pub fn bytes(
        self,
        name: &str,
        weight: &Tensor,
        widened: impl Fn(&Scales) -> Vec<f32>,
    ) -> Result<Vec<Vec<u8>>, FormatError> {
        let shape = &weight.shape;
        let is_so = Self::of(weight.encoding(), shape) == Some(self);
        let (Packed::Codes(codes), true) = (&weight.data, is_so) else {
            return Err(FormatError::write(
                name,
                format!("it is {}, not {}", weight.encoding().name(), self.name()),
            ));
        };
        let (packed, scales) = (codes.codes.clone(), widened(&codes.scales));
        let Self::Nf4 { block, .. } = self else {
            let rows = shape::matrix(shape).0;
            // A scale for the whole matrix is that of every row.
            let of_row = |row: usize| scales.get(row).or(scales.first()).map_or(0.0, |scale| LARGEST * scale);
            return Ok(vec![packed, floats(&(0..rows).map(of_row).collect::<Vec<_>>()), vec![0]]);
        };
        let table = floats(&tables::NF4);
        Ok(match &codes.scales {
            Scales::Double { codes: maxima, nested, offset } => vec![
                packed,
                maxima.clone(),
                floats(nested),
                floats(tables::dynamic()),
                table,
                state(shape, block, Some(*offset)),
            ],
            _ => vec![packed, floats(&scales), table, state(shape, block, None)],
        })
    }
}

/// What the codes of a weight are, as JSON; `offset` is that of maxima that are codes. Of one length whatever the offset: spaces may
/// end it.
fn state(shape: &[usize], block: usize, offset: Option<f32>) -> Vec<u8> {
    let mut state = json!({"quant_type": "nf4", "blocksize": block, "dtype": "float32", "shape": shape});
    if let Some(offset) = offset {
        state["nested_blocksize"] = NESTED_BLOCK.into();
        state["nested_dtype"] = "float32".into();
        state["nested_offset"] = 0.into();
        let length = state.to_string().len() + NUMBER;
        state["nested_offset"] = offset.into();
        return format!("{:<length$}", state.to_string()).into_bytes();
    }
    state.to_string().into_bytes()
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_as_long_whatever_its_offset() {
        let long = |offset| state(&[256, 64], 64, Some(offset)).len();
        for offset in [0.1, -1.234_567_9e-38, f32::MIN_POSITIVE, f32::MIN, f32::MAX, 1.0 / 3.0] {
            assert_eq!(long(offset), long(0.0), "{offset}");
            let read: serde_json::Value = serde_json::from_slice(&state(&[1], 64, Some(offset))).unwrap();
            assert_eq!(read["nested_offset"].as_f64().unwrap() as f32, offset);
        }
    }
}
