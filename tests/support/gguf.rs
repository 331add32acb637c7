//! A reader of GGUF for tests, which shares nothing with what writes it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// A GGUF file.
pub struct Gguf {
    /// Values by key.
    pub metadata: BTreeMap<String, Value>,
    /// Tensors in file order.
    pub tensors: Vec<GgufTensor>,
    /// Bytes before the first tensor.
    pub data: usize,
    bytes: Vec<u8>,
}

/// A tensor of a header.
#[derive(Clone, Debug, PartialEq)]
pub struct GgufTensor {
    /// Its name.
    pub name: String,
    /// Dimensions, the innermost first.
    pub dims: Vec<u64>,
    /// The number of its type.
    pub kind: u32,
    /// Behind the header.
    pub offset: u64,
}

struct Cursor<'a>(&'a [u8], usize);

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        self.1 += N;
        self.0[self.1 - N..self.1].try_into().unwrap()
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    fn string(&mut self) -> String {
        let length = self.u64() as usize;
        self.1 += length;
        String::from_utf8(self.0[self.1 - length..self.1].to_vec()).unwrap()
    }

    fn value(&mut self, kind: u32) -> Value {
        match kind {
            4 => json!(self.u32()),
            5 => json!(i32::from_le_bytes(self.take())),
            6 => json!(f32::from_le_bytes(self.take())),
            7 => json!(self.take::<1>() == [1]),
            8 => json!(self.string()),
            9 => {
                let (kind, length) = (self.u32(), self.u64());
                (0..length).map(|_| self.value(kind)).collect()
            }
            other => panic!("no type of values is {other}"),
        }
    }
}

impl Gguf {
    /// Reads a file.
    pub fn read(bytes: Vec<u8>) -> Self {
        let mut at = Cursor(&bytes, 0);
        assert_eq!(&at.take(), b"GGUF");
        assert_eq!(at.u32(), 3);
        let (tensors, values) = (at.u64(), at.u64());
        let metadata = (0..values).map(|_| {
            let key = at.string();
            let kind = at.u32();
            (key, at.value(kind))
        });
        let metadata = metadata.collect();
        let tensors = (0..tensors).map(|_| {
            let name = at.string();
            let count = at.u32();
            let dims = (0..count).map(|_| at.u64()).collect();
            GgufTensor { name, dims, kind: at.u32(), offset: at.u64() }
        });
        let tensors: Vec<_> = tensors.collect();
        let data = at.1.next_multiple_of(32);
        Self { metadata, tensors, data, bytes }
    }

    /// A tensor of a header.
    pub fn tensor(&self, name: &str) -> &GgufTensor {
        let found = self.tensors.iter().find(|tensor| tensor.name == name);
        found.unwrap_or_else(|| panic!("no tensor {name}"))
    }

    /// So many bytes of a tensor.
    pub fn bytes(&self, name: &str, length: usize) -> &[u8] {
        &self.bytes[self.data + self.tensor(name).offset as usize..][..length]
    }

    /// The numbers of a tensor of F32.
    pub fn f32(&self, name: &str) -> Vec<f32> {
        let tensor = self.tensor(name);
        assert_eq!(tensor.kind, 0, "{name}");
        let length = tensor.dims.iter().product::<u64>() as usize;
        self.bytes(name, 4 * length).as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }
}
