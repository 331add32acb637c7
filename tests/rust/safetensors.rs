//! Written files: what comes back is what went in, other readers open them, and every
//! contradiction in a header is refused by the name of the tensor.

use std::collections::BTreeMap;

use safetensors::{Dtype, SafeTensors};
use statepress_core::{Codes, Form, Grid, Group, Packed, Scales, Tensor};
use statepress_formats::{FormatError, Layout, TensorSpec, Writer, open, read_tensor};

/// One tensor of every encoding, with odd sizes among them.
fn tensors() -> Vec<(&'static str, Tensor)> {
    let tensor = |shape: &[usize], data| Tensor { shape: shape.to_vec(), data };
    let codes = |n: usize| (0..n).map(|i| (i * 37) as u8).collect::<Vec<_>>();
    let floats = |n: usize| (0..n).map(|i| 0.01 + i as f32 / 8.0).collect::<Vec<_>>();
    let bits = |n: usize| (0..n).map(|i| 0x3c00 + i as u16).collect::<Vec<_>>();
    let coded = |grid: Grid, group, n: usize, scales| {
        Packed::Codes(Codes { grid, group, codes: codes((n * grid.bits()).div_ceil(8)), scales })
    };
    let int8 = |group, scales| coded(Grid::Int8, group, 15, Scales::F32(scales));
    let int4 = |scales| coded(Grid::Int4, Group::Values(4), 24, scales);
    let nf4 = |scales, n: usize, block| coded(Grid::Nf4, Group::Values(block), n, scales);
    vec![
        ("norm.weight", tensor(&[5], Packed::F32(floats(5)))),
        ("empty", tensor(&[0, 5], Packed::F32(vec![]))),
        ("scalar", tensor(&[], Packed::F16(bits(1)))),
        ("bf16.weight", tensor(&[3, 2], Packed::Bf16(bits(6)))),
        ("rows.weight", tensor(&[3, 1, 5], int8(Group::Row, floats(3)))),
        ("whole.weight", tensor(&[3, 5], int8(Group::Tensor, floats(1)))),
        ("int4.weight", tensor(&[3, 8], int4(Scales::F16(bits(6))))),
        ("int4_wide.weight", tensor(&[3, 8], int4(Scales::F32(floats(6))))),
        (
            "int4_rows.weight",
            tensor(&[4, 1, 4], coded(Grid::Int4, Group::Values(8), 16, Scales::F16(bits(2)))),
        ),
        ("nf4.weight", tensor(&[5, 7], nf4(Scales::F32(floats(3)), 35, 16))),
        ("nf4_half.weight", tensor(&[5, 7], nf4(Scales::F16(bits(3)), 35, 16))),
        ("int3.weight", tensor(&[5, 7], coded(Grid::Int3, Group::Values(16), 35, Scales::F16(bits(3))))),
        ("int5_rows.weight", tensor(&[5, 7], coded(Grid::Int5, Group::Row, 35, Scales::F32(floats(5))))),
        (
            "lm2.weight",
            tensor(
                &[5, 7],
                coded(Grid::Lm2, Group::Values(8), 35, Scales::Log8 { codes: codes(5), unit: 0.25 }),
            ),
        ),
        (
            "nf4_double.weight",
            tensor(
                &[40, 70],
                nf4(Scales::Double { codes: codes(350), nested: floats(2), offset: 0.5 }, 2800, 8),
            ),
        ),
    ]
}

fn specs(tensors: &[(&str, Tensor)]) -> Vec<TensorSpec> {
    let spec = |(name, tensor): &(&str, Tensor)| TensorSpec {
        name: name.to_string(),
        shape: tensor.shape.clone(),
        form: Form::Coded(tensor.encoding()),
        coded: false,
    };
    tensors.iter().map(spec).collect()
}

fn written(tensors: &[(&str, Tensor)], metadata: &BTreeMap<String, String>) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), &specs(tensors), metadata).unwrap();
    for (name, tensor) in tensors {
        writer.write(name, tensor).unwrap();
    }
    let (bytes, len) = writer.finish().unwrap();
    assert_eq!(bytes.len() as u64, len);
    bytes
}

fn metadata() -> BTreeMap<String, String> {
    BTreeMap::from([
        ("config".into(), r#"{"hidden_size":64}"#.into()),
        ("recipe".into(), r#"{"name":"nf4"}"#.into()),
    ])
}

#[test]
fn what_is_written_is_read_again() {
    let tensors = tensors();
    let bytes = written(&tensors, &metadata());
    assert_eq!(bytes, written(&tensors, &metadata()), "the same input gives the same bytes");
    assert_eq!(bytes.len() as u64, Layout::new(&specs(&tensors), &metadata()).unwrap().bytes());

    let index = open(&bytes).unwrap();
    let names: Vec<_> = index.tensors.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, tensors.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    for (entry, (name, tensor)) in index.tensors.iter().zip(&tensors) {
        assert_eq!(&read_tensor(&bytes, entry).unwrap(), tensor, "{name}");
        assert_eq!(entry.bytes(), tensor.bytes(), "{name}");
    }
    assert_eq!(index.config.unwrap()["hidden_size"], 64);
    assert_eq!(index.metadata["recipe"], r#"{"name":"nf4"}"#);
    assert_eq!((index.metadata["format"].as_str(), index.findings.len()), ("pt", 0));
}

#[test]
fn other_readers_see_ordinary_arrays() {
    let bytes = written(&tensors(), &metadata());
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let described = &header.metadata().as_ref().unwrap()["statepress"];
    assert!(
        described.contains(r#""nf4.weight":{"absmax":"fp32","block":16,"precision":"nf4","shape":[5,7]}"#)
    );
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let seen = |name: &str| {
        let view = file.tensor(name).unwrap();
        (view.dtype(), view.shape().to_vec(), view.data()[..1].to_vec())
    };
    assert_eq!(seen("norm.weight"), (Dtype::F32, vec![5], 0.01f32.to_le_bytes()[..1].to_vec()));
    assert_eq!(seen("rows.weight"), (Dtype::I8, vec![3, 1, 5], vec![0]));
    assert_eq!(seen("rows.weight.scale").1, [3]);
    assert_eq!(seen("int4.weight"), (Dtype::U8, vec![3, 4], vec![0]));
    assert_eq!(seen("int4.weight.scale").0, Dtype::F16);
    assert_eq!(seen("int4_rows.weight.scale").1, [2]);
    assert_eq!(seen("nf4_double.weight.nested_offset").2, 0.5f32.to_le_bytes()[..1]);
    assert_eq!(file.len(), 15 + 8 + 2 + 3 + 1, "codes; scales; absmax; double quantization; a unit");
}

#[test]
fn the_writer_takes_only_what_was_announced() {
    let tensors = tensors();
    let specs = specs(&tensors);
    let none = BTreeMap::new();
    let mut writer = Writer::new(Vec::new(), &specs, &none).unwrap();
    let said = |result: Result<(), FormatError>| {
        let error = result.unwrap_err();
        assert_eq!(error.code(), "write-mismatch");
        error.to_string()
    };
    assert!(
        said(writer.write("empty", &tensors[1].1).map(|_| ())).contains("the layout has `norm.weight` here")
    );
    assert!(said(writer.write("norm.weight", &tensors[2].1).map(|_| ())).contains("its shape is []"));
    let half = Tensor { shape: vec![5], data: Packed::F16(vec![0; 5]) };
    assert!(said(writer.write("norm.weight", &half).map(|_| ())).contains("the layout says Fp32"));
    let short = Tensor { shape: vec![5], data: Packed::F32(vec![0.0; 4]) };
    assert!(said(writer.write("norm.weight", &short).map(|_| ())).contains("16 bytes, the layout says 20"));
    writer.write("norm.weight", &tensors[0].1).unwrap();
    assert!(said(writer.finish().map(|_| ())).contains("`empty`: it was never given"));

    let layout = |specs: &[TensorSpec], metadata| said(Layout::new(specs, metadata).map(|_| ()));
    assert!(layout(&[specs[0].clone(), specs[0].clone()], &none).contains("the name is taken"));
    let mut scale = specs[0].clone();
    scale.name = "rows.weight.scale".into();
    assert!(layout(&[specs[4].clone(), scale], &none).contains("`rows.weight.scale`: the name is taken"));
    let mut vector = specs[4].clone();
    vector.shape = vec![15];
    assert!(layout(&[vector], &none).contains("a vector is not quantized"));
    let taken = BTreeMap::from([("statepress".to_string(), "{}".to_string())]);
    assert!(layout(&specs, &taken).contains("`statepress` is taken"));
}

/// A file with that header and `data` zero bytes.
fn with_header(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

#[test]
fn contradictory_headers_are_refused() {
    let a = |dtype: &str, shape: &str, from: u64, to: u64| {
        format!(r#""a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}"#)
    };
    let good = a("F32", "[2]", 0, 8);
    let b = |from: u64, to: u64| {
        format!(r#"{good},"b":{{"dtype":"U8","shape":[4],"data_offsets":[{from},{to}]}}"#)
    };
    open(&with_header(&format!("{{{}}}", b(8, 12)), 12)).unwrap();
    open(&with_header(&format!("{{\"__metadata__\":null,{good}}}"), 8)).unwrap();
    let cases = [
        (good.clone(), 7, "truncated", "the data of the safetensors file reaches to byte"),
        (good.clone(), 9, "malformed", "1 byte after the last tensor belongs to nobody"),
        (a("F32", "[3]", 0, 8), 8, "malformed-tensor", "`a`: F32 [3] is 12 bytes"),
        (a("F32", "[2]", 8, 0), 8, "malformed-tensor", "leave a hole or overlap"),
        (a("F4", "[2]", 0, 8), 8, "unsupported-format", "tensor `a` has the element type `F4`"),
        (a("F32", "[4294967296,4294967296]", 0, 8), 8, "malformed-tensor", "overflows"),
        (a("F32", "[1,1,1,1,1,1,1,1,2]", 0, 8), 8, "too-large", "dimensions of tensor `a`"),
        (a("F32", "[-2]", 0, 8), 8, "malformed", "tensor `a` has no `shape` of whole numbers"),
        (b(9, 13), 13, "malformed-tensor", "`b`: its bytes 9..13 leave a hole"),
        (b(4, 8), 8, "malformed-tensor", "`b`: its bytes 4..8 leave a hole or overlap"),
        (format!("{good},{good}"), 8, "malformed", "`a` occurs twice"),
        (r#""__metadata__":{"n":1}"#.into(), 0, "malformed", "the metadata `n` is a number"),
        (r#""__metadata__":{"m":"","n":null}"#.into(), 0, "malformed", "the metadata `n` is null"),
        (r#""__metadata__":{"n":{"a":"b"}}"#.into(), 0, "malformed", "the metadata `n` is an object"),
        (r#""__metadata__":[]"#.into(), 0, "malformed", "`__metadata__` is a list"),
        (r#""__metadata__":null"#.into(), 0, "unsupported-format", "no tensors"),
        (r#""__metadata__":{"author":"x"}"#.into(), 0, "unsupported-format", "only metadata: `author`"),
        (String::new(), 0, "unsupported-format", "no tensors"),
        (r#""a":7"#.into(), 0, "malformed", "`a` is a number, not a tensor"),
        (r#""__metadata__":{"n":"#.into(), 0, "malformed", "safetensors header"),
    ];
    for (header, data, code, words) in cases {
        let error = open(&with_header(&format!("{{{header}}}"), data)).unwrap_err();
        assert_eq!(error.code(), code, "{header}: {error}");
        assert!(error.to_string().contains(words), "{header}: {error}");
    }
}

#[test]
fn inconsistent_packed_tensors_are_refused_by_name() {
    let header = |tensors: &str, version: u32| {
        let packed = format!(r#"{{"version":{version},"tensors":{{{tensors}}}}}"#);
        let packed = serde_json::to_string(&packed).unwrap();
        let arrays = r#""a":{"dtype":"I8","shape":[2,4],"data_offsets":[0,8]},"a.scale":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}"#;
        with_header(&format!(r#"{{"__metadata__":{{"statepress":{packed}}},{arrays}}}"#), 16)
    };
    let int8 = r#""a":{"shape":[2,4],"precision":"int8","granularity":"row"}"#;
    let index = open(&header(int8, 1)).unwrap();
    assert!(matches!(&index.tensors[..], [entry] if entry.dtype_name() == "INT8"));
    let cases = [
        (int8, 2, "version 2 of the statepress layout"),
        (r#""b":{"shape":[2,4],"precision":"int8","granularity":"row"}"#, 1, "tensor `b`: `b` is missing"),
        (
            r#""a":{"shape":[4,2],"precision":"int8","granularity":"row"}"#,
            1,
            "`a` is I8 [2, 4] where I8 [4, 2]",
        ),
        (
            r#""a":{"shape":[2,4],"precision":"int8","granularity":"tensor"}"#,
            1,
            "`a.scale` is F32 [2] where F32 [1]",
        ),
        (r#""a":{"shape":[2,4],"precision":"nf4","block":0,"absmax":"fp32"}"#, 1, "a group of 0 values"),
        (
            r#""a":{"shape":[2,4],"precision":"int4","group":3,"scale":"fp32"}"#,
            1,
            "rows of 4 and groups of 3",
        ),
        (
            r#""a":{"shape":[2,4],"precision":"int8","granularity":"row","x":1}"#,
            1,
            "tensor `a`: its encoding",
        ),
        (r#""a":{"precision":"int8","granularity":"row"}"#, 1, "tensor `a`: its shape"),
        (r#""a":{"shape":[8],"precision":"int8","granularity":"row"}"#, 1, "a vector is not quantized"),
    ];
    for (tensors, version, words) in cases {
        let error = open(&header(tensors, version)).unwrap_err().to_string();
        assert!(error.contains(words), "{tensors}: {error}");
    }
    let twice = open(&header(&format!("{int8},{int8}"), 1)).unwrap_err().to_string();
    assert!(twice.contains("`a` occurs twice"), "{twice}");
}

#[test]
fn other_element_types_come_as_f32() {
    let header = r#"{"d":{"dtype":"F64","shape":[1],"data_offsets":[0,8]},"l":{"dtype":"I64","shape":[1],"data_offsets":[8,16]},
        "i":{"dtype":"I32","shape":[1],"data_offsets":[16,20]},"s":{"dtype":"I16","shape":[1],"data_offsets":[20,22]},
        "u":{"dtype":"U8","shape":[1],"data_offsets":[22,23]},"b":{"dtype":"BOOL","shape":[1],"data_offsets":[23,24]}}"#;
    let mut bytes = with_header(header, 0);
    bytes.extend(1.5f64.to_le_bytes());
    bytes.extend((-7i64).to_le_bytes());
    bytes.extend((1i32 << 20).to_le_bytes());
    bytes.extend((-300i16).to_le_bytes());
    bytes.extend([200, 1]);
    let index = open(&bytes).unwrap();
    let numbers: Vec<f32> = index
        .tensors
        .iter()
        .map(|entry| match read_tensor(&bytes, entry).unwrap().data {
            Packed::F32(values) => values[0],
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(numbers, [1.5, -7.0, 1048576.0, -300.0, 200.0, 1.0]);
    let [finding] = &index.findings[..] else { panic!("{:?}", index.findings) };
    assert_eq!((finding.code.as_str(), finding.tensor.as_deref()), ("float64-narrowed", Some("d")));
}
