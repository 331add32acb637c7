//! `config.json` as Python writes it, which is not always JSON.
//!
//! Python's `json` module writes the bare words `Infinity`, `-Infinity` and `NaN`, and transformers 4 did so for every
//! Mamba-2 (`"time_step_limit": [0.0, Infinity]`). transformers 5 writes `{"__float__": "Infinity"}` instead. Both are
//! read as the latter: JSON has no such numbers, and whoever wants the field knows that form.

use serde_json::{Map, Value};
use statepress_core::words::kind;

use crate::Error;

/// Reads the text of a `config.json`: bare `Infinity`, `-Infinity` and `NaN` become `{"__float__": "Infinity"}` and so
/// on, a byte order mark is skipped, and whole numbers are whole however they are spelt (`2.0` is 2).
///
/// # Errors
///
/// [`Error::Config`], with the place, when it is no JSON object.
pub fn read_config(text: &str) -> Result<Map<String, Value>, Error> {
    Ok(with_whole_numbers(config_as_written(text)?))
}

/// The same with numbers as they are spelt: what goes back to transformers, which tells `2.0` from `2`.
///
/// # Errors
///
/// As [`read_config`].
pub fn config_as_written(text: &str) -> Result<Map<String, Value>, Error> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let words = bare_words(text);
    // A number as long as the word stands in for it, so that places in errors are those of the text.
    let mut checked = text.to_owned();
    for &(at, word) in words.iter().rev() {
        checked.replace_range(at..at + word.len(), &word.replace(char::is_alphabetic, "1"));
    }
    match serde_json::from_str::<Value>(&checked).map_err(refused)? {
        Value::Object(object) if words.is_empty() => Ok(object),
        Value::Object(_) => {
            let mut json = text.to_owned();
            for &(at, word) in words.iter().rev() {
                json.replace_range(at..at + word.len(), &format!(r#"{{"__float__":"{word}"}}"#));
            }
            serde_json::from_str(&json).map_err(refused)
        }
        other => {
            let reason = format!("{} was found where an object was expected", kind(&other));
            Err(Error::Config { line: 1, column: 1, reason })
        }
    }
}

/// Makes numbers whole that have no fraction: `2.0` as Python's floats and JavaScript's numbers may be written is a
/// count as good as `2`.
pub fn make_whole(value: &mut Value) {
    match value {
        Value::Number(number) => {
            if let Some(float) = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 9e15) {
                *value = (float as i64).into();
            }
        }
        Value::Array(values) => values.iter_mut().for_each(make_whole),
        Value::Object(map) => map.values_mut().for_each(make_whole),
        _ => {}
    }
}

fn with_whole_numbers(mut object: Map<String, Value>) -> Map<String, Value> {
    object.values_mut().for_each(make_whole);
    object
}

/// The bare words outside strings that stand where a value may, with their places in bytes.
fn bare_words(text: &str) -> Vec<(usize, &'static str)> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at = after_string(bytes, at),
            b'-' | b'I' | b'N' => {
                let word = ["-Infinity", "Infinity", "NaN"].into_iter().find(|word| {
                    let end = at + word.len();
                    let apart = |byte: Option<&u8>| byte.is_none_or(|byte| b" \t\r\n,:[]{}".contains(byte));
                    bytes[at..].starts_with(word.as_bytes())
                        && apart(bytes.get(end))
                        && apart(at.checked_sub(1).and_then(|before| bytes.get(before)))
                });
                found.extend(word.map(|word| (at, word)));
                at += word.map_or(1, str::len);
            }
            _ => at += 1,
        }
    }
    found
}

/// The place after the string that begins at a place.
fn after_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn refused(error: serde_json::Error) -> Error {
    let (line, column) = (error.line(), error.column());
    // The place is told once, in our words.
    let reason = error.to_string().replace(&format!(" at line {line} column {column}"), "");
    Error::Config { line, column, reason }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Value {
        read_config(text).unwrap().into()
    }

    fn place(text: &str) -> (usize, usize, String) {
        match read_config(text) {
            Err(Error::Config { line, column, reason }) => (line, column, reason),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn bare_words_become_objects() {
        let word = |word: &str| json!({ "__float__": word });
        assert_eq!(
            read("{\"time_step_limit\": [0.0, Infinity], \"a\":-Infinity,\"b\" : NaN}"),
            json!({ "time_step_limit": [0, word("Infinity")], "a": word("-Infinity"), "b": word("NaN") })
        );
        assert_eq!(read("{\"a\":\tInfinity\r\n}"), json!({ "a": word("Infinity") }));
        assert_eq!(read("{\"a\": [NaN,NaN,[-Infinity]]}")["a"][2][0], word("-Infinity"));
    }

    #[test]
    fn strings_and_the_form_of_transformers_5_stay_as_they_are() {
        for text in [
            r#"{"Infinity": "NaN", "b": "[Infinity, \"NaN, \\", "c": "\\"}"#,
            r#"{"time_step_limit": [0, {"__float__": "Infinity"}], "é": "😀 -Infinity"}"#,
        ] {
            assert_eq!(read(text), serde_json::from_str::<Value>(text).unwrap());
        }
    }

    #[test]
    fn a_byte_order_mark_is_skipped_and_whole_numbers_are_whole() {
        assert_eq!(
            read("\u{feff}{\"expand\": 2.0, \"eps\": 1e-5, \"n\": 1e3, \"big\": 9007199254740993}"),
            json!({ "expand": 2, "eps": 1e-5, "n": 1000, "big": 9007199254740993_u64 })
        );
    }

    #[test]
    fn what_is_no_object_is_refused_with_its_place() {
        assert_eq!(place("[1]"), (1, 1, "a list was found where an object was expected".into()));
        assert_eq!(place("Infinity").2, "a number was found where an object was expected");
        // The word before it does not move the place.
        let (line, column, reason) = place("{\n  \"a\": [Infinity, Infinity], \"b\": }");
        assert_eq!((line, column, reason.as_str()), (2, 35, "expected value"));
        for text in [
            "",
            "{",
            "{\"a\": 1Infinity}",
            "{\"a\": Infinity1}",
            "{\"a\": -NaN}",
            "{\"a\": +Infinity}",
            "{NaN: 1}",
        ] {
            assert!(!place(text).2.contains("line"), "{text}");
        }
        assert!(read_config("{\"a\": \"Infinity").is_err());
        assert!(read_config("{\"a\": \"\\").is_err());
    }
}
