//! What the header of a GGUF file says about its model: values under keys.

/// A value under a key of the header.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Value {
    U32(u32),
    F32(f32),
    Bool(bool),
    String(String),
    U32s(Vec<u32>),
    I32s(Vec<i32>),
    F32s(Vec<f32>),
    Strings(Vec<String>),
}

/// The number of an array's type.
const ARRAY: u32 = 9;

impl Value {
    /// The number of a value's type, and of that of an array's elements.
    fn id(&self) -> u32 {
        match self {
            Self::U32(_) | Self::U32s(_) => 4,
            Self::I32s(_) => 5,
            Self::F32(_) | Self::F32s(_) => 6,
            Self::Bool(_) => 7,
            Self::String(_) | Self::Strings(_) => 8,
        }
    }

    /// Its type, and then itself.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let length = match self {
            Self::U32s(all) => Some(all.len()),
            Self::I32s(all) => Some(all.len()),
            Self::F32s(all) => Some(all.len()),
            Self::Strings(all) => Some(all.len()),
            Self::U32(_) | Self::F32(_) | Self::Bool(_) | Self::String(_) => None,
        };
        if length.is_some() {
            out.extend(ARRAY.to_le_bytes());
        }
        out.extend(self.id().to_le_bytes());
        if let Some(length) = length {
            out.extend((length as u64).to_le_bytes());
        }
        match self {
            Self::U32(value) => out.extend(value.to_le_bytes()),
            Self::F32(value) => out.extend(value.to_le_bytes()),
            Self::Bool(value) => out.push(u8::from(*value)),
            Self::String(value) => string(value, out),
            Self::U32s(all) => out.extend(all.iter().flat_map(|value| value.to_le_bytes())),
            Self::I32s(all) => out.extend(all.iter().flat_map(|value| value.to_le_bytes())),
            Self::F32s(all) => out.extend(all.iter().flat_map(|value| value.to_le_bytes())),
            Self::Strings(all) => all.iter().for_each(|value| string(value, out)),
        }
    }
}

/// A text: how many bytes, then they.
pub(super) fn string(text: &str, out: &mut Vec<u8>) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::U32(value)
    }
}

impl From<f32> for Value {
    fn from(value: f32) -> Self {
        Self::F32(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::String(value.into())
    }
}
