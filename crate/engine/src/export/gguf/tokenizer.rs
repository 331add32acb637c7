//! The vocabulary in the header, from the text of a `tokenizer.json`: byte-level BPE, as GPT-2, Llama 3, Qwen and most models
//! of state spaces have it. Without one a file has none, and llama.cpp takes token ids alone.

use serde_json::Value as Json;
use statepress_core::Finding;
use statepress_formats::export::gguf::Value;

type Metadata = Vec<(String, Value)>;

/// llama.cpp's kinds of tokens.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;

/// How texts are cut before merges, by the expression that the tokenizer has for it, in llama.cpp's words.
const PRE: [(&str, &str); 3] = [
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        "llama-bpe",
    ),
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        "qwen2",
    ),
    (r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+", "gpt-2"),
];

/// Special tokens by their usual texts.
const ENDS: [&str; 5] = ["<|endoftext|>", "<|end_of_text|>", "<|im_end|>", "</s>", "<eos>"];
const BEGINS: [&str; 4] = ["<|begin_of_text|>", "<s>", "<bos>", "<|endoftext|>"];

/// The keys of the vocabulary, of as many tokens as the table has rows.
pub(super) fn tokenizer(text: Option<&str>, rows: usize, findings: &mut Vec<Finding>) -> Metadata {
    let none = |why: String, findings: &mut Vec<Finding>| {
        let message = format!("the file has no vocabulary ({why}): llama.cpp runs it on token ids alone");
        findings.push(Finding::warning("no-vocabulary", message));
        vec![("tokenizer.ggml.model".to_string(), Value::from("none"))]
    };
    let Some(text) = text else {
        return none("no tokenizer.json lies beside the weights".into(), findings);
    };
    match byte_level(text, rows, findings) {
        Ok(metadata) => metadata,
        Err(why) => none(why, findings),
    }
}

fn byte_level(text: &str, rows: usize, findings: &mut Vec<Finding>) -> Result<Metadata, String> {
    let json: Json =
        serde_json::from_str(text).map_err(|error| format!("tokenizer.json is no JSON: {error}"))?;
    let model = &json["model"];
    if model["type"].as_str().unwrap_or("BPE") != "BPE" || !model["vocab"].is_object() {
        return Err("the tokenizer is no BPE, the one kind that is written so far".into());
    }
    let mut pre = Vec::new();
    pre_tokenizers(&json["pre_tokenizer"], &mut pre);
    if !pre.iter().any(|it| it["type"] == "ByteLevel") {
        return Err("the tokenizer's BPE is none of bytes, the one kind that is written so far".into());
    }
    let mut tokens: Vec<Option<(String, i32)>> = vec![None; rows];
    let mut put = |id: Option<u64>, token: &str, kind: i32| -> Result<(), String> {
        let id = id.and_then(|id| usize::try_from(id).ok());
        let slot = id.and_then(|id| tokens.get_mut(id));
        let beyond = || format!("token {token:?} of tokenizer.json is beyond the {rows} rows of the table");
        *slot.ok_or_else(beyond)? = Some((token.into(), kind));
        Ok(())
    };
    for (token, id) in model["vocab"].as_object().into_iter().flatten() {
        put(id.as_u64(), token, NORMAL)?;
    }
    for added in json["added_tokens"].as_array().into_iter().flatten() {
        let kind = if added["special"] == true { CONTROL } else { USER_DEFINED };
        put(added["id"].as_u64(), added["content"].as_str().unwrap_or_default(), kind)?;
    }
    let missing = tokens.iter().filter(|token| token.is_none()).count();
    if missing > 0 {
        let message =
            format!("{missing} of {rows} rows of the table have no token: they are marked as unused");
        findings.push(Finding::info("unused-tokens", message));
    }
    let filled = tokens.into_iter().enumerate();
    let (texts, kinds): (Vec<String>, Vec<i32>) =
        filled.map(|(id, token)| token.unwrap_or_else(|| (format!("[PAD{id}]"), UNUSED))).unzip();
    let merges: Option<Vec<String>> = model["merges"].as_array().into_iter().flatten().map(merge).collect();
    let merges = merges.ok_or("its merges cannot be read")?;

    let mut metadata: Metadata = vec![
        ("tokenizer.ggml.model".into(), "gpt2".into()),
        ("tokenizer.ggml.pre".into(), split(&pre, findings).into()),
    ];
    let id = |names: &[&str]| {
        let found = names.iter().find_map(|name| texts.iter().position(|text| text == name));
        found.and_then(|id| u32::try_from(id).ok())
    };
    // What a template puts before every text is the mark of its beginning, whatever it is called.
    let mark = beginning(&json["post_processor"]);
    let begins = mark.map_or_else(|| id(&BEGINS), |mark| id(&[mark]));
    let ends = id(&ENDS);
    metadata.push(("tokenizer.ggml.tokens".into(), Value::Strings(texts)));
    metadata.push(("tokenizer.ggml.token_type".into(), Value::I32s(kinds)));
    metadata.push(("tokenizer.ggml.merges".into(), Value::Strings(merges)));
    for (key, id) in [("bos_token_id", begins), ("eos_token_id", ends)] {
        metadata.extend(id.map(|id| (format!("tokenizer.ggml.{key}"), id.into())));
    }
    let marked = mark.is_some() && begins.is_some();
    metadata.push(("tokenizer.ggml.add_bos_token".into(), marked.into()));
    Ok(metadata)
}

/// The special token that a template, by itself or in a sequence of processors, puts before a text.
fn beginning(processor: &Json) -> Option<&str> {
    match processor["processors"].as_array() {
        Some(inner) => inner.iter().find_map(beginning),
        None => processor["single"].as_array()?.first()?["SpecialToken"]["id"].as_str(),
    }
}

/// A merge as two texts with a space between; newer files have a list of two.
fn merge(merge: &Json) -> Option<String> {
    match merge {
        Json::String(pair) => Some(pair.clone()),
        Json::Array(pair) => match pair.as_slice() {
            [a, b] => Some(format!("{} {}", a.as_str()?, b.as_str()?)),
            _ => None,
        },
        _ => None,
    }
}

/// The pre-tokenizers of a sequence, one after the other.
fn pre_tokenizers<'a>(json: &'a Json, all: &mut Vec<&'a Json>) {
    match json["pretokenizers"].as_array() {
        Some(inner) => inner.iter().for_each(|inner| pre_tokenizers(inner, all)),
        None => all.push(json),
    }
}

/// What llama.cpp calls the way in which texts are cut.
fn split(pre: &[&Json], findings: &mut Vec<Finding>) -> &'static str {
    let expression = pre.iter().find_map(|it| it["pattern"]["Regex"].as_str());
    let known = match expression {
        Some(expression) => PRE.iter().find(|(known, _)| *known == expression).map(|(_, name)| *name),
        // Bytes alone are cut as GPT-2's are, unless they say that they are not.
        None => pre.iter().any(|it| it["type"] == "ByteLevel" && it["use_regex"] != false).then_some("gpt-2"),
    };
    known.unwrap_or_else(|| {
        let message = "how the tokenizer cuts texts has no name in llama.cpp that is known here: `default` is written, and \
                       some texts become other tokens";
        findings.push(Finding::warning("tokenizer-pre", message));
        "default"
    })
}
