//! NumPy's archives as checkpoints: arrays as NumPy wrote them, a model in them, and what they may do wrong, by name.

use statepress::{Checkpoint, OpenOptions, sequence_logits};
use statepress_core::index::Stored;
use statepress_core::{Index, Source};
use statepress_formats::{open, read_tensor};
use statepress_kernels::codecs;
use statepress_tests::files::fixture;
use statepress_tests::golden::{Golden, assert_close};
use statepress_tests::zip::zip;

fn file(name: &str) -> Vec<u8> {
    std::fs::read(fixture("numpy").join(name)).unwrap()
}

fn numbers(source: &impl Source, index: &Index, name: &str) -> Vec<f32> {
    codecs::into_numbers(read_tensor(source, index.get(name).unwrap()).unwrap())
}

/// An array of float32 as NumPy writes it, with these words for its order and shape.
fn array(order: &str, shape: &str, numbers: &[f32]) -> Vec<u8> {
    let header = format!("{{'descr': '<f4', 'fortran_order': {order}, 'shape': {shape}, }}\n");
    let mut bytes = [b"\x93NUMPY\x01\x00".as_slice(), &(header.len() as u16).to_le_bytes()].concat();
    bytes.extend(header.as_bytes());
    bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    bytes
}

#[test]
fn arrays_are_read_as_numpy_wrote_them() {
    let (bytes, golden) = (file("arrays.npz"), Golden::open(&fixture("numpy/arrays.safetensors")));
    let index = open(&bytes).unwrap();
    assert_eq!(index.tensors.len(), golden.names().len());
    for name in golden.names() {
        assert_eq!(index.get(&name).unwrap().shape, golden.shape(&name), "{name}");
        assert_eq!(numbers(&bytes, &index, &name), golden.f32(&name), "{name}");
    }
    let told = index.findings.iter().find(|finding| finding.code == "arrays-left-out").unwrap();
    assert!(told.message.starts_with("2 arrays") && told.message.contains("words"), "{}", told.message);
}

#[test]
fn a_model_in_arrays_computes_what_it_did() {
    let golden = Golden::open(&fixture("families/mamba-default/model.safetensors"));
    let members: Vec<(String, Vec<u8>)> = golden
        .names()
        .into_iter()
        .map(|name| {
            let shape: Vec<String> = golden.shape(&name).iter().map(usize::to_string).collect();
            let shape = format!("({},)", shape.join(", "));
            (format!("{name}.npy"), array("False", &shape, &golden.f32(&name)))
        })
        .collect();
    let members: Vec<(&str, &[u8])> =
        members.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let checkpoint = Checkpoint::open(zip(&members, |_| {}), OpenOptions::default()).unwrap();
    let original = Checkpoint::open(
        std::fs::read(fixture("families/mamba-default/model.safetensors")).unwrap(),
        OpenOptions::default(),
    )
    .unwrap();
    let [found, expected] = [&checkpoint, &original].map(|checkpoint| {
        let model = checkpoint.model().unwrap();
        pollster::block_on(sequence_logits(&model, &[1, 2, 3, 4, 5])).unwrap()
    });
    assert_close("logits", &found, &expected, 0.0);
    assert_eq!(serde_json::to_value(checkpoint.inspection().format).unwrap(), "numpy");
}

#[test]
fn arrays_that_contradict_themselves_are_refused_by_name() {
    let of = |bytes: &[u8]| zip(&[("a.npy", bytes)], |_| {});
    let good = array("False", "(2,)", &[1.0, 2.0]);
    let index = open(&of(&good)).unwrap();
    assert!(matches!(index.tensors[0].stored, Stored::Strided(_)));
    for (bytes, code, words) in [
        (array("False", "(3,)", &[1.0, 2.0]), "malformed-tensor", "12 bytes, and there are 8"),
        (array("Perhaps", "(2,)", &[1.0, 2.0]), "malformed-tensor", "neither True nor False"),
        (array("False", "(x,)", &[1.0, 2.0]), "malformed-tensor", "no tuple of numbers"),
        (array("False", "2", &[1.0, 2.0]), "malformed-tensor", "no tuple of numbers"),
        (array("False", "(4294967296, 4294967296, 16)", &[]), "malformed-tensor", "overflows"),
        (array("False", "(1, 1, 1, 1, 1, 1, 1, 1, 1, 2)", &[1.0, 2.0]), "too-large", "dimensions"),
        (b"\x93NUMPY\x09\x00\x00\x00".to_vec(), "malformed-tensor", "version"),
        (b"not an array".to_vec(), "malformed-tensor", "does not begin as arrays"),
        (good[..9].to_vec(), "malformed", "announced"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec(), "too-large", "header of array `a`"),
    ] {
        let error = open(&of(&bytes)).expect_err(words);
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    for (name, code, words) in [
        ("bigendian.npz", "malformed-tensor", "big-endian"),
        ("compressed.npz", "unsupported-format", "not savez_compressed"),
    ] {
        let error = open(&file(name)).expect_err(name);
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
}
