//! The checkpoints of the model families, with what their reference implementations compute.

use std::path::PathBuf;

use crate::files::fixture;
use crate::golden::Golden;

/// A folder as a user would drop it.
pub struct Sample {
    /// The folder's name.
    pub name: String,
    /// The folder.
    pub folder: PathBuf,
    /// What the reference computes; `None` for those that are to be refused.
    pub golden: Option<Golden>,
    /// Rows of the table.
    pub vocab_rows: usize,
    /// Ids that exist.
    pub vocab: usize,
}

/// Every folder whose weights are one file.
pub fn samples() -> Vec<Sample> {
    let manifest = std::fs::read_to_string(fixture("families/manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let entries = manifest["entries"].as_object().unwrap();
    let whole = entries.iter().filter(|(name, _)| !name.ends_with("sharded"));
    let samples = whole.map(|(name, about)| Sample {
        name: name.clone(),
        folder: fixture(&format!("families/{name}")),
        golden: about["golden"].as_str().map(|path| Golden::open(&fixture(&format!("families/{path}")))),
        vocab_rows: about["vocab_rows"].as_u64().unwrap() as usize,
        vocab: about["vocab"].as_u64().unwrap() as usize,
    });
    samples.collect()
}

/// The first `vocab` of every `rows` logits: those of ids that exist.
pub fn existing(logits: &[f32], rows: usize, vocab: usize) -> Vec<f32> {
    logits.chunks_exact(rows).flat_map(|row| &row[..vocab]).copied().collect()
}
