//! The types of ggml that tensors can be written in.

use half::{bf16, f16};

use super::{iq4_nl, k_quants, quants};

/// How numbers are stored, by ggml's name. All but the first three have blocks of neighbours in a row that share scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(non_camel_case_types, missing_docs, reason = "ggml's names")]
pub enum GgmlType {
    F32,
    F16,
    Bf16,
    Q8_0,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Iq4Nl,
    Q4K,
    Q5K,
    Q6K,
}

impl GgmlType {
    /// Every type there is.
    pub const ALL: [Self; 12] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q8_0,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Iq4Nl,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
    ];

    /// ggml's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q8_0 => "Q8_0",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Iq4Nl => "IQ4_NL",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
        }
    }

    /// The type of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Its number in files.
    pub fn id(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q5_0 => 6,
            Self::Q5_1 => 7,
            Self::Q8_0 => 8,
            Self::Q4K => 12,
            Self::Q5K => 13,
            Self::Q6K => 14,
            Self::Iq4Nl => 20,
            Self::Bf16 => 30,
        }
    }

    /// What llama.cpp calls a file whose matrices are of it (`general.file_type`, `LLAMA_FTYPE_*`).
    pub fn file_type(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q8_0 => 7,
            Self::Q5_0 => 8,
            Self::Q5_1 => 9,
            Self::Q4K => 14,
            Self::Q5K => 16,
            Self::Q6K => 18,
            Self::Iq4Nl => 25,
            Self::Bf16 => 32,
        }
    }

    /// Numbers and bytes of a block.
    pub fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Q8_0 => (32, 34),
            Self::Q4_0 | Self::Iq4Nl => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Q5_0 => (32, 22),
            Self::Q5_1 => (32, 24),
            Self::Q4K => (256, 144),
            Self::Q5K => (256, 176),
            Self::Q6K => (256, 210),
        }
    }

    /// Bytes of a row of so many numbers; `None` where they are no whole blocks.
    pub fn row_bytes(self, columns: usize) -> Option<usize> {
        let (numbers, bytes) = self.block();
        columns.is_multiple_of(numbers).then(|| columns / numbers * bytes)
    }

    /// The type, or the nearest that holds at least as much and fits rows of so many numbers: what llama.cpp's own
    /// quantizer falls back to.
    pub fn for_rows(self, columns: usize) -> Self {
        let finer = match self {
            _ if self.row_bytes(columns).is_some() => return self,
            Self::Q4K => Self::Q5_0,
            Self::Q5K => Self::Q5_1,
            Self::Q6K => Self::Q8_0,
            _ => Self::F16,
        };
        finer.for_rows(columns)
    }

    /// Appends a block of numbers; `None` where the type cannot hold them.
    pub(super) fn encode(self, numbers: &[f32], out: &mut Vec<u8>) -> Option<()> {
        if self == Self::F32 {
            out.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
            return Some(());
        }
        if self == Self::Bf16 {
            out.extend(numbers.iter().flat_map(|&number| bf16::from_f32(number).to_le_bytes()));
            return Some(());
        }
        if !numbers.iter().all(|number| number.is_finite()) {
            return None;
        }
        match self {
            Self::F32 | Self::Bf16 => Some(()),
            Self::F16 => numbers.iter().try_for_each(|&number| binary16(number, out)),
            Self::Q8_0 => quants::q8_0(numbers, out),
            Self::Q4_0 => quants::q4_0(numbers, out),
            Self::Q4_1 => quants::q4_1(numbers, out),
            Self::Q5_0 => quants::q5_0(numbers, out),
            Self::Q5_1 => quants::q5_1(numbers, out),
            Self::Iq4Nl => iq4_nl::iq4_nl(numbers, out),
            Self::Q4K => k_quants::q4_k(numbers, out),
            Self::Q5K => k_quants::q5_k(numbers, out),
            Self::Q6K => k_quants::q6_k(numbers, out),
        }
    }
}

/// Appends a binary16; `None` where the number is out of its reach.
pub(super) fn binary16(number: f32, out: &mut Vec<u8>) -> Option<()> {
    let half = f16::from_f32(number);
    out.extend(half.to_le_bytes());
    half.is_finite().then_some(())
}
