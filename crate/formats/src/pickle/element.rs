//! The element types of torch: what they are called, how many bytes they take, which are read.

use statepress_core::DType;

/// An element type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    /// One that is read.
    Read(DType),
    /// One that is not: its name in torch, bytes, and what would help.
    Known { name: &'static str, bytes: u64, help: &'static str },
    /// One that this version has never heard of.
    Unknown(Box<str>),
}

/// What stands before `Storage` in the old classes, the name of the dtype, and what it is here.
type Row = (&'static str, &'static str, Element);

const COMPLEX: &str = "save real and imaginary parts side by side: torch.view_as_real(tensor)";
const FLOAT: &str = "convert it before saving: tensor.float() (with its scale, where there is one)";
const SIGNED: &str = "convert it before saving: tensor.to(torch.int64)";
const PLAIN: &str = "save it dequantized: tensor.dequantize()";

const fn known(name: &'static str, bytes: u64, help: &'static str) -> Element {
    Element::Known { name, bytes, help }
}

const TABLE: [Row; 29] = [
    ("Float", "float32", Element::Read(DType::F32)),
    ("Half", "float16", Element::Read(DType::F16)),
    ("BFloat16", "bfloat16", Element::Read(DType::Bf16)),
    ("Double", "float64", Element::Read(DType::F64)),
    ("Long", "int64", Element::Read(DType::I64)),
    ("Int", "int32", Element::Read(DType::I32)),
    ("Short", "int16", Element::Read(DType::I16)),
    ("Char", "int8", Element::Read(DType::I8)),
    ("Byte", "uint8", Element::Read(DType::U8)),
    ("Bool", "bool", Element::Read(DType::Bool)),
    ("QInt32", "qint32", Element::Read(DType::I32)),
    ("QInt8", "qint8", Element::Read(DType::I8)),
    ("QUInt8", "quint8", Element::Read(DType::U8)),
    ("QUInt4x2", "quint4x2", known("quint4x2", 1, PLAIN)),
    ("QUInt2x4", "quint2x4", known("quint2x4", 1, PLAIN)),
    ("ComplexFloat", "complex64", Element::Read(DType::C64)),
    ("ComplexDouble", "complex128", known("complex128", 16, COMPLEX)),
    ("", "complex32", known("complex32", 4, COMPLEX)),
    ("", "float8_e4m3fn", Element::Read(DType::F8E4m3)),
    ("", "float8_e5m2", Element::Read(DType::F8E5m2)),
    ("", "float8_e4m3fnuz", known("float8_e4m3fnuz", 1, FLOAT)),
    ("", "float8_e5m2fnuz", known("float8_e5m2fnuz", 1, FLOAT)),
    ("", "float8_e8m0fnu", Element::Read(DType::F8E8m0)),
    ("", "float4_e2m1fn_x2", known("float4_e2m1fn_x2", 1, FLOAT)),
    ("", "uint16", Element::Read(DType::U16)),
    ("", "uint32", Element::Read(DType::U32)),
    ("", "uint64", Element::Read(DType::U64)),
    ("", "bits8", known("bits8", 1, SIGNED)),
    ("", "bits16", known("bits16", 2, SIGNED)),
];

impl Element {
    /// The elements of a storage class, `torch.FloatStorage`. Untyped storages are bytes.
    pub(super) fn of_storage(class: &str) -> Self {
        let kind = class.rsplit('.').next().unwrap_or(class).strip_suffix("Storage");
        match kind {
            Some("Untyped") if class.starts_with("torch.") => Self::Read(DType::U8),
            Some(kind) if class.starts_with("torch.") && !kind.is_empty() => {
                Self::find(|row| row.0 == kind).unwrap_or_else(|| Self::Unknown(class.into()))
            }
            _ => Self::Unknown(class.into()),
        }
    }

    /// The elements of a dtype, `torch.uint16`.
    pub(super) fn of_dtype(name: &str) -> Self {
        let short = name.strip_prefix("torch.");
        Self::find(|row| Some(row.1) == short).unwrap_or_else(|| Self::Unknown(name.into()))
    }

    fn find(fits: impl Fn(&Row) -> bool) -> Option<Self> {
        TABLE.iter().find(|row| fits(row)).map(|row| row.2.clone())
    }

    /// Bytes of one element, where they are known.
    pub(crate) fn bytes(&self) -> Option<u64> {
        match self {
            Self::Read(dtype) => Some(dtype.bytes() as u64),
            Self::Known { bytes, .. } => Some(*bytes),
            Self::Unknown(_) => None,
        }
    }

    /// Its name in torch, for people.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Read(dtype) => dtype.name(),
            Self::Known { name, .. } => name,
            Self::Unknown(name) => name,
        }
    }

    /// What to do about tensors of a type that is not read.
    pub(super) fn help(&self) -> &'static str {
        match self {
            Self::Known { help, .. } => help,
            _ => "convert it before saving: tensor.float()",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_both_generations_are_known() {
        assert_eq!(Element::of_storage("torch.BFloat16Storage"), Element::Read(DType::Bf16));
        assert_eq!(Element::of_storage("torch.cuda.HalfStorage"), Element::Read(DType::F16));
        assert_eq!(Element::of_storage("torch.storage.UntypedStorage"), Element::Read(DType::U8));
        assert_eq!(Element::of_storage("torch.ComplexDoubleStorage").bytes(), Some(16));
        assert_eq!(Element::of_storage("torch.Storage").bytes(), None);
        assert_eq!(Element::of_dtype("torch.float8_e5m2fnuz").name(), "float8_e5m2fnuz");
        assert_eq!(Element::of_dtype("torch.float128"), Element::Unknown("torch.float128".into()));
    }
}
