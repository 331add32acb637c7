//! Checkpoints in shards: the same model as the one that was cut, and every disagreement by its name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use statepress::{Checkpoint, Error, Joined, OpenOptions, Source, recipes, run, sequence_logits};
use statepress_core::Index;
use statepress_formats::{Choice, FormatError, ShardMap, open_shards as open_chosen};
use statepress_tests::files::fixture;

/// The shards, with their weights wherever they are.
fn open_shards(shards: &Joined, map: Option<&ShardMap>) -> Result<Index, FormatError> {
    open_chosen(shards, map, &Choice::default())
}

fn opened(path: impl AsRef<Path>) -> Result<Checkpoint, Error> {
    Checkpoint::open_path(path, OpenOptions::default())
}

fn codes(checkpoint: &Checkpoint) -> Vec<String> {
    checkpoint.inspection().findings.into_iter().map(|finding| finding.code).collect()
}

/// The largest difference to the logits of transformers.
fn difference(checkpoint: &Checkpoint, expected: &Value) -> f32 {
    let ids: Vec<u32> = serde_json::from_value(expected["ids"].clone()).unwrap();
    let rows: Vec<Vec<f32>> = serde_json::from_value(expected["logits"].clone()).unwrap();
    let model = checkpoint.model().unwrap();
    let logits = pollster::block_on(sequence_logits(&model, &ids)).unwrap();
    assert_eq!(logits.len(), rows.concat().len());
    logits.iter().zip(rows.concat()).map(|(got, wanted)| (got - wanted).abs()).fold(0.0, f32::max)
}

/// A folder with copies of some files of a fixture.
fn copied(test: &str, from: &str, names: impl Fn(&str) -> bool) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("statepress-shards-{test}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for entry in std::fs::read_dir(fixture(from)).unwrap() {
        let entry = entry.unwrap();
        if names(entry.file_name().to_str().unwrap()) {
            std::fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
        }
    }
    folder
}

#[test]
fn shards_compute_what_the_whole_model_did() {
    let expected: Value =
        serde_json::from_slice(&std::fs::read(fixture("cases/shards/expected.json")).unwrap()).unwrap();
    for (folder, index) in
        [("safetensors", "model.safetensors.index.json"), ("bin", "pytorch_model.bin.index.json")]
    {
        let folder = fixture("cases/shards").join(folder);
        for path in [folder.clone(), folder.join(index)] {
            let checkpoint = opened(&path).unwrap();
            let inspection = checkpoint.inspection();
            assert_eq!(codes(&checkpoint), [] as [&str; 0], "{}", path.display());
            assert_eq!(inspection.files.len(), 3);
            assert_eq!(inspection.files.iter().map(|file| file.bytes).sum::<u64>(), inspection.file_bytes);
            let off = difference(&checkpoint, &expected);
            assert!(off < 2e-5, "{}: {off}", path.display());

            let (job, bytes) = checkpoint.compress_to_memory(&recipes::find("none").unwrap()).unwrap();
            let report = run(job, |_| {}).unwrap();
            assert_eq!(report.from_files, inspection.files);
            let one = Checkpoint::open(bytes.take(), OpenOptions::default()).unwrap();
            assert!(one.inspection().files.is_empty());
            assert!(difference(&one, &expected) < 2e-5);
        }
    }
}

#[test]
fn shards_without_their_index_are_one_by_their_names() {
    let folder = copied("bare", "cases/shards/safetensors", |name| !name.ends_with("index.json"));
    let checkpoint = opened(&folder).unwrap();
    assert!(codes(&checkpoint).contains(&"shards-without-index".to_string()));
    assert_eq!(checkpoint.inspection().files.len(), 3);

    std::fs::remove_file(folder.join("model-00002-of-00003.safetensors")).unwrap();
    let error = opened(&folder).err().unwrap();
    assert_eq!(error.code(), "missing-shard");
    let message = error.to_string();
    assert!(message.contains("1 of 3 shards is missing: `model-00002-of-00003.safetensors`"), "{message}");
    // One that is asked for by its name is that one.
    let one = opened(folder.join("model-00001-of-00003.safetensors")).unwrap();
    assert!(one.inspection().files.is_empty());
    assert!(codes(&one).contains(&"one-shard-of-several".to_string()));

    // Alone in a folder it is not the model.
    std::fs::remove_file(folder.join("model-00003-of-00003.safetensors")).unwrap();
    let message = opened(&folder).err().unwrap().to_string();
    assert!(message.contains("2 of 3 shards are missing"), "{message}");
}

#[test]
fn a_shard_that_lacks_or_is_damaged_is_named() {
    let folder = copied("missing", "cases/shards/bin", |name| !name.contains("00003-of"));
    let error = opened(folder.join("pytorch_model.bin.index.json")).err().unwrap();
    assert!(
        error.to_string().contains("1 of 3 shards is missing: `pytorch_model-00003-of-00003.bin`"),
        "{error}"
    );

    let folder = copied("damaged", "cases/shards/safetensors", |_| true);
    let second = folder.join("model-00002-of-00003.safetensors");
    let bytes = std::fs::read(&second).unwrap();
    std::fs::write(&second, &bytes[..bytes.len() - 8]).unwrap();
    let error = opened(&folder).err().unwrap();
    assert_eq!(error.code(), "truncated");
    assert!(error.to_string().starts_with("model-00002-of-00003.safetensors: "), "{error}");
}

#[test]
fn a_config_that_cannot_be_read_is_ignored_and_told() {
    let folder = copied("config", "cases/shards/safetensors", |name| name != "config.json");
    std::fs::create_dir_all(folder.join("config.json")).unwrap();
    assert!(codes(&opened(&folder).unwrap()).contains(&"config-ignored".to_string()));
}

type Tensors<'a> = &'a [(&'a str, Dtype, &'a [usize], &'a [u8])];

/// A safetensors file.
fn file(tensors: Tensors) -> Box<dyn Source> {
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        (name.to_string(), TensorView::new(*dtype, shape.to_vec(), bytes).unwrap())
    });
    Box::new(safetensors::serialize(views.collect::<BTreeMap<_, _>>(), None).unwrap())
}

fn joined(files: &[(&str, Tensors)]) -> Joined {
    Joined::new(files.iter().map(|(name, tensors)| (name.to_string(), file(tensors))))
}

fn map(pairs: &[(&str, &str)], total: Value) -> ShardMap {
    let pairs: serde_json::Map<String, Value> =
        pairs.iter().map(|(key, file)| (key.to_string(), (*file).into())).collect();
    let text = json!({ "metadata": { "total_size": total }, "weight_map": pairs }).to_string();
    ShardMap::parse("model.safetensors.index.json", &text).unwrap()
}

const ONE: &[u8] = &[0, 0, 0x80, 0x3f];
const TWO: &[u8] = &[0, 0, 0, 0x40];

#[test]
fn what_index_and_shards_disagree_about_is_said_by_name() {
    let scalar = |name, bytes| (name, Dtype::F32, &[1][..], bytes);
    let first = [scalar("a", ONE), scalar("both", ONE), scalar("stranger", ONE)];
    let second = [scalar("b", TWO), scalar("both", TWO), scalar("moved", TWO)];
    let shards = joined(&[("1.safetensors", &first), ("2.safetensors", &second)]);
    let pairs = [
        ("a", "1.safetensors"),
        ("b", "2.safetensors"),
        ("both", "2.safetensors"),
        ("moved", "1.safetensors"),
        ("nowhere", "2.safetensors"),
    ];
    let index = open_shards(&shards, Some(&map(&pairs, json!(99)))).unwrap();
    let names: Vec<&str> = index.tensors.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["a", "stranger", "b", "both", "moved"]);
    let both = statepress_formats::read_tensor(&shards, index.get("both").unwrap()).unwrap();
    assert_eq!(both.data, statepress_core::Packed::F32(vec![2.0]));
    let said: Vec<(&str, Option<&str>)> =
        index.findings.iter().map(|it| (it.code.as_str(), it.tensor.as_deref())).collect();
    assert_eq!(
        said,
        [
            ("total-size-differs", None),
            ("tensor-in-several-shards", Some("both")),
            ("tensor-not-in-shard", Some("nowhere")),
            ("tensor-in-other-shard", Some("moved")),
            ("tensor-not-in-index", Some("stranger")),
        ]
    );
    // The sizes are compared with what the shards hold, both times "both".
    assert!(
        open_shards(&shards, Some(&map(&pairs, json!(24)))).unwrap().findings[0].code != "total-size-differs"
    );
}

#[test]
fn a_tensor_in_two_shards_is_refused_where_nothing_says_which() {
    let scalar = [("a", Dtype::F32, &[1][..], ONE)];
    let files: [(&str, Tensors); 2] = [("m-1-of-2.safetensors", &scalar), ("m-2-of-2.safetensors", &scalar)];
    let error = open_shards(&joined(&files), None).unwrap_err();
    assert_eq!(error.code(), "malformed-tensor");
    assert!(
        error
            .to_string()
            .contains("`a`: it lies in the shards `m-1-of-2.safetensors`, `m-2-of-2.safetensors`"),
        "{error}"
    );
}

#[test]
fn codes_and_scales_are_one_weight_across_shards() {
    let codes = [("x.weight_int8", Dtype::I8, &[1, 4][..], &[1u8, 2, 3, 255][..])];
    let scales = [("x.scale", Dtype::F32, &[1][..], TWO)];
    let shards = joined(&[("m-1-of-2.st", &codes), ("m-2-of-2.st", &scales)]);
    let index = open_shards(&shards, None).unwrap();
    assert_eq!(index.tensors.len(), 1);
    let tensor = statepress_formats::read_tensor(&shards, index.get("x.weight").unwrap()).unwrap();
    let expected = statepress_core::Packed::Codes(statepress_core::Codes {
        grid: statepress_core::Grid::Int8,
        group: statepress_core::Group::Row,
        codes: vec![1, 2, 3, 0xff],
        scales: statepress_core::Scales::F32(vec![2.0]),
    });
    assert_eq!(tensor.data, expected);
}

#[test]
fn shards_of_unlike_formats_are_told() {
    let bin = std::fs::read(fixture("cases/shards/bin/pytorch_model-00002-of-00003.bin")).unwrap();
    let first = ("m-1-of-2.x".to_string(), file(&[("a", Dtype::F32, &[1], ONE)]));
    let second = ("m-2-of-2.x".to_string(), Box::new(bin) as Box<dyn Source>);
    let index = open_shards(&Joined::new([first, second]), None).unwrap();
    assert!(index.findings.iter().any(|it| it.code == "mixed-formats"));
}

#[test]
fn an_adapter_is_told_for_what_it_is() {
    let low = [("base_model.model.x.lora_A.weight", Dtype::F32, &[1][..], ONE)];
    let shard = joined(&[("m-1-of-1.safetensors", &low)]);
    let checkpoint = Checkpoint::open_shards(shard, None, OpenOptions::default()).unwrap();
    assert!(codes(&checkpoint).contains(&"adapter".to_string()));
}

/// Every round changes some bytes of a shard or of the index, and opens and reads all that still opens.
#[test]
fn damaged_shards_and_indexes_never_panic() {
    let rounds: usize =
        std::env::var("STATEPRESS_ROUNDS").ok().and_then(|it| it.parse().ok()).unwrap_or(3000);
    // xorshift64, so that a failure can be repeated.
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below.max(1) as u64) as usize
    };
    let kinds = [("safetensors", "model.safetensors.index.json"), ("bin", "pytorch_model.bin.index.json")];
    let stored = kinds.map(|(folder, index)| {
        let folder = fixture("cases/shards").join(folder);
        let text = std::fs::read_to_string(folder.join(index)).unwrap();
        let map = ShardMap::parse(index, &text).unwrap();
        let read = |name: &str| (name.to_string(), std::fs::read(folder.join(name)).unwrap());
        (index, text, map.files().into_iter().map(read).collect::<Vec<_>>())
    });
    let (mut opened, mut refused) = (0, 0);
    for round in 0..rounds {
        let (name, text, shards) = &stored[round % 2];
        let (mut text, mut shards) = (text.clone().into_bytes(), shards.clone());
        let in_index = round % 3 == 0;
        for _ in 0..=random(3) {
            let count = shards.len();
            let bytes = if in_index { &mut text } else { &mut shards[random(count)].1 };
            // Headers are at the start of safetensors and at the end of zips: that is where most is to be broken.
            let at = match random(3) {
                0 => random(bytes.len()),
                1 => random(bytes.len().min(600)),
                _ => bytes.len().saturating_sub(1 + random(bytes.len().min(900))),
            };
            match random(4) {
                0 => bytes.truncate(at),
                1 => bytes[at] = b"\"{}[],:0-9/x"[random(12)],
                2 => bytes[at] ^= 1 << random(8),
                _ => bytes[at] = random(256) as u8,
            }
            if bytes.is_empty() {
                break;
            }
        }
        let map = std::str::from_utf8(&text).ok().and_then(|text| ShardMap::parse(name, text).ok());
        let sources = shards.into_iter().map(|(name, bytes)| (name, Box::new(bytes) as Box<dyn Source>));
        let joined = Joined::new(sources);
        match open_shards(&joined, map.as_ref().filter(|_| round % 5 != 0)) {
            Ok(index) => {
                opened += 1;
                for entry in &index.tensors {
                    let _ = statepress_formats::read_tensor(&joined, entry);
                }
            }
            Err(error) => {
                refused += 1;
                assert!(!error.to_string().is_empty());
            }
        }
    }
    assert!(opened > rounds / 10 && refused > rounds / 10, "{opened} opened, {refused} refused");
}
