//! Golden tensors, read with the `safetensors` crate: not with our own reader.

use std::path::Path;

use safetensors::{Dtype, SafeTensors};

/// The bytes of a golden file.
pub struct Golden(Vec<u8>);

impl Golden {
    /// Reads a golden file.
    pub fn open(path: &Path) -> Self {
        Self(std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    }

    /// A golden file that is part of the test binary.
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.0).unwrap()
    }

    /// Every name.
    pub fn names(&self) -> Vec<String> {
        self.tensors().names().into_iter().map(str::to_string).collect()
    }

    /// Whether there is such a tensor.
    pub fn has(&self, name: &str) -> bool {
        self.tensors().tensor(name).is_ok()
    }

    /// A tensor's shape.
    pub fn shape(&self, name: &str) -> Vec<usize> {
        self.tensors().tensor(name).unwrap_or_else(|error| panic!("{name}: {error}")).shape().to_vec()
    }

    /// A tensor's raw little-endian bytes.
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        self.tensors().tensor(name).unwrap_or_else(|error| panic!("{name}: {error}")).data().to_vec()
    }

    /// An F32 tensor.
    pub fn f32(&self, name: &str) -> Vec<f32> {
        self.expect(name, Dtype::F32);
        self.bytes(name).as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }

    /// An F64 tensor.
    pub fn f64(&self, name: &str) -> Vec<f64> {
        self.expect(name, Dtype::F64);
        self.bytes(name).as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect()
    }

    /// An F16 tensor.
    pub fn f16(&self, name: &str) -> Vec<f32> {
        self.expect(name, Dtype::F16);
        let half = |bytes: &[u8; 2]| half::f16::from_le_bytes(*bytes).to_f32();
        self.bytes(name).as_chunks().0.iter().map(half).collect()
    }

    /// An I64 or I32 tensor as token ids or indexes.
    pub fn ids(&self, name: &str) -> Vec<u32> {
        let bytes = self.bytes(name);
        match self.tensors().tensor(name).unwrap().dtype() {
            Dtype::I64 => bytes.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes) as u32).collect(),
            Dtype::I32 => bytes.as_chunks().0.iter().map(|bytes| i32::from_le_bytes(*bytes) as u32).collect(),
            other => panic!("{name} is {other:?}, not integers"),
        }
    }

    fn expect(&self, name: &str, dtype: Dtype) {
        let found = self.tensors().tensor(name).unwrap_or_else(|error| panic!("{name}: {error}")).dtype();
        assert_eq!(found, dtype, "{name}");
    }
}

/// Fails unless `|a - b| / (1 + |b|)` is within `tolerance` everywhere.
#[track_caller]
pub fn assert_close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}: length");
    let error = |a: f32, b: f32| (a - b).abs() / (1.0 + b.abs());
    let worst = found
        .iter()
        .zip(expected)
        .enumerate()
        .max_by(|(_, a), (_, b)| error(*a.0, *a.1).total_cmp(&error(*b.0, *b.1)));
    if let Some((at, (&a, &b))) = worst {
        let worst = error(a, b);
        assert!(
            worst <= tolerance,
            "{what}: element {at} is {a}, expected {b} (error {worst:e} > {tolerance:e})"
        );
    }
}
