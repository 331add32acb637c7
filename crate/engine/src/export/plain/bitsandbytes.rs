//! What of a model bitsandbytes holds as the codes that they are, and what `config.json` says for `transformers` to load them so: a name
//! for each linear module that keeps floats. One configuration is for modules of four bits or of eight.

use serde_json::{Value, json};
use statepress_core::words::counted;
use statepress_core::{Entry, Finding, shape};
use statepress_formats::export::{Packing, bitsandbytes};

use super::Planned;
use super::pack::{HEAD_MODULE, Tool, briefly, modules};
use crate::error::listed;

/// NF4 and LLM.int8.
pub(in super::super) struct Bitsandbytes;

impl Tool for Bitsandbytes {
    fn name(&self) -> &'static str {
        "bitsandbytes"
    }

    fn stores(&self) -> &'static str {
        "NF4 in blocks of 64 to 4096 or INT8: compress it by a recipe that makes such, as nf4 and int8 do"
    }

    fn packing(&self, entry: &Entry) -> Result<Packing, String> {
        let packing = entry.encoding().and_then(|of| bitsandbytes::Packing::of(of, &entry.shape));
        let why = || "bitsandbytes stores NF4 in blocks of 64 to 4096 and INT8".to_string();
        packing.map(Packing::Bitsandbytes).ok_or_else(why)
    }

    /// A model is loaded with weights of one width: those of which there are fewer become floats.
    fn settle(&self, tensors: &mut [Planned], findings: &mut Vec<Finding>) {
        let params = |four: bool| -> u64 {
            let has = |it: &&Planned| is_four(it).is_some_and(|is| is == four);
            tensors.iter().filter(has).map(|it| it.entry.params()).sum()
        };
        let four = params(true) >= params(false);
        let mut other = Vec::new();
        for it in tensors.iter_mut().filter(|it| is_four(it).is_some_and(|is| is != four)) {
            other.push(it.key.clone());
            it.packing = None;
        }
        if let Some(first) = other.first() {
            let (bits, others) = if four { ("four", "eight") } else { ("eight", "four") };
            let message = format!(
                "{} of {others} bits written as floats, as a model is loaded with weights of one width, and most are of {bits}: {}",
                counted(other.len(), "matrix is", "matrices are"),
                listed(&other)
            );
            findings.push(Finding::warning("one-width", message).about(first));
        }
        let across: Vec<String> =
            tensors.iter().filter(|it| is_across(it)).map(|it| it.key.clone()).collect();
        if let Some(first) = across.first() {
            let message = format!(
                "{} rows that end within a block: bitsandbytes (0.50.2) was seen to decode them wrong on a processor with AVX-512, where compressed-tensors (INT4 or INT8) loads right: {}",
                counted(across.len(), "matrix has", "matrices have"),
                listed(&across)
            );
            findings.push(Finding::warning("rows-across-blocks", message).about(first));
        }
    }

    fn config(&self, tensors: &[Planned], _: &mut Vec<Finding>) -> Value {
        let four = tensors.iter().any(|it| is_four(it) == Some(true));
        let [packed, floats] = modules(tensors);
        let mut skipped = briefly(&floats, &packed);
        skipped.retain(|name| *name != HEAD_MODULE);
        skipped.push(HEAD_MODULE);
        let nf4 = |it: &Planned| {
            matches!(it.packing, Some(Packing::Bitsandbytes(bitsandbytes::Packing::Nf4 { double: true, .. })))
        };
        match four {
            true => json!({
                "quant_method": "bitsandbytes", "load_in_4bit": true, "load_in_8bit": false,
                "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": tensors.iter().any(nf4),
                "bnb_4bit_compute_dtype": "float32", "bnb_4bit_quant_storage": "uint8", "llm_int8_skip_modules": skipped,
            }),
            false => json!({
                "quant_method": "bitsandbytes", "load_in_4bit": false, "load_in_8bit": true,
                "llm_int8_threshold": 6.0, "llm_int8_skip_modules": skipped,
            }),
        }
    }
}

/// Whether a row ends within a block.
fn is_across(it: &Planned) -> bool {
    match it.packing {
        Some(Packing::Bitsandbytes(bitsandbytes::Packing::Nf4 { block, .. })) => {
            let (rows, cols) = shape::matrix(&it.entry.shape);
            rows > 1 && !cols.is_multiple_of(block)
        }
        _ => false,
    }
}

/// Whether it is packed in four bits; none where it is not packed.
fn is_four(it: &Planned) -> Option<bool> {
    match it.packing? {
        Packing::Bitsandbytes(packing) => Some(matches!(packing, bitsandbytes::Packing::Nf4 { .. })),
        Packing::CompressedTensors(_) => None,
    }
}
