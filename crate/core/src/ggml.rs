//! The types of ggml, in which llama.cpp's files have their tensors. Source: `ggml-common.h` and `GGML_QUANT_SIZES` of the
//! `gguf` package.

/// How numbers are stored, by ggml's name. All but those of plain floats have blocks of neighbours in a row that share scales.
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
    Q2K,
    Q3K,
    Iq4Xs,
}

impl GgmlType {
    /// Those that are read.
    pub const ALL: [Self; 15] = [
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
        Self::Q2K,
        Self::Q3K,
        Self::Iq4Xs,
    ];

    /// Whether it is written as well.
    pub const fn is_written(self) -> bool {
        !matches!(self, Self::Q2K | Self::Q3K | Self::Iq4Xs)
    }

    /// Those that are written.
    pub fn written() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|kind| kind.is_written())
    }

    /// The names of those, for whoever has asked for another.
    pub fn names_of_written() -> String {
        Self::written().map(Self::name).collect::<Vec<_>>().join(", ")
    }

    /// ggml's name.
    pub const fn name(self) -> &'static str {
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
            Self::Q2K => "Q2_K",
            Self::Q3K => "Q3_K",
            Self::Iq4Xs => "IQ4_XS",
        }
    }

    /// Its number in files.
    pub const fn id(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q5_0 => 6,
            Self::Q5_1 => 7,
            Self::Q8_0 => 8,
            Self::Q2K => 10,
            Self::Q3K => 11,
            Self::Q4K => 12,
            Self::Q5K => 13,
            Self::Q6K => 14,
            Self::Iq4Nl => 20,
            Self::Iq4Xs => 23,
            Self::Bf16 => 30,
        }
    }

    /// The type of that number.
    pub fn of(id: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.id() == id)
    }

    /// Numbers and bytes of a block.
    pub const fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Q8_0 => (32, 34),
            Self::Q4_0 | Self::Iq4Nl => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Q5_0 => (32, 22),
            Self::Q5_1 => (32, 24),
            Self::Q2K => (256, 84),
            Self::Q3K => (256, 110),
            Self::Q4K => (256, 144),
            Self::Q5K => (256, 176),
            Self::Q6K => (256, 210),
            Self::Iq4Xs => (256, 136),
        }
    }

    /// Bytes of a row of so many numbers; `None` where they are no whole blocks.
    pub fn row_bytes(self, columns: usize) -> Option<usize> {
        let (numbers, bytes) = self.block();
        if columns.is_multiple_of(numbers) { (columns / numbers).checked_mul(bytes) } else { None }
    }

    /// What llama.cpp calls a file whose matrices are of it (`general.file_type`, `LLAMA_FTYPE_*`).
    pub const fn file_type(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q8_0 => 7,
            Self::Q5_0 => 8,
            Self::Q5_1 => 9,
            Self::Q2K => 10,
            Self::Q3K => 12,
            Self::Q4K => 14,
            Self::Q5K => 16,
            Self::Q6K => 18,
            Self::Iq4Nl => 25,
            Self::Iq4Xs => 30,
            Self::Bf16 => 32,
        }
    }

    /// The type, or the nearest that holds at least as much and fits rows of so many numbers: what llama.cpp's own
    /// quantizer falls back to.
    pub fn for_rows(self, columns: usize) -> Self {
        let finer = match self {
            _ if self.row_bytes(columns).is_some() => return self,
            Self::Q2K | Self::Q3K | Self::Iq4Xs => Self::Iq4Nl,
            Self::Q4K => Self::Q5_0,
            Self::Q5K => Self::Q5_1,
            Self::Q6K => Self::Q8_0,
            _ => Self::F16,
        };
        finer.for_rows(columns)
    }
}
