//! Files for other tools: ggml's blocks bit for bit, headers as another reader sees them, the numbers of tensors against the
//! checkpoint they are from, and what the tools cannot hold, by name. That the tools compute the same is held by `tests/interop`.

use statepress::{
    Calibration, Checkpoint, ExportTarget, Exported, GgmlType, GgufOptions, MemorySink, OpenOptions,
    PlainOptions, Recipe, config_as_written, recipes, run, sequence_logits,
};
use statepress_formats::FormatError;
use statepress_formats::export::gguf::{GgufTensor, GgufWriter, Value};
use statepress_tests::families::samples;
use statepress_tests::files::{demo, fixture, open_folder};
use statepress_tests::gguf::Gguf;
use statepress_tests::golden::{Golden, assert_close};

pub(crate) fn export(
    checkpoint: &Checkpoint,
    target: &ExportTarget,
) -> Result<(Exported, Vec<u8>), statepress::Error> {
    let sink = MemorySink::default();
    let exported = run(checkpoint.export(target, Box::new(sink.clone()))?, |_| {})?;
    Ok((exported, sink.take()))
}

fn gguf(kind: Option<GgmlType>) -> ExportTarget {
    ExportTarget::Gguf(GgufOptions { kind, ..GgufOptions::default() })
}

/// A family's checkpoint.
pub(crate) fn family(name: &str) -> Checkpoint {
    open_folder(&fixture(&format!("families/{name}")))
}

fn refusal(name: &str) -> String {
    export(&family(name), &gguf(None)).err().unwrap_or_else(|| panic!("{name} was written")).to_string()
}

/// The codes of the findings of an export.
pub(crate) fn told(exported: &Exported) -> Vec<&str> {
    exported.report.findings.iter().map(|finding| finding.code.as_str()).collect()
}

#[test]
fn blocks_are_those_of_ggml_bit_for_bit() {
    let golden = Golden::open(&fixture("cases/ggml/blocks.safetensors"));
    let (shape, values) = (golden.shape("input"), golden.f32("input"));
    for kind in GgmlType::written().filter(|kind| *kind != GgmlType::F32) {
        let expected = golden.bytes(kind.name());
        let tensor = GgufTensor { name: "x".into(), shape: shape.clone(), kind };
        let mut writer = GgufWriter::new(Vec::new(), &[], vec![tensor]).unwrap();
        assert_eq!(writer.write("x", &values).unwrap(), expected.len() as u64, "{}", kind.name());
        let (bytes, length) = writer.finish().unwrap();
        assert_eq!(bytes.len() as u64, length);
        let file = Gguf::read(bytes);
        let (found, row) = (file.bytes("x", expected.len()), expected.len() / shape[0]);
        for (at, (found, expected)) in found.chunks(row).zip(expected.chunks(row)).enumerate() {
            assert!(found == expected, "{}: row {at} differs", kind.name());
        }
    }
}

#[test]
fn rows_that_are_no_whole_blocks_fall_back_as_in_llama_cpp() {
    let fallbacks = [
        (GgmlType::Q4K, 128, GgmlType::Q5_0),
        (GgmlType::Q5K, 128, GgmlType::Q5_1),
        (GgmlType::Q6K, 128, GgmlType::Q8_0),
        (GgmlType::Q6K, 48, GgmlType::F16),
        (GgmlType::Q4_0, 48, GgmlType::F16),
        (GgmlType::Iq4Nl, 32, GgmlType::Iq4Nl),
        (GgmlType::Bf16, 3, GgmlType::Bf16),
    ];
    for (asked, columns, taken) in fallbacks {
        assert_eq!(asked.for_rows(columns), taken, "{} of {columns}", asked.name());
    }
    let (exported, bytes) = export(&family("mamba-default"), &gguf(Some(GgmlType::Q4K))).unwrap();
    let file = Gguf::read(bytes);
    assert_eq!(file.tensor("blk.0.ssm_in.weight").kind, GgmlType::Q5_0.id());
    assert_eq!(file.tensor("blk.0.ssm_dt.weight").kind, GgmlType::F16.id());
    assert_eq!(file.metadata["general.file_type"], GgmlType::Q4K.file_type());
    assert!(told(&exported).contains(&"finer-type"));
    for name in ["blk.0.ssm_a", "blk.0.ssm_d", "blk.0.ssm_conv1d.weight", "blk.0.attn_norm.weight"] {
        assert_eq!(file.tensor(name).kind, GgmlType::F32.id(), "{name}");
    }
}

#[test]
fn a_mamba_is_under_llama_cpps_names_with_the_numbers_it_had() {
    let (exported, bytes) = export(&family("mamba-default"), &gguf(None)).unwrap();
    assert_eq!(exported.report.file_bytes, bytes.len() as u64);
    let file = Gguf::read(bytes);
    let expected = [
        ("general.architecture", serde_json::json!("mamba")),
        ("mamba.context_length", (1 << 20).into()),
        ("mamba.embedding_length", 32.into()),
        ("mamba.feed_forward_length", 0.into()),
        ("mamba.attention.head_count", 0.into()),
        ("mamba.block_count", 3.into()),
        ("mamba.vocab_size", 64.into()),
        ("mamba.ssm.conv_kernel", 4.into()),
        ("mamba.ssm.inner_size", 64.into()),
        ("mamba.ssm.state_size", 16.into()),
        ("mamba.ssm.time_step_rank", 2.into()),
        ("mamba.ssm.dt_b_c_rms", false.into()),
        ("tokenizer.ggml.model", "none".into()),
    ];
    for (key, value) in expected {
        assert_eq!(file.metadata[key], value, "{key}");
    }
    let golden = Golden::open(&fixture("families/mamba-default/model.safetensors"));
    let mixer = |name: &str| golden.f32(&format!("backbone.layers.1.mixer.{name}"));
    assert_eq!(file.f32("blk.1.ssm_in.weight"), mixer("in_proj.weight"));
    assert_eq!(file.tensor("blk.1.ssm_in.weight").dims, [32, 128]);
    assert_eq!(file.f32("blk.1.ssm_conv1d.weight"), mixer("conv1d.weight"));
    assert_eq!(file.tensor("blk.1.ssm_conv1d.weight").dims, [4, 64]);
    assert_eq!(file.f32("blk.1.ssm_dt.bias"), mixer("dt_proj.bias"));
    let a: Vec<f32> = mixer("A_log").iter().map(|x| -x.exp()).collect();
    assert_eq!(file.f32("blk.1.ssm_a"), a);
    // The head is the table, and llama.cpp takes that for it.
    assert!(file.tensors.iter().all(|tensor| tensor.name != "output.weight"));
    // Nothing lies in anything else, and everything at a multiple of 32.
    let mut end = 0;
    for tensor in &file.tensors {
        assert_eq!((tensor.offset, tensor.offset % 32), (end, 0), "{}", tensor.name);
        end = (tensor.offset + 4 * tensor.dims.iter().product::<u64>()).next_multiple_of(32);
    }
}

#[test]
fn heads_turn_and_matrices_lie_as_llama_cpp_wants_them() {
    let (_, bytes) = export(&family("llama-gqa"), &gguf(None)).unwrap();
    let (file, golden) = (Gguf::read(bytes), Golden::open(&fixture("families/llama-gqa/model.safetensors")));
    let (found, q) = (file.f32("blk.0.attn_q.weight"), golden.f32("model.layers.0.self_attn.q_proj.weight"));
    let (columns, head) = (
        golden.shape("model.layers.0.self_attn.q_proj.weight")[1],
        file.metadata["llama.rope.dimension_count"].as_u64().unwrap() as usize,
    );
    // Row 1 of a head turns with row 0: it was the first of the second half.
    assert_eq!(found[..columns], q[..columns]);
    assert_eq!(found[columns..2 * columns], q[head / 2 * columns..][..columns]);

    let (_, bytes) = export(&family("gpt2"), &gguf(None)).unwrap();
    let (file, golden) = (Gguf::read(bytes), Golden::open(&fixture("families/gpt2/model.safetensors")));
    let key = "transformer.h.0.mlp.c_fc.weight";
    let (found, c_fc, shape) = (file.f32("blk.0.ffn_up.weight"), golden.f32(key), golden.shape(key));
    assert_eq!(file.tensor("blk.0.ffn_up.weight").dims, [shape[0] as u64, shape[1] as u64]);
    assert_eq!((found[1], found[shape[0]]), (c_fc[shape[1]], c_fc[1]));
}

#[test]
fn what_llama_cpp_cannot_hold_is_refused_by_name() {
    let unknown = Checkpoint::open_path(demo(), OpenOptions::default()).unwrap();
    let error = export(&unknown, &gguf(None)).err().unwrap().to_string();
    assert!(error.contains("family itera-lite") && error.contains("falcon-mamba"), "{error}");
    for (name, expected) in [
        ("mamba-odd", "blk.0.ssm_in.bias, for which llama.cpp's mamba has no place"),
        ("mamba-original-layernorm", "blk.0.attn_norm.bias"),
        ("mamba2-dt-limit", "layer 0 of the model limits its step sizes to [0.004, 0.15]"),
        ("mamba2-original-dssm", "skips with a number for each channel"),
        ("mamba2-original-attn", "llama.cpp's mamba2 has no place"),
        ("granite-moe", "has experts"),
        ("gpt2-odd", "computes Gelu"),
        ("rwkv4", "no GGUF of the family rwkv4"),
        ("llama-gqa.bare", "the file has no head"),
    ] {
        let error = refusal(name);
        assert!(error.contains(expected), "{name}: {error}");
    }
}

#[test]
fn numbers_that_a_type_cannot_hold_are_refused_by_tensor() {
    let write = |kind: GgmlType, number: f32| {
        let tensor = GgufTensor { name: "x".into(), shape: vec![1, 256], kind };
        let mut values = vec![0.5; 256];
        values[100] = number;
        GgufWriter::new(Vec::new(), &[], vec![tensor]).unwrap().write("x", &values)
    };
    for kind in GgmlType::written() {
        let holds = matches!(kind, GgmlType::F32 | GgmlType::Bf16);
        for number in [f32::NAN, f32::INFINITY, 1e30] {
            let written = write(kind, number);
            assert_eq!(written.is_ok(), holds, "{} of {number}", kind.name());
            if let Err(error) = written {
                let said = error.to_string();
                assert!(said.contains("`x`") && said.contains(kind.name()), "{said}");
            }
        }
        assert!(write(kind, 6e4).is_ok(), "{}", kind.name());
    }
}

#[test]
fn headers_that_contradict_themselves_are_not_written() {
    let tensor =
        |name: &str, shape: &[usize], kind| GgufTensor { name: name.into(), shape: shape.to_vec(), kind };
    let header = |tensors| GgufWriter::new(Vec::new(), &[("a".into(), Value::from(1u32))], tensors).err();
    let long = "x".repeat(64);
    for tensors in [
        vec![tensor("x", &[2], GgmlType::F32), tensor("x", &[2], GgmlType::F32)],
        vec![tensor("x", &[2, 33], GgmlType::Q8_0)],
        vec![tensor("x", &[1, 1, 1, 1, 1], GgmlType::F32)],
        vec![tensor("x", &[0], GgmlType::F32)],
        vec![tensor(&long, &[2], GgmlType::F32)],
        vec![tensor("x", &[usize::MAX, 32], GgmlType::F32)],
    ] {
        assert!(matches!(header(tensors), Some(FormatError::Write { .. })));
    }
    let mut writer = GgufWriter::new(Vec::new(), &[], vec![tensor("x", &[2], GgmlType::F32)]).unwrap();
    assert!(writer.write("y", &[1.0, 2.0]).is_err());
    assert!(writer.write("x", &[1.0, 2.0, 3.0]).is_err());
    assert!(writer.finish().is_err());
}

#[test]
fn tensors_are_written_in_parts_and_never_half() {
    let of = |kind| GgufTensor { name: "x".into(), shape: vec![3, 64], kind };
    let values: Vec<f32> = (0..192).map(|i| i as f32 - 90.0).collect();
    for kind in [GgmlType::F32, GgmlType::Bf16, GgmlType::Q8_0, GgmlType::Q4_1] {
        let file = |parts: usize| {
            let mut writer = GgufWriter::new(Vec::new(), &[], vec![of(kind)]).unwrap();
            for part in values.chunks(parts) {
                writer.write("x", part).unwrap();
            }
            writer.finish().unwrap().0
        };
        assert_eq!(file(64), file(192), "{}", kind.name());
        assert_eq!(file(32), file(192), "{}", kind.name());
    }
    let mut writer = GgufWriter::new(Vec::new(), &[], vec![of(GgmlType::Q8_0)]).unwrap();
    let error = writer.write("x", &values[..40]).unwrap_err().to_string();
    assert!(error.contains("40 numbers") && error.contains("blocks of 32"), "{error}");
    writer.write("x", &values[..128]).unwrap();
    let error = writer.write("x", &values[..128]).unwrap_err().to_string();
    assert!(error.contains("256 numbers for its shape [3, 64]"), "{error}");
    let mut bad = values[128..].to_vec();
    bad[40] = f32::NAN;
    let error = writer.write("x", &bad).unwrap_err().to_string();
    assert!(error.contains("block 5"), "{error}");
    assert!(writer.finish().is_err(), "a part of its tensor is missing");
}

#[test]
fn codes_that_are_rounded_once_more_are_told() {
    let base = family("mamba-default");
    let (job, bytes) = base.compress_to_memory(&recipes::find("int8").unwrap()).unwrap();
    run(job, |_| {}).unwrap();
    let coded = Checkpoint::open(bytes.take(), OpenOptions::default()).unwrap();
    let (exported, bytes) = export(&coded, &gguf(None)).unwrap();
    assert!(told(&exported).contains(&"coded-before"));
    assert_eq!(Gguf::read(bytes).tensor("blk.0.ssm_in.weight").kind, GgmlType::Q8_0.id());
}

#[test]
fn plain_files_have_the_keys_of_transformers_and_compute_the_same() {
    for sample in samples() {
        let checkpoint = open_folder(&sample.folder);
        let text = std::fs::read_to_string(sample.folder.join("config.json")).unwrap_or("{}".into());
        let config = Some(config_as_written(&text).unwrap());
        let (exported, bytes) =
            export(&checkpoint, &ExportTarget::Plain(PlainOptions { config, ..PlainOptions::default() }))
                .unwrap();
        let options = OpenOptions::default().config_text(exported.config.as_deref().unwrap());
        let again = Checkpoint::open(bytes, options).unwrap();
        if checkpoint.inspection().findings.iter().any(|finding| finding.code == "cannot-run") {
            continue;
        }
        let ids: Vec<u32> = (0..9).map(|at| at * 5 % sample.vocab as u32).collect();
        let logits = |of: &Checkpoint| {
            let model = of.model().unwrap_or_else(|error| panic!("{}: {error}", sample.name));
            pollster::block_on(sequence_logits(&model, &ids)).unwrap()
        };
        let (found, expected) = (logits(&again), logits(&checkpoint));
        // Rows that pad a vocabulary are ids there, as nobody says that they are not.
        let of = |logits: &[f32]| -> Vec<f32> {
            logits.chunks(logits.len() / ids.len()).flat_map(|row| &row[..sample.vocab]).copied().collect()
        };
        assert_close(&sample.name, &of(&found), &of(&expected), 0.0);
    }
}

#[test]
fn plain_files_of_codes_are_the_floats_that_they_stand_for() {
    let base = family("mamba-default");
    for (recipe, dtype) in [("none", "F32"), ("fp16", "F16"), ("bf16", "BF16"), ("nf4", "F32")] {
        let (job, bytes) = base.compress_to_memory(&recipes::find(recipe).unwrap()).unwrap();
        run(job, |_| {}).unwrap();
        let compressed = Checkpoint::open(bytes.take(), OpenOptions::default()).unwrap();
        let (exported, bytes) = export(&compressed, &ExportTarget::Plain(PlainOptions::default())).unwrap();
        let golden = Golden::new(&bytes);
        assert!(golden.has("backbone.embeddings.weight") && !golden.has("lm_head.weight"));
        let tensors = &exported.report.tensors;
        assert!(tensors.iter().filter(|it| it.shape.len() > 1).all(|it| it.dtype == dtype), "{recipe}");
        assert_eq!(told(&exported).contains(&"coded-before"), recipe == "nf4", "{recipe}");
        let config: serde_json::Value = serde_json::from_str(&exported.config.unwrap()).unwrap();
        assert_eq!(config["model_type"], "mamba");
        assert_eq!(config["tie_word_embeddings"], true);
        assert_eq!(
            config["dtype"],
            ["float32", "float16", "bfloat16", "float32"][match recipe {
                "fp16" => 1,
                "bf16" => 2,
                _ => 0,
            }]
        );
    }
}

#[test]
fn a_tokenizer_becomes_the_vocabulary_of_the_header() {
    let tokenizer = |pre: &str| {
        format!(
            r#"{{"model": {{"type": "BPE", "vocab": {{"a": 0, "b": 1, "ab": 2}}, "merges": [["a", "b"]]}},
               "pre_tokenizer": {pre}, "added_tokens": [{{"id": 3, "content": "<|endoftext|>", "special": true}}]}}"#
        )
    };
    let written = |text: Option<String>| {
        let options = GgufOptions { tokenizer: text, ..GgufOptions::default() };
        let (exported, bytes) = export(&family("mamba-default"), &ExportTarget::Gguf(options)).unwrap();
        (told(&exported).into_iter().map(str::to_string).collect::<Vec<_>>(), Gguf::read(bytes).metadata)
    };
    let (findings, metadata) = written(Some(tokenizer(r#"{"type": "ByteLevel", "use_regex": true}"#)));
    assert_eq!(findings, ["unused-tokens"]);
    assert_eq!(metadata["tokenizer.ggml.model"], "gpt2");
    assert_eq!(metadata["tokenizer.ggml.pre"], "gpt-2");
    let tokens = metadata["tokenizer.ggml.tokens"].as_array().unwrap();
    assert_eq!((tokens.len(), &tokens[2], &tokens[63]), (64, &"ab".into(), &"[PAD63]".into()));
    let kinds = metadata["tokenizer.ggml.token_type"].as_array().unwrap();
    assert_eq!((&kinds[0], &kinds[3], &kinds[4]), (&1.into(), &3.into(), &5.into()));
    assert_eq!(metadata["tokenizer.ggml.merges"], serde_json::json!(["a b"]));
    assert_eq!(metadata["tokenizer.ggml.eos_token_id"], 3);

    assert_eq!(metadata["tokenizer.ggml.add_bos_token"], false);
    let template = r#""post_processor": {"processors": [{"type": "ByteLevel"}, {"type": "TemplateProcessing", "single":
        [{"SpecialToken": {"id": "b", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]}]}, "model":"#;
    let marked = tokenizer(r#"{"type": "ByteLevel"}"#).replace(r#""model":"#, template);
    let (_, metadata) = written(Some(marked));
    assert_eq!(metadata["tokenizer.ggml.add_bos_token"], true);
    assert_eq!(metadata["tokenizer.ggml.bos_token_id"], 1);

    let unknown = r#"{"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": "x+"}},
                     {"type": "ByteLevel", "use_regex": false}]}"#;
    let (findings, metadata) = written(Some(tokenizer(unknown)));
    assert_eq!(findings, ["unused-tokens", "tokenizer-pre"]);
    assert_eq!(metadata["tokenizer.ggml.pre"], "default");

    for text in [None, Some("{".into()), Some(tokenizer(r#"{"type": "Metaspace"}"#))] {
        let (findings, metadata) = written(text);
        assert_eq!(findings, ["no-vocabulary"]);
        assert_eq!(metadata["tokenizer.ggml.model"], "none");
    }
}

/// A table in a basis of its own is two products that other tools do not have: GGUF has no place for it, transformers does not run it.
#[test]
fn a_table_in_a_basis_of_its_own_is_told_of_by_what_it_is() {
    let base = family("mamba-default");
    let model = base.model().unwrap();
    let ids: Vec<u32> = (0..600).map(|i| i * 7 % model.info.vocab_size as u32).collect();
    let recipe = Recipe::from_json(r#"{"version":1,"name":"t","steps":[{"basis":{}}]}"#).unwrap();
    let sink = MemorySink::default();
    let job =
        base.compress_calibrated(&recipe, Box::new(sink.clone()), Calibration::new(&model, &ids)).unwrap();
    run(job, |_| {}).unwrap();
    let turned = Checkpoint::open(sink.take(), OpenOptions::default()).unwrap();
    let what = "a table with a basis of its own";
    let error = export(&turned, &gguf(None)).err().unwrap().to_string();
    assert!(error.contains(what), "{error}");
    let (exported, _) = export(&turned, &ExportTarget::Plain(PlainOptions::default())).unwrap();
    let found = exported.report.findings.iter().find(|it| it.code == "not-in-transformers").unwrap();
    assert!(found.message.contains(what), "{found:?}");
}
