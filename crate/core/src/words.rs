//! The words of a message that depend on a count, or on what a value is.

use std::fmt::Display;

use serde_json::Value;

/// A count and the words for it: `1 token does not fill`, `2 tokens do not fill`.
pub fn counted<N: Display + PartialEq + From<u8>>(count: N, one: &str, more: &str) -> String {
    let words = plural(&count, one, more);
    format!("{count} {words}")
}

/// The words for a count that is written elsewhere: `1 of 3 shards is missing`, `2 of 3 shards are missing`.
pub fn plural<'a, N: PartialEq + From<u8>>(count: &N, one: &'a str, more: &'a str) -> &'a str {
    if *count == N::from(1) { one } else { more }
}

/// What a JSON value is called.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_told_from_all_other_counts() {
        let say = |count: u64| counted(count, "token does not fill", "tokens do not fill");
        assert_eq!(
            [0, 1, 2].map(say),
            ["0 tokens do not fill", "1 token does not fill", "2 tokens do not fill"]
        );
        assert_eq!([0usize, 1, 21].map(|count| plural(&count, "is", "are")), ["are", "is", "are"]);
    }
}
