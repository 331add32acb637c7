//! Marks of a calibration text, by which it is known again: what was fitted to a text looks better on it than it is.
//!
//! They travel in the produced file. A mark is a hash of the beginning of a window that was read; nothing of the text can be
//! read from it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use statepress_core::Finding;
use statepress_core::words::counted;

use crate::EngineError;

/// The metadata key.
const KEY: &str = "calibration";

/// Tokens of a mark, where windows have as many: long enough to be in no other text.
const TOKENS: usize = 64;

/// Shorter stretches stand in many texts: of windows with fewer tokens there are no marks.
const LEAST: usize = 16;

/// The most marks; of more windows those evenly spaced.
const MOST: usize = 64;

/// What the hash multiplies by: Knuth's for 64 bits.
const FACTOR: u64 = 6_364_136_223_846_793_005;

/// The highest bits of a hash, which all tokens have a part in; so many are whole numbers to every reader of JSON.
const BITS: u32 = 53;

/// Marks of a text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Marks {
    /// Tokens of each.
    tokens: usize,
    /// In order.
    marks: Vec<u64>,
    /// A hash of the whole text; files of before have none.
    #[serde(default)]
    text: Option<u64>,
}

impl Marks {
    /// Of windows of equal length of a text; nothing where they are too short to be known again.
    pub fn of(windows: &[Vec<u32>], text: &[u32]) -> Option<Self> {
        let tokens = windows.first().map_or(0, Vec::len).min(TOKENS);
        if tokens < LEAST {
            return None;
        }
        let step = windows.len().div_ceil(MOST).max(1);
        let begins = windows.iter().step_by(step).map(|window| &window[..tokens]);
        let mut marks: Vec<u64> = begins.map(hash).collect();
        marks.sort_unstable();
        marks.dedup();
        Some(Self { tokens, marks, text: Some(hash(text)) })
    }

    /// Refuses the text itself to judge by.
    ///
    /// # Errors
    /// Where `ids` are all of the text and no more.
    pub fn check_other(&self, ids: &[u32]) -> Result<(), EngineError> {
        if self.text != Some(hash(ids)) {
            return Ok(());
        }
        let message = "the weights were fitted to this very text, on which the model looks better than it is: judge it by another text";
        Err(EngineError::Ids(message.into()))
    }

    /// What a file says of it; nothing if that is no mark of ours, as the key is free.
    pub fn read(metadata: &BTreeMap<String, String>) -> Option<Self> {
        serde_json::from_str(metadata.get(KEY)?).ok().filter(|it: &Self| it.tokens >= LEAST)
    }

    /// Says it in the metadata of a file.
    pub fn write(&self, metadata: &mut BTreeMap<String, String>) {
        if let Ok(json) = serde_json::to_string(self) {
            metadata.insert(KEY.into(), json);
        }
    }

    /// Warns if the text, or a part of it, is among `ids`.
    pub fn told(&self, ids: &[u32]) -> Option<Finding> {
        let found = self.found(ids);
        let message = format!(
            "the weights were fitted to passages of this text: it has {found} of the {} that were marked, and on it \
             the model looks better than it is; judge it on another text",
            counted(self.marks.len(), "stretch", "stretches")
        );
        (found > 0).then(|| Finding::warning("calibration-text", message))
    }

    /// How many marks are among `ids`, wherever they begin.
    fn found(&self, ids: &[u32]) -> usize {
        if ids.len() < self.tokens {
            return 0;
        }
        // A hash is rolled along: the token that falls out was multiplied once for each behind it.
        let first = (1..self.tokens).fold(1u64, |power, _| power.wrapping_mul(FACTOR));
        let mut found = vec![false; self.marks.len()];
        let mut hash = ids[..self.tokens - 1].iter().fold(0, extended);
        for (at, id) in ids[self.tokens - 1..].iter().enumerate() {
            hash = extended(hash, id);
            if let Ok(mark) = self.marks.binary_search(&shortened(hash)) {
                found[mark] = true;
            }
            hash = hash.wrapping_sub(term(ids[at]).wrapping_mul(first));
        }
        found.into_iter().filter(|found| *found).count()
    }
}

/// A token in a hash; none is 0, which would leave no trace at the beginning.
fn term(id: u32) -> u64 {
    u64::from(id) + 1
}

fn extended(hash: u64, id: &u32) -> u64 {
    hash.wrapping_mul(FACTOR).wrapping_add(term(*id))
}

fn shortened(hash: u64) -> u64 {
    hash >> (u64::BITS - BITS)
}

fn hash(ids: &[u32]) -> u64 {
    shortened(ids.iter().fold(0, extended))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(n: u32, seed: u32) -> Vec<u32> {
        let mixed = |i: u32| (i + 100_003 * seed).wrapping_mul(2_654_435_761);
        (0..n).map(|i| (mixed(i) ^ mixed(i) >> 15) % 997).collect()
    }

    #[test]
    fn windows_are_found_wherever_they_begin_and_in_no_other_text() {
        let read = text(4000, 3);
        let windows: Vec<Vec<u32>> = read.chunks_exact(200).map(<[u32]>::to_vec).collect();
        let marks = Marks::of(&windows, &read).unwrap();
        assert_eq!((marks.tokens, marks.marks.len()), (64, 20));
        let refused = marks.check_other(&read).unwrap_err().to_string();
        assert!(refused.contains("judge it by another text"), "{refused}");
        for other in [&read[1..], &read[..3999], &text(4000, 5), &[]] {
            marks.check_other(other).unwrap();
        }
        assert_eq!(marks.found(&read), 20);
        assert_eq!(marks.found(&read[1..]), 19);
        assert_eq!(marks.found(&read[3800..3864]), 1, "just one");
        assert_eq!(marks.found(&read[3800..3863]), 0, "a token less");
        assert_eq!(marks.found(&[&text(777, 5), &read[400..500], &text(333, 7)].concat()), 1);
        assert_eq!(marks.found(&text(4000, 5)), 0);
        assert_eq!(marks.found(&[]), 0);
        assert!(marks.told(&read).is_some_and(|it| it.message.contains("20 of the 20 stretches")));
        assert!(marks.told(&text(4000, 5)).is_none());
    }

    #[test]
    fn a_file_says_them_in_a_few_bytes_that_every_reader_of_json_reads() {
        let text = text(16000, 3);
        let windows: Vec<Vec<u32>> = text.chunks_exact(16).map(<[u32]>::to_vec).collect();
        let marks = Marks::of(&windows, &text).unwrap();
        assert!(marks.tokens == 16 && marks.marks.len() <= MOST, "{marks:?}");
        assert!(marks.marks.iter().chain(&marks.text).all(|mark| *mark < 1 << 53));
        let mut metadata = BTreeMap::new();
        marks.write(&mut metadata);
        assert_eq!(Marks::read(&metadata), Some(marks));
        // Files of before do not know the whole text, which refuses nothing.
        metadata.insert(KEY.into(), r#"{"tokens":16,"marks":[1,2]}"#.into());
        Marks::read(&metadata).unwrap().check_other(&text).unwrap();
        for other in ["{}", "", r#"{"tokens":-1,"marks":[]}"#, r#"{"tokens":1,"marks":[1]}"#, r#""wikitext""#]
        {
            let metadata = BTreeMap::from([(KEY.to_string(), other.to_string())]);
            assert_eq!(Marks::read(&metadata), None, "{other}");
        }
    }

    #[test]
    fn stretches_that_stand_in_many_texts_are_no_marks() {
        assert_eq!(Marks::of(&[vec![1; 15]], &[1; 15]), None);
        assert_eq!(Marks::of(&[], &[]), None);
    }
}
