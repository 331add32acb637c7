//! Where checkpoint bytes come from and where they go.

use std::rc::Rc;

use crate::words::{counted, plural};

/// Random access to the bytes of a file, whatever holds it: a slice, a file descriptor, a
/// browser `File` read through `FileReaderSync`.
pub trait Source {
    /// Bytes in all.
    fn len(&self) -> u64;

    /// Fills `buffer` with the bytes at `offset`. Either all of it is filled, or it fails.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError>;

    /// Whether there are no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Where produced bytes go, in order.
pub trait Sink {
    /// Appends all of `bytes`.
    fn write(&mut self, bytes: &[u8]) -> Result<(), SourceError>;
}

/// Reading or writing failed below us.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// More bytes were asked for than there are.
    #[error("{} at offset {offset} {} outside the {} there {}", counted(*wanted, "byte", "bytes"), plural(wanted, "lies", "lie"), counted(*len, "byte", "bytes"), plural(len, "is", "are"))]
    OutOfBounds {
        /// First byte asked for.
        offset: u64,
        /// Bytes asked for.
        wanted: u64,
        /// Bytes there are.
        len: u64,
    },
    /// The platform refused, in its own words.
    #[error("{0}")]
    Platform(String),
}

/// Whether `wanted` bytes at `offset` are among the `len` there are.
pub fn check_range(offset: u64, wanted: usize, len: u64) -> Result<(), SourceError> {
    let wanted = wanted as u64;
    match offset.checked_add(wanted) {
        Some(end) if end <= len => Ok(()),
        _ => Err(SourceError::OutOfBounds { offset, wanted, len }),
    }
}

impl Source for [u8] {
    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError> {
        check_range(offset, buffer.len(), Source::len(self))?;
        // What lies within a slice is no more than a usize.
        buffer.copy_from_slice(&self[offset as usize..][..buffer.len()]);
        Ok(())
    }
}

impl Source for Vec<u8> {
    fn len(&self) -> u64 {
        Source::len(self.as_slice())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError> {
        self.as_slice().read_at(offset, buffer)
    }
}

impl<S: Source + ?Sized> Source for Rc<S> {
    fn len(&self) -> u64 {
        (**self).len()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError> {
        (**self).read_at(offset, buffer)
    }
}

impl<S: Sink + ?Sized> Sink for Box<S> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SourceError> {
        (**self).write(bytes)
    }
}

impl Sink for Vec<u8> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SourceError> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

impl<S: Sink + ?Sized> Sink for &mut S {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SourceError> {
        (**self).write(bytes)
    }
}
