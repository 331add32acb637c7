//! One model in several mappings of a file, several models in one, and every name by which the user may mean one of
//! them: held to the logits of transformers. The files are made by `fixtures/cases/make_parts.py`.

use std::collections::BTreeMap;

use serde::Deserialize;
use statepress::{Checkpoint, Error, Level, OpenOptions, sequence_logits};
use statepress_tests::files::fixture;

#[derive(Deserialize)]
struct Expected {
    ids: Vec<u32>,
    logits: BTreeMap<String, Vec<Vec<f32>>>,
    files: BTreeMap<String, Vec<Asked>>,
}

#[derive(Deserialize)]
struct Asked {
    /// `--weights`; none where it is empty.
    ask: String,
    path: String,
    /// None where it is no whole model.
    model: Option<String>,
    codes: Vec<String>,
}

fn opened(name: &str, path: &str) -> Result<Checkpoint, Error> {
    let bytes = std::fs::read(fixture(&format!("cases/parts/{name}"))).unwrap();
    let weights = (!path.is_empty()).then(|| path.to_string());
    Checkpoint::open(bytes, OpenOptions { weights, ..OpenOptions::default() })
}

#[test]
fn every_name_leads_to_the_model_that_is_meant() {
    let json = std::fs::read(fixture("cases/parts/expected.json")).unwrap();
    let Expected { ids, logits, files } = serde_json::from_slice(&json).unwrap();
    assert!(files.len() > 14, "{} files", files.len());
    for (name, asked) in files {
        for Asked { ask, path, model, codes } in asked {
            let what = format!("{name} at `{ask}`");
            let checkpoint = opened(&name, &ask).unwrap_or_else(|error| panic!("{what}: {error}"));
            let found = checkpoint.inspection();
            assert_eq!((found.wrapper.as_str(), found.weights[0].path.as_str()), (&*path, &*path), "{what}");
            let told = |code: &str| found.findings.iter().any(|finding| finding.code == code);
            for code in &codes {
                assert!(told(code), "{what}: no {code} in {:?}", found.findings);
            }
            for code in ["joined-weights", "other-weights", "several-models"] {
                let is_surprise = told(code) && !codes.iter().any(|it| it == code);
                assert!(!ask.is_empty() || !is_surprise, "{what}: {:?}", found.findings);
            }
            let Some(expected) = model else {
                assert!(checkpoint.model().is_err() && told("cannot-run"), "{what}");
                continue;
            };
            let model = checkpoint.model().unwrap_or_else(|error| panic!("{what}: {error}"));
            let logits = &logits[&expected];
            let got = pollster::block_on(sequence_logits(&model, &ids)).unwrap();
            let off = got.iter().zip(logits.concat()).map(|(got, wanted)| (got - wanted).abs());
            let off = off.fold(0.0, f32::max);
            assert!(got.len() == logits.concat().len() && off < 1e-4, "{what}: {off}");
        }
    }
}

#[test]
fn what_may_be_the_rest_of_a_model_is_a_warning() {
    let mut rows = 0;
    for name in ["halves.pt", "modules.pt"] {
        let one = opened(name, "").unwrap().inspection();
        let paths: Vec<_> = one.weights.iter().map(|at| at.path.as_str()).collect();
        rows += usize::from(paths.contains(&"trainable") && paths.contains(&"frozen"));
        assert_eq!(one.params, one.weights[0].params, "{paths:?}");
    }
    assert_eq!(rows, 1, "the parts can be chosen by themselves");
    let found = opened("rest.pt", "").unwrap().inspection();
    let told = found.findings.iter().find(|finding| finding.code == "other-weights").unwrap();
    assert_eq!(told.level, Level::Warning);
    assert!(told.message.contains("as `backbone+classifier`"), "{}", told.message);
    let both = opened("rest.pt", "backbone+classifier").unwrap().inspection();
    assert_eq!(both.tensors.len(), found.tensors.len() + 1);
}

#[test]
fn the_state_of_an_optimizer_is_no_candidate() {
    let found = opened("optimizers.pt", "").unwrap().inspection();
    let paths: Vec<_> = found.weights.iter().map(|at| at.path.as_str()).collect();
    assert_eq!(paths, ["model"]);
    assert!(opened("optimizers.pt", "optim.exp_avg").is_ok(), "what is asked for by its name is opened");
}

#[test]
fn models_behind_prefixes_are_candidates() {
    for name in ["prefixes.pt", "prefixes.safetensors"] {
        let found = opened(name, "").unwrap().inspection();
        let paths: Vec<_> = found.weights.iter().map(|at| at.path.as_str()).collect();
        assert_eq!(paths, ["bare", "student", "teacher"], "{name}");
        let error = opened(name, "techer").err().unwrap();
        assert_eq!(error.code(), "bad-option");
        for words in ["`techer`", "the top level of the file", "`student`", "`teacher`"] {
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
