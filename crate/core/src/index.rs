//! What is known of a checkpoint after its headers were read: every tensor, no weight.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::coded::Coded;
use crate::{DType, Encoding, Finding, shape};

/// The headers of a checkpoint.
#[derive(Clone, Debug)]
pub struct Index {
    /// The container.
    pub format: Format,
    /// Where in the container the tensors were: `model_state_dict`, `state_dict.model`, `trainable+frozen`, or `bare`, the top
    /// of the file.
    pub wrapper: String,
    /// Everything that could be the weights, what was taken first.
    pub weights: Vec<WeightsAt>,
    /// The model configuration stored in the file, if there is one, field by field.
    pub config: Option<serde_json::Map<String, serde_json::Value>>,
    /// Strings and scalars stored beside the tensors.
    pub metadata: BTreeMap<String, String>,
    /// Every tensor of the model, in file order, under its real key.
    pub tensors: Vec<Entry>,
    /// What reading the headers brought to light.
    pub findings: Vec<Finding>,
}

/// Tensors of a file that could be the weights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct WeightsAt {
    /// The keys to them, with dots between; what their keys begin with; several with `+` between, which are one model; `bare`
    /// at the top level of the file.
    pub path: String,
    /// How many they are.
    pub tensors: u64,
    /// Numbers in them.
    pub params: u64,
}

/// A container format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Zip archive with a pickle, as `torch.save` writes it.
    Pytorch,
    /// safetensors.
    Safetensors,
    /// GGUF, llama.cpp's.
    Gguf,
    /// An archive of NumPy's arrays (`.npz`).
    Numpy,
}

/// One tensor of an index.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The real key in the file.
    pub name: String,
    /// Dimensions of the tensor of numbers (not of packed codes).
    pub shape: Vec<usize>,
    /// Where and how its numbers are stored.
    pub stored: Stored,
    /// The earlier entry that has the very same storage and shape, if any.
    pub tied_to: Option<String>,
}

/// Where and how the numbers of a tensor are stored.
#[derive(Clone, Debug)]
pub enum Stored {
    /// Numbers of one dtype.
    Strided(Strided),
    /// torch's affine quantization: `value = (code - zero_point) * scale`.
    Affine {
        /// The codes: I8, U8 or I32.
        codes: Strided,
        /// The scales.
        scales: AffineScales,
    },
    /// Codes and scales in the layout of `FORMAT.md`: one extent per [`Encoding::parts`].
    Packed {
        /// How the numbers are coded.
        encoding: Encoding,
        /// Whether the codes, its first part, are entropy-coded: as many bytes as they take, instead of packed ones.
        coded: bool,
        /// Where each part lies.
        parts: Vec<Extent>,
    },
    /// Codes and scales in the layout of another tool.
    Coded(Box<Coded>),
    /// An array of a weight that another tool quantized in a way that is not decoded here.
    Opaque {
        /// The array.
        view: Strided,
        /// What the tool calls it.
        scheme: String,
    },
}

/// torch's affine quantization parameters.
#[derive(Clone, Debug)]
pub enum AffineScales {
    /// `torch.per_tensor_affine`.
    PerTensor {
        /// Scale, stored as a double.
        scale: f64,
        /// Zero point.
        zero_point: i64,
    },
    /// `torch.per_channel_affine` along dimension 0.
    PerRow {
        /// One scale per row.
        scales: Strided,
        /// One zero point per row.
        zero_points: Strided,
    },
}

/// A view of a storage: where in the file, and which elements in which order.
#[derive(Clone, Debug)]
pub struct Strided {
    /// Type of the elements.
    pub dtype: DType,
    /// Bytes of the storage in the file.
    pub storage: Extent,
    /// Index in the storage of the first element.
    pub first: u64,
    /// Elements to skip for one step along each dimension.
    pub strides: Vec<u64>,
    /// Whether the numbers are the opposite of what is stored (torch's negative bit). Only floats are.
    pub negated: bool,
}

/// A range of bytes in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Extent {
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
}

impl Entry {
    /// Numbers in the tensor. Readers have checked that this does not overflow.
    pub fn params(&self) -> u64 {
        shape::elements(&self.shape).unwrap_or(0) as u64
    }

    /// Bytes of codes, scales and tables of this tensor alone (also when it is tied).
    pub fn bytes(&self) -> u64 {
        match &self.stored {
            Stored::Strided(view) | Stored::Opaque { view, .. } => self.params() * view.dtype.bytes() as u64,
            Stored::Affine { codes, scales } => {
                let scales = match scales {
                    AffineScales::PerTensor { .. } => 4,
                    AffineScales::PerRow { .. } => 4 * self.shape.first().map_or(1, |&n| n as u64),
                };
                self.params() * codes.dtype.bytes() as u64 + scales
            }
            Stored::Packed { parts, .. } => parts.iter().map(|part| part.len).sum(),
            Stored::Coded(coded) => coded.bytes,
        }
    }

    /// Whether it is stored as plain numbers, also where what was done to them is undone as they are read.
    pub fn is_plain(&self) -> bool {
        match &self.stored {
            Stored::Strided(_) => true,
            Stored::Coded(coded) => coded.is_plain(),
            Stored::Affine { .. } | Stored::Packed { .. } | Stored::Opaque { .. } => false,
        }
    }

    /// Some of its rows, the indexes of its first dimension, as a tensor of its own. `None` where rows do not lie by themselves: in codes
    /// whose scales do not, and where rows were put in another order.
    pub fn rows(&self, rows: Range<usize>) -> Option<Self> {
        let (&count, inner) = self.shape.split_first()?;
        let from = |view: &Strided| {
            let stride = view.strides.first().copied().unwrap_or(0);
            Strided { first: view.first + rows.start as u64 * stride, ..view.clone() }
        };
        let stored = match &self.stored {
            Stored::Strided(view) => Stored::Strided(from(view)),
            Stored::Affine { codes, scales } => {
                let scales = match scales {
                    AffineScales::PerTensor { .. } => scales.clone(),
                    AffineScales::PerRow { scales, zero_points } => {
                        AffineScales::PerRow { scales: from(scales), zero_points: from(zero_points) }
                    }
                };
                Stored::Affine { codes: from(codes), scales }
            }
            Stored::Coded(coded) => Stored::Coded(Box::new(coded.rows(rows.clone(), count)?)),
            Stored::Packed { encoding, coded: false, parts } if !encoding.is_described() => {
                let row = encoding.bytes(inner);
                let part = parts.first()?;
                let offset = part.offset + rows.start as u64 * row;
                let parts = vec![Extent { offset, len: rows.len() as u64 * row }];
                Stored::Packed { encoding: *encoding, coded: false, parts }
            }
            Stored::Packed { .. } | Stored::Opaque { .. } => return None,
        };
        let shape = std::iter::once(rows.len()).chain(inner.iter().copied()).collect();
        Some(Self { name: self.name.clone(), shape, stored, tied_to: None })
    }

    /// Bytes of its codes where they are entropy-coded, else 0.
    pub fn coded_bytes(&self) -> u64 {
        match &self.stored {
            Stored::Packed { coded: true, parts, .. } => parts.first().map_or(0, |codes| codes.len),
            _ => 0,
        }
    }

    /// How its codes are coded, where it is stored as any; of what another tool quantized, where we have the same codes.
    pub fn encoding(&self) -> Option<Encoding> {
        match &self.stored {
            Stored::Packed { encoding, .. } => Some(*encoding),
            Stored::Coded(coded) => Some(coded.encoding),
            Stored::Strided(_) | Stored::Affine { .. } | Stored::Opaque { .. } => None,
        }
    }

    /// The dtype as people call it: `F32`, `QI8`, `NF4`, `nf4 (bitsandbytes)`, `INT6+NF4` of classes of rows, ...
    pub fn dtype_name(&self) -> String {
        match &self.stored {
            Stored::Strided(strided) => strided.dtype.name().into(),
            Stored::Affine { codes, .. } => format!("Q{}", codes.dtype.name()),
            Stored::Packed { encoding, .. } => encoding.name().to_uppercase(),
            Stored::Coded(coded) => coded.scheme.clone(),
            Stored::Opaque { view, scheme } => format!("{} of {scheme}", view.dtype.name()),
        }
    }
}

impl Stored {
    /// Every range of the file that it names.
    fn extents_mut(&mut self) -> Vec<&mut Extent> {
        match self {
            Self::Strided(view) => vec![&mut view.storage],
            Self::Affine { codes, scales: AffineScales::PerTensor { .. } } => vec![&mut codes.storage],
            Self::Affine { codes, scales: AffineScales::PerRow { scales, zero_points } } => {
                vec![&mut codes.storage, &mut scales.storage, &mut zero_points.storage]
            }
            Self::Packed { parts, .. } => parts.iter_mut().collect(),
            Self::Coded(coded) => coded.extents_mut(),
            Self::Opaque { view, .. } => vec![&mut view.storage],
        }
    }
}

impl Index {
    /// The same index of a file that begins at `begin` among others.
    pub fn at(mut self, begin: u64) -> Self {
        for extent in self.tensors.iter_mut().flat_map(|entry| entry.stored.extents_mut()) {
            extent.offset = extent.offset.saturating_add(begin);
        }
        self
    }

    /// The tensor of that key.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.tensors.iter().find(|entry| entry.name == name)
    }
}
