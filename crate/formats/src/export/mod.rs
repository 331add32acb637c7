//! What is written for other tools. The bytes alone: what a tensor is called there, and which
//! type it gets, is said by whoever knows the model.

pub mod bitsandbytes;
pub mod compressed_tensors;
pub mod gguf;
pub mod onnx;

use statepress_core::{DType, Entry, Scales, Source};

use crate::{FormatError, TensorSpec, read_tensor};

/// How another tool stores the codes of a weight, as several arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// As bitsandbytes does.
    Bitsandbytes(bitsandbytes::Packing),
    /// As compressed-tensors does.
    CompressedTensors(compressed_tensors::Packing),
}

impl Packing {
    /// What the tool calls it.
    pub fn name(self) -> String {
        match self {
            Self::Bitsandbytes(packing) => packing.name().into(),
            Self::CompressedTensors(packing) => format!("int{}", packing.scheme.bits),
        }
    }

    /// The type of its scales, where they are weights of the module, which whoever loads a model in another type rounds.
    pub fn scale_type(self) -> Option<DType> {
        match self {
            Self::Bitsandbytes(_) => None,
            Self::CompressedTensors(packing) => Some(packing.scale),
        }
    }

    /// The arrays of a weight, in the order of [`Self::bytes`].
    pub fn specs(self, name: &str, shape: &[usize]) -> Vec<TensorSpec> {
        match self {
            Self::Bitsandbytes(packing) => packing.specs(name, shape),
            Self::CompressedTensors(packing) => packing.specs(name, shape),
        }
    }

    /// Reads a weight that is stored so that this fits, and gives the bytes of its arrays; `widened` are the numbers of its scales.
    ///
    /// # Errors
    /// Where it cannot be read, and for a weight of another encoding.
    pub fn bytes(
        self,
        source: &dyn Source,
        entry: &Entry,
        widened: impl Fn(&Scales) -> Vec<f32>,
    ) -> Result<Vec<Vec<u8>>, FormatError> {
        match self {
            Self::Bitsandbytes(packing) => packing.bytes(&entry.name, &read_tensor(source, entry)?, widened),
            Self::CompressedTensors(packing) => packing.bytes(source, entry, widened),
        }
    }
}
