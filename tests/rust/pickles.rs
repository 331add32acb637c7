//! PyTorch files as training scripts write them: the weights that torch reads, wherever they are, and what is said of
//! everything else. The files and what torch reads are made by `fixtures/cases/make_pickle.py`.

use std::collections::BTreeMap;

use half::{bf16, f16};
use serde::Deserialize;
use statepress::{Checkpoint, Error, OpenOptions};
use statepress_core::{Entry, Level, Packed, Source};
use statepress_formats::{open, read_tensor};
use statepress_tests::files::fixture;

/// What a file is expected to be: weights, or an error.
#[derive(Deserialize)]
struct Expected {
    #[serde(default)]
    path: String,
    #[serde(default)]
    tensors: BTreeMap<String, Values>,
    #[serde(default)]
    findings: Vec<String>,
    #[serde(default)]
    others: Vec<String>,
    error: Option<String>,
    #[serde(default)]
    words: Vec<String>,
}

#[derive(Deserialize)]
struct Values {
    shape: Vec<usize>,
    /// As torch gives them; none of what is large.
    values: Option<Vec<f32>>,
}

fn file(name: &str) -> Vec<u8> {
    std::fs::read(fixture(&format!("cases/pickle/{name}"))).unwrap()
}

fn expected() -> BTreeMap<String, Expected> {
    serde_json::from_slice(&file("expected.json")).unwrap()
}

fn numbers(bytes: &dyn Source, entry: &Entry) -> Vec<f32> {
    match read_tensor(bytes, entry).unwrap().data {
        Packed::F32(values) => values,
        Packed::F16(bits) => bits.into_iter().map(|bits| f16::from_bits(bits).to_f32()).collect(),
        Packed::Bf16(bits) => bits.into_iter().map(|bits| bf16::from_bits(bits).to_f32()).collect(),
        other => panic!("{}: {other:?}", entry.name),
    }
}

#[test]
fn every_file_has_the_weights_that_torch_reads_or_says_why_not() {
    let mut read = 0;
    for (name, expected) in expected() {
        let bytes = file(&name);
        let index = match (open(&bytes), &expected.error) {
            (Ok(index), None) => index,
            (Err(error), Some(code)) => {
                assert_eq!(error.code(), code, "{name}: {error}");
                for words in &expected.words {
                    assert!(error.to_string().contains(words), "{name}: {error} does not say {words}");
                }
                continue;
            }
            (Ok(index), Some(_)) => panic!("{name} opened as `{}`", index.wrapper),
            (Err(error), None) => panic!("{name}: {error}"),
        };
        assert_eq!(index.wrapper, expected.path, "{name}");
        let paths: Vec<_> = index.weights.iter().map(|at| at.path.as_str()).collect();
        let mut others: Vec<&str> = expected.others.iter().map(String::as_str).collect();
        others.insert(0, &expected.path);
        assert_eq!(paths[0], others[0], "{name}: what was taken comes first");
        let sorted = |mut list: Vec<&str>| {
            list.sort_unstable();
            list.join(" ")
        };
        assert_eq!(sorted(paths), sorted(others), "{name}");
        let mut codes: Vec<_> = index.findings.iter().map(|finding| finding.code.as_str()).collect();
        codes.sort_unstable();
        codes.dedup();
        codes.retain(|code| !code.starts_with("float8"));
        let wanted: Vec<_> = expected.findings.iter().filter(|code| !code.starts_with("float8")).collect();
        assert_eq!(codes, wanted, "{name}: {:?}", index.findings);
        assert_eq!(index.tensors.len(), expected.tensors.len(), "{name}");
        for (key, Values { shape, values }) in expected.tensors {
            let entry = index.get(&key).unwrap_or_else(|| panic!("{name}: `{key}` is missing"));
            assert_eq!(entry.shape, shape, "{name}: `{key}`");
            if let Some(values) = values {
                let found = numbers(&bytes, entry);
                let same = found.iter().zip(&values).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same && found.len() == values.len(), "{name}: `{key}` is {found:?}, not {values:?}");
                read += 1;
            }
        }
    }
    assert!(read > 80, "{read} tensors were read");
}

#[test]
fn what_is_left_out_is_a_warning_with_its_name() {
    let index = open(&file("stray_sparse.pt")).unwrap();
    let warning = index.findings.iter().find(|finding| finding.code == "tensor-left-out").unwrap();
    assert_eq!((warning.level, warning.tensor.as_deref()), (Level::Warning, Some("s")));
    assert!(warning.message.contains("a sparse tensor") && warning.message.contains("missing here"));
}

#[test]
fn what_a_file_would_run_is_a_warning() {
    let index = open(&file("command.pt")).unwrap();
    let warning = index.findings.iter().find(|finding| finding.code == "dangerous-pickle").unwrap();
    assert_eq!(warning.level, Level::Warning);
    assert!(warning.message.contains("`posix.system`"), "{}", warning.message);
}

#[test]
fn scalars_beside_the_weights_are_metadata() {
    for protocol in [2, 4, 5] {
        let index = open(&file(&format!("beside.p{protocol}.pt"))).unwrap();
        assert_eq!(index.metadata["lr"], "0.001", "protocol {protocol}");
        assert!(index.metadata["numpy"].starts_with("[2.5,-7,true,"), "{}", index.metadata["numpy"]);
        assert!(index.metadata["sets"].contains("[3]"));
        assert!(
            index.metadata["plain"].contains("1606938044258990275541962092341162602522202993782792835301376")
        );
        assert!(index.metadata["plain"].contains("-1180591620717411303424"));
        let said = index.findings.iter().find(|finding| finding.code == "not-rebuilt").unwrap();
        assert!(said.message.contains("`__main__.Slots`"), "{}", said.message);
    }
}

/// Opens a file with the weights at a path.
fn opened_at(name: &str, path: &str) -> Result<Checkpoint, Error> {
    Checkpoint::open(file(name), OpenOptions { weights: Some(path.into()), ..OpenOptions::default() })
}

#[test]
fn the_user_says_which_weights_are_meant() {
    let found = Checkpoint::open(file("average.pt"), OpenOptions::default()).unwrap().inspection();
    let paths: Vec<_> = found.weights.iter().map(|at| (at.path.as_str(), at.tensors, at.params)).collect();
    assert_eq!(paths, [("model", 3, 24), ("ema", 3, 24)]);
    let average = opened_at("average.pt", "ema").unwrap().inspection();
    assert_eq!((average.wrapper.as_str(), average.weights[0].path.as_str()), ("ema", "ema"));
    assert!(average.findings.iter().any(|finding| finding.code == "averaged-weights"));
    let error = opened_at("average.pt", "emma").err().unwrap();
    assert_eq!(error.code(), "bad-option");
    assert!(error.to_string().contains("`emma`") && error.to_string().contains("`model`, `ema`"), "{error}");
    assert!(opened_at("repeated.pt", "bare").is_ok());
    let safetensors = std::fs::read(fixture("fixtures/tf.safetensors")).unwrap();
    let options = OpenOptions { weights: Some("model".into()), ..OpenOptions::default() };
    assert_eq!(Checkpoint::open(safetensors, options).err().unwrap().code(), "bad-option");
}
