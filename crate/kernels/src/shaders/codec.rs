//! How the numbers of a matrix are stored, as a kernel sees it.

use std::collections::BTreeSet;
use std::fmt::Write;

use statepress_core::encoding::{Coding, Plain, ScaleType};
use statepress_core::{Encoding, Grid, Group, Levels};

/// How a matrix's numbers are stored, as far as a kernel's text depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Codec {
    Fp32,
    Fp16,
    Bf16,
    /// `per_row`: a scale for each row or one for all, of INT8, whose products are of integers then.
    Codes {
        grid: Grid,
        scale: Scale,
        per_row: bool,
    },
}

/// How scales are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Scale {
    Fp32,
    Fp16,
    Double,
    Affine,
}

impl From<Plain> for Codec {
    fn from(plain: Plain) -> Self {
        match plain {
            Plain::Fp32 => Self::Fp32,
            Plain::Fp16 => Self::Fp16,
            Plain::Bf16 => Self::Bf16,
            Plain::Codes(Coding { grid, group, scale }) => {
                let per_row = grid == Grid::Int8 && !matches!(group, Group::Values(_));
                Self::Codes { grid, scale: scale.into(), per_row }
            }
        }
    }
}

impl From<ScaleType> for Scale {
    fn from(scale: ScaleType) -> Self {
        match scale {
            // Logarithmic scales are few: they are widened when they are uploaded.
            ScaleType::Fp32 | ScaleType::Log8 => Self::Fp32,
            ScaleType::Fp16 => Self::Fp16,
            ScaleType::Double => Self::Double,
            ScaleType::Affine => Self::Affine,
        }
    }
}

impl Codec {
    /// Every one that a tensor can have.
    pub fn all() -> Vec<Self> {
        let scales = [ScaleType::Fp32, ScaleType::Fp16, ScaleType::Double, ScaleType::Affine];
        let codes = |&grid: &Grid| {
            let coding = move |group| scales.map(|scale| Encoding::Codes(Coding { grid, group, scale }));
            [Group::Row, Group::Values(64)].into_iter().flat_map(coding)
        };
        let codes = Grid::ALL.iter().flat_map(codes).filter(|it| it.refusal(&[1, 64]).is_none());
        let all = [Encoding::Fp32, Encoding::Fp16, Encoding::Bf16].into_iter().chain(codes);
        let all: BTreeSet<Self> = all.filter_map(Encoding::plain).map(Self::from).collect();
        all.into_iter().collect()
    }

    /// Bytes of the codes of a row of so many eights: whole words of four.
    pub fn row_bytes(self, eights: usize) -> usize {
        match self {
            Self::Fp32 => 32 * eights,
            Self::Fp16 | Self::Bf16 => 16 * eights,
            Self::Codes { grid, .. } => (eights * grid.bits()).next_multiple_of(4),
        }
    }

    /// Whether products are of integers where the GPU has them.
    pub fn is_int8(self) -> bool {
        matches!(self, Self::Codes { per_row: true, .. })
    }

    /// The function that reads a scale.
    pub(super) fn scale(self) -> &'static str {
        match self {
            Self::Codes { scale: Scale::Fp16, .. } => "scale_fp16",
            Self::Codes { scale: Scale::Double, .. } => "scale_double",
            Self::Codes { scale: Scale::Affine, .. } => "scale_affine",
            _ => "scale_fp32",
        }
    }

    /// What decodes eight columns of `MATRIX`.
    pub(super) fn text(self) -> String {
        let grid = match self {
            Self::Fp32 => return shader!("../linear/fp32.wgsl").into(),
            Self::Fp16 => return shader!("../codecs/half16/fp16.wgsl").into(),
            Self::Bf16 => return shader!("../codecs/half16/bf16.wgsl").into(),
            Self::Codes { per_row: true, .. } => {
                return shader!("../codecs/grids/int8/int8.wgsl").replace("SCALE", self.scale());
            }
            Self::Codes { grid, .. } => grid,
        };
        // Codes of bytes and of nibbles lie as files have them; all others are a stream.
        let stream = shader!("../codecs/grids/stream.wgsl");
        let [lead, codes] = match (grid.bits(), grid.levels()) {
            (4, Levels::Integers) => ["", shader!("../codecs/grids/int4/int4.wgsl")],
            (4, Levels::Table(_)) => ["", shader!("../codecs/grids/nf4/nf4.wgsl")],
            (_, Levels::Integers) => [stream, shader!("../codecs/grids/integers.wgsl")],
            (_, Levels::Table(_)) => [stream, shader!("../codecs/grids/table.wgsl")],
        };
        let center = match self {
            Self::Codes { scale: Scale::Affine, .. } => "center_affine",
            _ => "center_zero",
        };
        let text = lead.to_string() + codes + shader!("../codecs/blocks.wgsl");
        text.replace("CENTER", center)
            .replace("SCALE", self.scale())
            .replace("BITS", &format!("{}u", grid.bits()))
            .replace("TABLE", grid.name())
    }
}

/// The tables that codecs look codes up in, in the memory of the workgroup, and how they get there.
pub(super) fn tables(codecs: &[Codec]) -> String {
    let grids: BTreeSet<Grid> = codecs
        .iter()
        .filter_map(|codec| match codec {
            Codec::Codes { grid, .. } => Some(*grid),
            _ => None,
        })
        .collect();
    let (mut text, mut fill) = (String::new(), String::new());
    for grid in grids {
        let Levels::Table(table) = grid.levels() else { continue };
        let (name, n) = (grid.name(), table.len());
        let values: Vec<_> = table.iter().map(|value| format!("{value:?}")).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "var<workgroup> {name}: array<f32, {n}>;");
        let _ = writeln!(fill, "    if (thread < {n}u) {{");
        let _ = writeln!(fill, "        var levels = array<f32, {n}>({});", values.join(", "));
        let _ = writeln!(fill, "        {name}[thread] = levels[thread];\n    }}");
    }
    format!(
        "{text}\n// Fills the tables that codes are looked up in; a barrier has to follow.\n\
         fn prepare_tables(thread: u32) {{\n{fill}}}\n"
    )
}
