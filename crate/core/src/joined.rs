//! Several sources as one, end to end: the shards of a checkpoint.

use crate::Source;
use crate::source::{SourceError, check_range};

/// Sources that are read as if they were one. Nothing is copied: a read goes to the source that has the bytes.
pub struct Joined {
    parts: Vec<Part>,
    len: u64,
}

/// One of the sources.
pub struct Part {
    /// What it is called.
    pub name: String,
    /// Where it begins among all bytes.
    pub begin: u64,
    /// The source itself.
    pub source: Box<dyn Source>,
}

impl Joined {
    /// Puts named sources end to end.
    pub fn new(sources: impl IntoIterator<Item = (String, Box<dyn Source>)>) -> Self {
        let mut len = 0u64;
        let parts = sources
            .into_iter()
            .map(|(name, source)| {
                let begin = len;
                len = len.saturating_add(source.len());
                Part { name, begin, source }
            })
            .collect();
        Self { parts, len }
    }

    /// The sources in their order.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }
}

impl Source for Joined {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError> {
        check_range(offset, buffer.len(), self.len)?;
        // The last part that begins at or before the offset; empty ones before it have no bytes to give.
        let first = self.parts.partition_point(|part| part.begin <= offset).saturating_sub(1);
        let (mut at, mut rest) = (offset, buffer);
        for part in &self.parts[first.min(self.parts.len())..] {
            if rest.is_empty() {
                break;
            }
            let within = at - part.begin;
            let count = part.source.len().saturating_sub(within).min(rest.len() as u64) as usize;
            let (now, later) = rest.split_at_mut(count);
            part.source.read_at(within, now).map_err(|error| match error {
                SourceError::Platform(why) => SourceError::Platform(format!("{}: {why}", part.name)),
                other => other,
            })?;
            (at, rest) = (at + count as u64, later);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(parts: &[&[u8]]) -> Joined {
        let boxed = |bytes: &&[u8]| Box::new(bytes.to_vec()) as Box<dyn Source>;
        Joined::new(parts.iter().enumerate().map(|(at, bytes)| (at.to_string(), boxed(bytes))))
    }

    #[test]
    fn every_range_is_that_of_the_bytes_end_to_end() {
        let parts: [&[u8]; 6] = [b"", b"abc", b"", b"", b"d", b"efgh"];
        let (source, all) = (joined(&parts), parts.concat());
        assert_eq!(source.len(), 8);
        for begin in 0..=all.len() {
            for end in begin..=all.len() {
                let mut buffer = vec![0; end - begin];
                source.read_at(begin as u64, &mut buffer).unwrap();
                assert_eq!(buffer, all[begin..end], "{begin}..{end}");
            }
        }
        let begins: Vec<u64> = source.parts().iter().map(|part| part.begin).collect();
        assert_eq!(begins, [0, 0, 3, 3, 3, 4]);
    }

    #[test]
    fn what_lies_outside_is_refused() {
        let outside = |source: &Joined, offset, wanted| {
            matches!(source.read_at(offset, &mut vec![0; wanted]), Err(SourceError::OutOfBounds { .. }))
        };
        assert!(outside(&joined(&[b"ab", b"c"]), 2, 2) && outside(&joined(&[b"ab"]), u64::MAX, 1));
        assert!(outside(&joined(&[]), 0, 1) && joined(&[]).read_at(0, &mut []).is_ok());
    }

    #[test]
    fn a_part_that_fails_is_named() {
        struct Broken;
        impl Source for Broken {
            fn len(&self) -> u64 {
                4
            }
            fn read_at(&self, _: u64, _: &mut [u8]) -> Result<(), SourceError> {
                Err(SourceError::Platform("gone".into()))
            }
        }
        let source = Joined::new([("b.safetensors".into(), Box::new(Broken) as Box<dyn Source>)]);
        let error = source.read_at(0, &mut [0]).unwrap_err();
        assert_eq!(error.to_string(), "b.safetensors: gone");
    }
}
