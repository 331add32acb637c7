//! The reader in Python that the layout is published with, run on what we write: the same numbers to the last bit, for
//! every encoding, and the same codes of every stream. Needs a Python with numpy: `STATEPRESS_PYTHON`, else
//! `python3` where it has one.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use safetensors::tensor::{Dtype, TensorView as Part, serialize};
use statepress::{Calibration, Checkpoint, MemorySink, OpenOptions, Recipe, recipes, run};
use statepress_core::index::Stored;
use statepress_core::{DType, Encoding};
use statepress_formats::entropy::encode;
use statepress_kernels::codecs;
use statepress_tests::codes::normal;
use statepress_tests::files::{fixture, open, open_folder};
use statepress_tests::yardstick::recipe;

/// Reads paths, writes every tensor of each as float32: a line with its name and shape, then the numbers.
const MAIN: &str = r#"
from reader import *
np.seterr(over="ignore")  # float64 beyond float32
for path in sys.stdin.read().splitlines():
    with open(path + ".numbers", "wb") as out:
        for name, array in sorted(load(path).items()):
            out.write(json.dumps([name, list(array.shape), str(array.dtype)]).encode() + b"\n")
            out.write(np.ascontiguousarray(array, "<f4").tobytes())
"#;

/// A Python with numpy; the caller says so where there is none.
fn python() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("STATEPRESS_PYTHON") {
        return Some(named.into());
    }
    let numpy = Command::new("python3").args(["-c", "import numpy"]).stderr(Stdio::null()).status();
    numpy.is_ok_and(|status| status.success()).then(|| "python3".into())
}

/// A folder for the files of one test.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Runs a program that reads lines.
fn run_python(python: &Path, program: &str, lines: &[String]) {
    let reader = fixture("../../examples/python");
    let mut command = Command::new(python);
    command.env("PYTHONPATH", reader).env("PYTHONDONTWRITEBYTECODE", "1").args(["-c", program]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.join("\n").as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{}: the decoder failed", python.display());
}

fn every_recipe() -> Vec<Recipe> {
    let mut all = recipes::builtin().unwrap();
    for (rule, options) in [
        ("int8", r#","int8":{"granularity":"tensor"}"#),
        ("int4", r#","int4":{"group":16,"scale":"fp32"}"#),
        ("int4", r#","int4":{"group":64}"#),
        ("nf4", r#","nf4":{"block":32,"doubleQuant":false}"#),
        ("nf4", r#","nf4":{"block":4096,"doubleQuant":false,"absmax":"fp16"}"#),
        ("nf4", r#","nf4":{"block":32,"doubleQuant":true}"#),
        ("int6", r#","groups":{"group":16,"scale":"fp32"}"#),
        ("int5", r#","groups":{"group":64,"scale":"log8"}"#),
        ("int3", r#","groups":{"group":128,"scale":"fp16"}"#),
        ("int2", r#","groups":{"group":32,"scale":"log8"}"#),
        ("lm3", r#","groups":{"group":64,"scale":"log8"}"#),
        ("lm2", r#","groups":{"group":256,"scale":"fp16"}"#),
        ("int8", r#","coded":true"#),
        ("int4", r#","int4":{"group":16},"coded":true"#),
        ("nf4", r#","nf4":{"block":32},"coded":true"#),
        ("int3", r#","groups":{"group":16,"scale":"log8"},"coded":true"#),
        ("lm3", r#","groups":{"group":64,"scale":"fp32"},"coded":true"#),
    ] {
        all.push(recipe(&[("*", rule)], options));
    }
    let parts = r#"{"version":1,"name":"parts","steps":[{"quantize":{"rules":[{"match":"*in_proj.weight","precision":"nf4",
        "rows":[{"label":"dt","precision":"bf16"},{"label":"x","precision":"int6"},{"label":"z","precision":"int8"}]}],
        "otherwise":"fp16"}}]}"#;
    all.push(Recipe::from_json(parts).unwrap());
    all
}

/// Shapes and names that a decoder may stumble over; `clash`: also a name that NF4 has for its own.
fn odd(clash: bool) -> Checkpoint {
    let numbers = |n: usize| -> Vec<u8> {
        (0..n).flat_map(|i| ((i * 7919 % 1009) as f32 / 504.5 - 1.0).to_le_bytes()).collect()
    };
    let mut tensors: Vec<(&str, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
    for (name, shape) in [
        ("odd", vec![7, 9]),
        ("rows", vec![64, 16]),
        ("deep", vec![3, 2, 5, 64]),
        ("experts", vec![4, 8, 64]),
        ("one", vec![1, 128]),
        ("scalar", vec![]),
        ("none", vec![0, 4]),
        ("long", vec![300, 256]),
        // Of no quantized tensor, whatever they are called.
        ("fc.weight", vec![3, 33]),
        ("fc.weight.absmax", vec![5]),
        ("other.scale", vec![2]),
        ("fc.bias.absmax", vec![4]),
        ("имя with spaces/and.slash", vec![8, 64]),
    ] {
        let bytes = numbers(shape.iter().product());
        tensors.push((name, Dtype::F32, shape, bytes));
    }
    tensors.retain(|(name, ..)| clash || *name != "fc.weight.absmax");
    tensors.push(("ids", Dtype::I64, vec![3], (0..3i64).flat_map(|id| (id - 1).to_le_bytes()).collect()));
    tensors.push(("mask", Dtype::BOOL, vec![4], vec![1, 0, 0, 1]));
    tensors.push(("small", Dtype::U8, vec![2, 2], vec![1, 2, 3, 255]));
    tensors.push((
        "wide",
        Dtype::F64,
        vec![2],
        [1.5f64, -2e-3].iter().flat_map(|it| it.to_le_bytes()).collect(),
    ));
    tensors.push(("brain", Dtype::BF16, vec![2, 2], vec![0x80, 0x3f, 0, 0xc0, 1, 0, 0x7f, 0x7f]));
    let parts = tensors.iter().map(|(name, dtype, shape, bytes)| {
        (name.to_string(), Part::new(*dtype, shape.clone(), bytes).unwrap())
    });
    Checkpoint::open(serialize(parts, None).unwrap(), OpenOptions::default()).unwrap()
}

#[test]
fn python_reads_what_we_write_to_the_last_bit() {
    let Some(python) = python() else {
        return eprintln!("not checked: no python3 with numpy; `pkg-scripts/test python` makes one");
    };
    let mut checkpoints = vec![("odd".to_string(), odd(true)), ("odd, no clash".to_string(), odd(false))];
    for file in
        ["il_moe.zip.pt", "il_odd.bf16.pt", "il_ffn.f16.safetensors", "il_ffn.strided.pt", "tf.untied.pt"]
    {
        checkpoints.push((file.into(), open(&fixture(&format!("fixtures/{file}")), &[])));
    }
    for file in ["il_moe.int8dyn.pt", "il_moe.int8dyn_per_channel.pt", "il_moe.mixed_aggressive.pt"] {
        checkpoints.push((file.into(), open(&fixture(&format!("fixtures/{file}")), &[])));
    }
    // INT8 in groups, and codes with minimums.
    for folder in ["gptq", "awq"] {
        checkpoints.push((folder.into(), open_folder(&fixture(&format!("cases/quantized/{folder}")))));
    }
    for folder in ["mamba-odd", "mamba2-groups", "granite-moe", "llama-odd", "gpt2-odd", "rwkv7-small"] {
        checkpoints.push((folder.into(), open_folder(&fixture(&format!("families/{folder}")))));
    }
    let folder = folder("decoder");
    let mut files = Vec::new();
    for (name, checkpoint) in &checkpoints {
        for (n, recipe) in every_recipe().iter().enumerate() {
            let (job, bytes) = match checkpoint.compress_to_memory(recipe) {
                Ok(job) => job,
                // A key that NF4 needs for itself.
                Err(error) => {
                    let taken = error.to_string().contains("`fc.weight.absmax`: the name is taken");
                    assert!(name == "odd" && taken, "{name}: {error}");
                    continue;
                }
            };
            run(job, |_| {}).unwrap();
            let path = folder.join(format!("{}.safetensors", files.len()));
            std::fs::write(&path, bytes.take()).unwrap();
            files.push((format!("{name}, {} ({n})", recipe.name), path));
        }
    }
    // Steps are fitted to what a text sends through the model, and it tells which rows are used most.
    let model = open(&fixture("fixtures/il_moe.safetensors"), &[]);
    let ids: Vec<u32> = (0..256).map(|i| (i * 37 + 11) % 50).collect();
    for (name, rule, options) in [
        ("stepped", r#""match":"*","precision":"int8","step":0.3"#, r#","coded":true"#),
        (
            "used",
            r#""match":"role:table","precision":"lm3","rows":[{"count":3,"precision":"fp16"},{"count":9,"precision":"int5"}]"#,
            "",
        ),
    ] {
        let json = format!(
            r#"{{"version":1,"name":"{name}","steps":[{{"quantize":{{"rules":[{{{rule}}}],"otherwise":"fp16"{options},
            "errorCompensation":"gptq"}}}}]}}"#
        );
        let (sink, recipe) = (MemorySink::default(), Recipe::from_json(&json).unwrap());
        let job = model.compress_calibrated(
            &recipe,
            Box::new(sink.clone()),
            Calibration::new(&model.model().unwrap(), &ids),
        );
        run(job.unwrap(), |_| {}).unwrap();
        let path = folder.join(format!("{name}.safetensors"));
        std::fs::write(&path, sink.take()).unwrap();
        files.push((name.into(), path));
    }
    let in_classes: usize = files.iter().map(|(_, path)| in_classes(path)).sum();
    assert!(in_classes > 5, "{in_classes} tensors with classes of rows");
    assert!(coded(&folder.join("stepped.safetensors")) > 2, "steps are worth coding");
    let paths: Vec<_> = files.iter().map(|(_, path)| path.display().to_string()).collect();
    run_python(&python, MAIN, &paths);
    let compared: usize = files.iter().map(|(what, path)| compare(what, path)).sum();
    let coded: usize = files.iter().map(|(_, path)| coded(path)).sum();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(compared > 3000 && coded > 200, "{compared}, {coded} of them entropy-coded");
}

/// How many tensors of a file are entropy-coded.
fn coded(path: &Path) -> usize {
    let index = statepress_formats::open(&std::fs::read(path).unwrap()).unwrap();
    index.tensors.iter().filter(|entry| entry.coded_bytes() > 0).count()
}

/// How many tensors of a file have rows in classes.
fn in_classes(path: &Path) -> usize {
    let index = statepress_formats::open(&std::fs::read(path).unwrap()).unwrap();
    let rows = |stored: &Stored| matches!(stored, Stored::Packed { encoding: Encoding::Rows(_), .. });
    index.tensors.iter().filter(|entry| rows(&entry.stored)).count()
}

/// Holds what Python made of a file to what we read; returns how many tensors that were.
fn compare(what: &str, path: &Path) -> usize {
    let bytes = std::fs::read(path).unwrap();
    let index = statepress_formats::open(&bytes).unwrap();
    let numbers = std::fs::read(format!("{}.numbers", path.display())).unwrap();
    let mut rest = numbers.as_slice();
    let mut compared = 0;
    while !rest.is_empty() {
        let end = rest.iter().position(|&byte| byte == b'\n').unwrap();
        let (name, shape, dtype): (String, Vec<usize>, String) =
            serde_json::from_slice(&rest[..end]).unwrap();
        let (found, after) = rest[end + 1..].split_at(4 * shape.iter().product::<usize>());
        rest = after;
        let entry = index.get(&name).unwrap_or_else(|| panic!("{what}: {name} is not ours"));
        assert_eq!(entry.shape, shape, "{what}: {name}");
        let expected = codecs::decode(&statepress_formats::read_tensor(&bytes, entry).unwrap());
        let expected: Vec<u8> = expected.iter().flat_map(|value| value.to_le_bytes()).collect();
        assert!(found == expected, "{what}: {name} has other numbers");
        if let Stored::Strided(view) = &entry.stored {
            let of =
                [(DType::I64, "int64"), (DType::Bool, "bool"), (DType::U8, "uint8"), (DType::F16, "float16")];
            let expected = of.into_iter().find(|(ours, _)| *ours == view.dtype);
            assert!(expected.is_none_or(|(_, theirs)| theirs == dtype), "{what}: {name} is {dtype}");
        } else {
            assert_eq!(dtype, "float32", "{what}: {name}");
        }
        compared += 1;
    }
    assert_eq!(compared, index.tensors.len(), "{what}: tensors are missing");
    compared
}

/// Reads paths with rows and columns, writes the codes of each stream; those that are damaged have to be refused.
const MAIN_OF_STREAMS: &str = r#"
from reader import *
for line in sys.stdin.read().splitlines():
    rows, columns, path = line.split(" ", 2)
    stream = open(path, "rb").read()
    entropy_decode(stream, int(rows), int(columns)).astype("<i2").tofile(path + ".codes")
    half = len(stream) // 2
    for damaged in stream[:-1], stream[:half] + stream[half + 1:], stream[:half] + bytes([stream[half] ^ 4]) + stream[half + 1:]:
        try:
            entropy_decode(damaged, int(rows), int(columns))
        except AssertionError:
            continue
        sys.exit(path + ": damage went unnoticed")
"#;

#[test]
fn python_reads_entropy_coded_codes() {
    let Some(python) = python() else {
        return eprintln!("not checked: no python3 with numpy; `pkg-scripts/test python` makes one");
    };
    let mut matrices = vec![
        (1, 1, vec![-32768]),
        (2, 3, vec![0; 6]),
        (3, 1, vec![7, -9, 32767]),
        (40, 30, (0..1200).map(|at| if at == 700 { -32767 } else { at % 7 - 3 }).collect()),
        (0, 5, Vec::new()),
    ];
    for (deviation, spread) in [(0.3, false), (1.4, true), (4.0, false), (31.0, true), (900.0, true)] {
        matrices.push((150, 116, normal(150, 116, deviation, spread)));
        matrices.push((20, 9, normal(20, 9, deviation, spread)));
    }
    let folder = folder("streams");
    let mut lines = Vec::new();
    for (at, (rows, cols, codes)) in matrices.iter().enumerate() {
        let path = folder.join(at.to_string());
        std::fs::write(&path, encode(codes, *rows, *cols).unwrap()).unwrap();
        lines.push(format!("{rows} {cols} {}", path.display()));
    }
    run_python(&python, MAIN_OF_STREAMS, &lines);
    for (at, (rows, cols, codes)) in matrices.iter().enumerate() {
        let found = std::fs::read(folder.join(format!("{at}.codes"))).unwrap();
        let expected: Vec<u8> = codes.iter().flat_map(|code| code.to_le_bytes()).collect();
        assert!(found == expected, "{rows} x {cols}, the {at}th matrix");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
