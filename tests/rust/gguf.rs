//! GGUF files as checkpoints: headers and blocks as the `gguf` package reads them, models as their references compute them
//! whatever the file did to their numbers, and what such a file may do wrong, by name.

use statepress::{Checkpoint, GgmlType, GpuOptions, Joined, OpenOptions, recipes, run, sequence_logits};
use statepress_core::index::Stored;
use statepress_core::{Encoding, Index, Source};
use statepress_formats::{Choice, FormatError, gguf, open, open_shards, read_tensor};
use statepress_kernels::codecs;
use statepress_tests::families::{existing, samples};
use statepress_tests::files::fixture;
use statepress_tests::golden::{Golden, assert_close};
use statepress_tests::gpu::{on, open_gpu};

use crate::exports::{export, family, told};

/// A header by hand: values under keys, and tensors with their dimensions, innermost first, their types and places.
struct Header {
    version: u32,
    values: Vec<(&'static str, Vec<u8>)>,
    tensors: Vec<(&'static str, Vec<u64>, u32, u64)>,
}

impl Default for Header {
    fn default() -> Self {
        Self { version: 3, values: Vec::new(), tensors: Vec::new() }
    }
}

impl Header {
    fn tensor(name: &'static str, dims: &[u64], kind: u32) -> Self {
        Self { tensors: vec![(name, dims.to_vec(), kind, 0)], ..Self::default() }
    }

    /// The header, what fills it up, and the bytes behind it.
    fn file(&self, data: &[u8]) -> Vec<u8> {
        let mut bytes = [b"GGUF".as_slice(), &self.version.to_le_bytes()].concat();
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.values.len() as u64).to_le_bytes());
        for (key, value) in &self.values {
            bytes.extend(text(key));
            bytes.extend(value);
        }
        for (name, dims, kind, offset) in &self.tensors {
            bytes.extend(text(name));
            bytes.extend((dims.len() as u32).to_le_bytes());
            bytes.extend(dims.iter().flat_map(|dim| dim.to_le_bytes()));
            bytes.extend(kind.to_le_bytes());
            bytes.extend(offset.to_le_bytes());
        }
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend(data);
        bytes
    }
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

fn numbers(source: &impl Source, index: &Index, name: &str) -> Vec<f32> {
    codecs::into_numbers(read_tensor(source, index.get(name).unwrap()).unwrap())
}

fn refusal(file: &[u8]) -> FormatError {
    open(&file.to_vec()).expect_err("it was opened")
}

fn codes(checkpoint: &Checkpoint) -> Vec<String> {
    checkpoint.inspection().findings.into_iter().map(|finding| finding.code).collect()
}

#[test]
fn every_block_is_read_as_the_gguf_package_reads_it() {
    let golden = Golden::open(&fixture("gguf/blocks.safetensors"));
    for kind in GgmlType::ALL.into_iter().filter(|kind| *kind != GgmlType::F32) {
        let (name, (block, _)) = (kind.name(), kind.block());
        let expected = golden.f32(&format!("{name}.numbers"));
        // Rows of two blocks, so that a matrix is no vector.
        let dims = [2 * block as u64, expected.len() as u64 / (2 * block as u64)];
        let file = Header::tensor("x", &dims, kind.id()).file(&golden.bytes(name));
        let index = open(&file).unwrap();
        let entry = index.get("x").unwrap();
        assert_eq!(entry.shape, [dims[1] as usize, dims[0] as usize]);
        let floats = [GgmlType::F16, GgmlType::Bf16, GgmlType::Iq4Nl, GgmlType::Iq4Xs];
        let same = !floats.contains(&kind);
        assert_eq!(same, matches!(entry.encoding(), Some(Encoding::Codes(_))), "{name} is run from codes");
        for (at, (found, expected)) in numbers(&file, &index, "x").iter().zip(&expected).enumerate() {
            // A code of zero has no sign, where a product with a scale below zero has one.
            let equal = found.to_bits() == expected.to_bits() || (same && *found == 0.0 && *expected == 0.0);
            assert!(equal, "{name}: {found} is {expected} in place {at}");
        }
    }
}

#[test]
fn what_its_own_writer_writes_is_read() {
    let file = std::fs::read(fixture("gguf/writer.gguf")).unwrap();
    let golden = Golden::open(&fixture("gguf/writer.safetensors"));
    for version in [2u8, 3] {
        let mut file = file.clone();
        file[4] = version;
        let index = open(&file).unwrap();
        for name in golden.names() {
            assert_eq!(index.get(&name).unwrap().shape, golden.shape(&name), "{name}");
            assert_eq!(numbers(&file, &index, &name), golden.f32(&name), "{name}");
        }
        let said = index.config.unwrap();
        let expected = serde_json::json!({
            "u8": 200, "i8": -3, "u16": 60000, "i16": -300, "u32": 4000000000u32, "i32": -70000, "u64": 1u64 << 40,
            "i64": -(1i64 << 40), "f32": 1e-5, "f64": 0.1, "bool": true, "text": "Überschrift",
            "flags": [true, false, true], "words": ["a", "", "ß"], "numbers": [0.5, -2.0], "alignment": 64,
        });
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(&said[&format!("general.{key}")], value, "{key}");
        }
        // The vocabulary is asked for by itself.
        assert!(said.keys().all(|key| !key.starts_with("tokenizer.")));
        let vocabulary = gguf::vocabulary(&file).unwrap();
        assert_eq!(vocabulary["tokenizer.ggml.tokens"][39], "t39");
        assert_eq!(vocabulary["tokenizer.ggml.token_type"].as_array().unwrap().len(), 40);
        let kept = index.findings.iter().filter(|finding| finding.code == "quantized-kept");
        let kept: Vec<_> = kept.map(|finding| finding.tensor.as_deref().unwrap()).collect();
        assert_eq!(kept, ["IQ2_XXS", "MXFP4"]);
        assert!(matches!(index.tensors.last().unwrap().stored, Stored::Opaque { .. }));
    }
}

#[test]
fn models_compute_what_their_references_do() {
    let mut opened = Vec::new();
    for sample in samples().iter().filter(|sample| sample.golden.is_some()) {
        let target = statepress::ExportTarget::Gguf(Default::default());
        let checkpoint = family(&sample.name);
        let Ok((exported, bytes)) = export(&checkpoint, &target) else { continue };
        let again = Checkpoint::open(bytes, OpenOptions::default()).unwrap();
        let (before, after) = (checkpoint.inspection(), again.inspection());
        assert_eq!(before.family, after.family, "{}", sample.name);
        let odd: Vec<_> = after.findings.iter().filter(|it| it.code != "assumed").collect();
        assert!(odd.is_empty(), "{}: {odd:?}", sample.name);
        let logits = |checkpoint: &Checkpoint, ids: &[u32]| {
            let model = checkpoint.model().unwrap_or_else(|error| panic!("{}: {error}", sample.name));
            pollster::block_on(sequence_logits(&model, ids)).unwrap()
        };
        opened.push(before.family.0.clone());
        let golden = sample.golden.as_ref().unwrap();
        // As many tokens as its reference has read.
        let len = golden
            .names()
            .into_iter()
            .filter(|name| name.starts_with("len"))
            .find_map(|name| Some(name.strip_suffix("/ids")?.to_string()))
            .unwrap();
        let ids = golden.ids(&format!("{len}/ids"));
        let found = logits(&again, &ids);
        if told(&exported).contains(&"one-eps") {
            // As its reference does with the one eps that llama.cpp has.
            let eps = after.spec["mixer_rms_eps"].value.clone();
            let set = [("mixer_rms_eps".to_string(), eps)].into_iter().collect();
            let text = std::fs::read_to_string(sample.folder.join("config.json")).unwrap();
            let options = OpenOptions { set, ..OpenOptions::default() }.config_text(&text);
            let same = Checkpoint::open_path(&sample.folder, options).unwrap();
            assert_close(&format!("{}: logits", sample.name), &found, &logits(&same, &ids), 1e-4);
            continue;
        }
        let expected = existing(&golden.f32(&format!("{len}/logits")), sample.vocab_rows, sample.vocab);
        let found = existing(&found, found.len() / ids.len(), sample.vocab);
        assert_close(&format!("{}: logits", sample.name), &found, &expected, 1e-4);
    }
    opened.sort();
    opened.dedup();
    let families =
        ["falcon-h1", "falcon-mamba", "gpt2", "granite-hybrid", "llama", "mamba", "mamba2", "qwen2", "qwen3"];
    assert_eq!(opened, families);
}

#[test]
fn quantized_models_are_compressed_and_written_again() {
    let gpu = open_gpu(GpuOptions::default());
    for (name, kind) in [
        ("llama-gqa", GgmlType::Q4_0),
        ("mamba-default", GgmlType::Q5_0),
        ("gpt2", GgmlType::Q8_0),
        ("mamba-default", GgmlType::Q8_0),
        ("mamba-default", GgmlType::Q4_1),
        ("llama-gqa", GgmlType::Q5_1),
    ] {
        let options = statepress::GgufOptions { kind: Some(kind), ..Default::default() };
        let target = statepress::ExportTarget::Gguf(options);
        let (_, bytes) = export(&family(name), &target).unwrap();
        let quantized = Checkpoint::open(bytes, OpenOptions::default()).unwrap();
        assert!(codes(&quantized).contains(&"quantized".to_string()), "{name}");
        let logits = |checkpoint: &Checkpoint| {
            let model = checkpoint.model().unwrap();
            pollster::block_on(sequence_logits(&model, &[1, 2, 3, 4, 5])).unwrap()
        };
        // No recipe makes codes with minimums: the check before a model runs on a GPU has to do so itself.
        let on_gpu = pollster::block_on(sequence_logits(&on(&gpu, &quantized), &[1, 2, 3, 4, 5])).unwrap();
        assert_close(name, &on_gpu, &logits(&quantized), 1e-4);
        let compressed = |from: &Checkpoint, recipe: &str| {
            let (job, sink) = from.compress_to_memory(&recipes::find(recipe).unwrap()).unwrap();
            run(job, |_| {}).unwrap();
            Checkpoint::open(sink.take(), OpenOptions::default()).unwrap()
        };
        // What `none` leaves is the same model, and what is rounded of either is, too.
        let plain = compressed(&quantized, "none");
        assert_close(name, &logits(&plain), &logits(&quantized), 1e-6);
        let rounded = [&quantized, &plain].map(|from| logits(&compressed(from, "int8")));
        assert_close(name, &rounded[0], &rounded[1], 1e-6);
        // The same type once more, and whatever each tensor has where none is asked for: the blocks that they are.
        for kind in [Some(kind), None] {
            let options = statepress::GgufOptions { kind, ..Default::default() };
            let (exported, again) = export(&quantized, &statepress::ExportTarget::Gguf(options)).unwrap();
            let told = crate::exports::told(&exported);
            assert!(told.contains(&"blocks-kept"), "{name}: {told:?}");
            assert!(!told.contains(&"coded-before"), "{name}: {told:?}");
            assert!(!told.contains(&"several-precisions"), "{name}: {told:?}");
            let again = Checkpoint::open(again, OpenOptions::default()).unwrap();
            assert_eq!(logits(&again), logits(&quantized), "{name}");
        }
        // Another type rounds once more, and says so.
        let options = statepress::GgufOptions { kind: Some(GgmlType::Iq4Nl), ..Default::default() };
        let (exported, _) = export(&quantized, &statepress::ExportTarget::Gguf(options)).unwrap();
        let told = crate::exports::told(&exported);
        assert!(told.contains(&"coded-before") && !told.contains(&"blocks-kept"), "{name}: {told:?}");
    }
}

#[test]
fn parts_of_a_model_are_opened_as_one() {
    let count = |value: u16| [2u32.to_le_bytes().as_slice(), &value.to_le_bytes()].concat();
    let part = |number, name| {
        let values = vec![("split.no", count(number)), ("split.count", count(2))];
        let mut header = Header { values, ..Header::tensor(name, &[2], 0) };
        if number == 0 {
            header.values.push(("general.name", [&8u32.to_le_bytes()[..], &text("both")].concat()));
        }
        let numbers = [f32::from(number), 7.0].map(f32::to_le_bytes).concat();
        (format!("m-{:05}-of-00002.gguf", number + 1), Box::new(header.file(&numbers)) as Box<dyn Source>)
    };
    let shards = Joined::new([part(0, "a"), part(1, "b")]);
    let index = open_shards(&shards, None, &Choice::default()).unwrap();
    assert_eq!([numbers(&shards, &index, "a"), numbers(&shards, &index, "b")], [[0.0, 7.0], [1.0, 7.0]]);
    assert!(
        index.findings.iter().all(|finding| finding.code == "shards-without-index"),
        "{:?}",
        index.findings
    );
    assert_eq!(index.config.unwrap()["general.name"], "both");
}

#[test]
fn a_configuration_beside_does_not_speak_for_the_file() {
    // Its multipliers are in the weights already, and its scaling of positions is a tensor of the file.
    for name in ["falcon-h1", "llama-rope3"] {
        let (_, bytes) = export(&family(name), &statepress::ExportTarget::Gguf(Default::default())).unwrap();
        let text = std::fs::read_to_string(fixture(&format!("families/{name}/config.json"))).unwrap();
        let logits = |options: OpenOptions| {
            let checkpoint = Checkpoint::open(bytes.clone(), options).unwrap();
            let ignored = codes(&checkpoint).contains(&"config-ignored".to_string());
            let model = checkpoint.model().unwrap_or_else(|error| panic!("{name}: {error}"));
            (ignored, pollster::block_on(sequence_logits(&model, &[1, 2, 3, 4, 5])).unwrap())
        };
        let [alone, beside] = [OpenOptions::default(), OpenOptions::default().config_text(&text)].map(logits);
        assert_eq!((alone.0, beside.0), (false, true), "{name}");
        assert_eq!(alone.1, beside.1, "{name}");
    }
}

#[test]
fn heads_that_nobody_can_put_in_order_are_no_weights() {
    let (_, bytes) =
        export(&family("llama-gqa"), &statepress::ExportTarget::Gguf(Default::default())).unwrap();
    let key = b"llama.rope.dimension_count";
    let at = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len() + 4;
    let mut odd = bytes;
    odd[at..at + 4].copy_from_slice(&4096u32.to_le_bytes());
    let checkpoint = Checkpoint::open(odd, OpenOptions::default()).unwrap();
    assert!(checkpoint.inspection().tensors.iter().any(|tensor| tensor.name == "blk.0.attn_q.weight"));
    assert!(codes(&checkpoint).contains(&"cannot-run".to_string()));
}

#[test]
fn floats_in_another_order_are_no_codes() {
    for (name, key) in [
        ("llama-gqa", "model.layers.0.self_attn.q_proj.weight"),
        ("gpt2", "transformer.h.0.mlp.c_fc.weight"),
        ("granite-dense", "model.layers.0.shared_mlp.input_linear.weight"),
    ] {
        for (kind, dtype) in [(GgmlType::F32, "F32"), (GgmlType::F16, "F16"), (GgmlType::Bf16, "BF16")] {
            let options = statepress::GgufOptions { kind: Some(kind), ..Default::default() };
            let target = statepress::ExportTarget::Gguf(options);
            let (_, bytes) = export(&family(name), &target).unwrap();
            let opened = Checkpoint::open(bytes.clone(), OpenOptions::default()).unwrap();
            let tensors = opened.inspection().tensors;
            assert_eq!(tensors.iter().find(|tensor| tensor.name == key).unwrap().dtype, dtype, "{name}");
            // Rounded once, not a second time; and written again as it was.
            let (job, sink) = opened.compress_to_memory(&recipes::find("int8").unwrap()).unwrap();
            let report = run(job, |_| {}).unwrap();
            drop(sink);
            let told: Vec<_> = report.plan.findings.iter().map(|finding| finding.code.as_str()).collect();
            assert!(!told.contains(&"recoded") && !told.contains(&"dequantized"), "{name}: {told:?}");
            let (exported, again) =
                export(&opened, &statepress::ExportTarget::Gguf(Default::default())).unwrap();
            assert!(!crate::exports::told(&exported).contains(&"coded-before"), "{name}");
            let [once, twice] = [&bytes, &again].map(|bytes| {
                let index = open(bytes).unwrap();
                let matrix = index.tensors.iter().find(|entry| entry.name.contains("ffn_up.weight")).unwrap();
                numbers(bytes, &index, &matrix.name)
            });
            assert_eq!(once, twice, "{name}");
        }
    }
}

#[test]
fn llama_cpps_words_that_are_no_model_here_are_told() {
    let values = vec![("general.architecture", [&8u32.to_le_bytes()[..], &text("gemma3")].concat())];
    let header = Header { values, ..Header::tensor("blk.0.attn_q.weight", &[4, 4], 0) };
    let checkpoint = Checkpoint::open(header.file(&[0; 64]), OpenOptions::default()).unwrap();
    let inspection = checkpoint.inspection();
    let told = inspection.findings.iter().find(|finding| finding.code == "unknown-architecture").unwrap();
    assert!(told.message.contains("`gemma3`") && told.message.contains("falcon-h1"), "{}", told.message);
    assert!(inspection.findings.iter().any(|finding| finding.code == "cannot-run"));
    assert_eq!(inspection.tensors[0].name, "blk.0.attn_q.weight");
}

#[test]
fn files_that_contradict_themselves_are_refused_by_name() {
    let alignment = |value: u32| ("general.alignment", [4u32.to_le_bytes(), value.to_le_bytes()].concat());
    let cases: [(Header, &[u8], &str, &str); 14] = [
        (Header { version: 1, ..Header::default() }, &[], "unsupported-format", "version 1"),
        (Header { version: 9, ..Header::default() }, &[], "unsupported-format", "version 9"),
        (Header { version: 3 << 24, ..Header::default() }, &[], "unsupported-format", "the other way"),
        (Header::default(), &[], "unsupported-format", "no tensors"),
        (Header::tensor("x", &[4], 0), &[0; 15], "truncated", "`x`"),
        (
            Header::tensor("x", &[31], 8),
            &[0; 64],
            "malformed-tensor",
            "rows of 31 numbers are no whole blocks of 32",
        ),
        (Header::tensor("x", &[32], 77), &[0; 64], "malformed-tensor", "the number 77"),
        (Header::tensor("x", &[1 << 40, 1 << 40], 0), &[0; 64], "malformed-tensor", "overflows"),
        (Header::tensor("x", &[1; 99], 0), &[0; 64], "malformed-tensor", "99 dimensions"),
        (
            Header { tensors: vec![("x", vec![1], 0, u64::MAX)], ..Header::default() },
            &[0; 64],
            "malformed-tensor",
            "begins at byte 18446744073709551615",
        ),
        (
            Header { tensors: vec![("x", vec![8], 0, 0), ("y", vec![8], 0, 0)], ..Header::default() },
            &[0; 64],
            "malformed-tensor",
            "`y`: it begins at byte 0 behind the header, and what is before it ends at 32",
        ),
        (
            Header { tensors: vec![("x", vec![1], 0, 0), ("x", vec![1], 0, 32)], ..Header::default() },
            &[0; 64],
            "malformed-tensor",
            "twice",
        ),
        (
            Header { values: vec![alignment(24)], ..Header::tensor("x", &[1], 0) },
            &[0; 64],
            "malformed",
            "general.alignment is 24",
        ),
        (
            Header { values: vec![alignment(32), alignment(32)], ..Header::tensor("x", &[1], 0) },
            &[0; 64],
            "malformed",
            "`general.alignment` is there twice",
        ),
    ];
    for (header, data, code, words) in cases {
        let error = refusal(&header.file(data));
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn counts_and_lengths_that_no_file_has_take_no_memory() {
    let value = |bytes: &[&[u8]]| Header { values: vec![("k", bytes.concat())], ..Header::default() };
    let [most, array, string] = [u64::MAX.to_le_bytes(), 9u64.to_le_bytes(), 8u64.to_le_bytes()];
    let nested = [&array[..4]; 9].concat();
    for header in [
        value(&[&string[..4], &most]),
        value(&[&array[..4], &string[..4], &most]),
        value(&[&array[..4], &4u32.to_le_bytes(), &most]),
        value(&[&77u32.to_le_bytes()]),
        value(&[&nested]),
    ] {
        let error = refusal(&header.file(&[]));
        assert!(["malformed", "truncated", "too-large"].contains(&error.code()), "{error}");
    }
    for at in [8, 16] {
        let mut file = Header::tensor("x", &[1], 0).file(&[0; 4]);
        file[at..at + 8].fill(0xff);
        assert_eq!(refusal(&file).code(), "too-large");
    }
}

#[test]
fn a_file_that_ends_anywhere_is_cut_off() {
    let file = std::fs::read(fixture("gguf/writer.gguf")).unwrap();
    let whole = open(&file).unwrap();
    for end in (0..2000).chain((2000..file.len()).step_by(97)) {
        let cut = file[..end].to_vec();
        // The file may be filled up behind its last tensor.
        if let Err(error) = open(&cut) {
            let known = ["truncated", "malformed", "unsupported-format"];
            assert!(known.contains(&error.code()), "{end}: {error}");
        } else {
            assert_eq!(open(&cut).unwrap().tensors.len(), whole.tensors.len());
            assert!(end > file.len() - 64, "{end}");
        }
    }
}

#[test]
fn decays_that_are_none_are_refused_by_their_tensor() {
    let (_, mut bytes) =
        export(&family("mamba-default"), &statepress::ExportTarget::Gguf(Default::default())).unwrap();
    let file = statepress_tests::gguf::Gguf::read(bytes.clone());
    let at = file.data + file.tensor("blk.1.ssm_a").offset as usize;
    bytes[at..at + 4].copy_from_slice(&1f32.to_le_bytes());
    let error = Checkpoint::open(bytes, OpenOptions::default()).unwrap().model().err().unwrap().to_string();
    assert!(error.contains("A_log") && error.contains("1 is no -exp(x)"), "{error}");
}
