//! Reading a range of a source in order, through a window of [`CHUNK_BYTES`].
//!
//! Every length that comes from the file is compared with the bytes that are left before
//! anything is allocated for it.

use statepress_core::Source;
use statepress_core::limits::CHUNK_BYTES;
use statepress_core::words::counted;

use crate::FormatError;

/// A position in a range of a source. All integers are little-endian.
pub(crate) struct Cursor<'a> {
    source: &'a dyn Source,
    what: &'static str,
    begin: u64,
    /// Offset in the source of the byte after `window`.
    next: u64,
    end: u64,
    window: Vec<u8>,
    /// Bytes of the window that have been consumed.
    used: usize,
    /// Whether the range ends because the file does: then what is missing was cut off.
    to_end: bool,
}

impl<'a> Cursor<'a> {
    /// A cursor over `len` bytes from `offset`; `what` names the range in errors.
    pub(crate) fn new(
        source: &'a dyn Source,
        what: &'static str,
        offset: u64,
        len: u64,
    ) -> Result<Self, FormatError> {
        let end = range_end(source, what, offset, len)?;
        Ok(Self {
            source,
            what,
            begin: offset,
            next: offset,
            end,
            window: Vec::new(),
            used: 0,
            to_end: false,
        })
    }

    /// A cursor over at most `limit` bytes from `offset`, of which nobody says where they end.
    pub(crate) fn to_end(
        source: &'a dyn Source,
        what: &'static str,
        offset: u64,
        limit: u64,
    ) -> Result<Self, FormatError> {
        let len = source.len().saturating_sub(offset);
        Ok(Self { to_end: len <= limit, ..Self::new(source, what, offset, len.min(limit))? })
    }

    /// Bytes not consumed yet.
    pub(crate) fn left(&self) -> u64 {
        (self.end - self.next) + (self.window.len() - self.used) as u64
    }

    /// Bytes consumed.
    pub(crate) fn position(&self) -> u64 {
        self.end - self.begin - self.left()
    }

    pub(crate) fn u8(&mut self) -> Result<u8, FormatError> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, FormatError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, FormatError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, FormatError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let mut bytes = [0; N];
        self.need(N as u64)?;
        self.copy(&mut bytes)?;
        Ok(bytes)
    }

    /// The next `len` bytes.
    pub(crate) fn take(&mut self, len: u64) -> Result<Vec<u8>, FormatError> {
        self.need(len)?;
        let mut bytes = zeroed(self.what, len)?;
        self.copy(&mut bytes)?;
        Ok(bytes)
    }

    /// Passes over `len` bytes without reading them.
    pub(crate) fn skip(&mut self, len: u64) -> Result<(), FormatError> {
        self.need(len)?;
        let ready = (self.window.len() - self.used) as u64;
        if len <= ready {
            self.used += len as usize;
        } else {
            self.used = self.window.len();
            self.next += len - ready;
        }
        Ok(())
    }

    /// The bytes up to the next newline, which is consumed and left out.
    pub(crate) fn line(&mut self) -> Result<Vec<u8>, FormatError> {
        let mut line = Vec::new();
        loop {
            match self.u8()? {
                b'\n' => return Ok(line),
                byte => line.push(byte),
            }
        }
    }

    /// Whether `wanted` bytes are left.
    pub(crate) fn need(&self, wanted: u64) -> Result<(), FormatError> {
        if wanted <= self.left() {
            return Ok(());
        }
        if self.to_end {
            let what = format!("{} ends too early", self.what);
            return Err(FormatError::Truncated { what, len: self.source.len() });
        }
        let why = format!(
            "{} announced where {} left",
            counted(wanted, "byte is", "bytes are"),
            counted(self.left(), "is", "are")
        );
        Err(FormatError::malformed(self.what, why))
    }

    /// Fills `to`; the caller has checked that so much is left.
    fn copy(&mut self, mut to: &mut [u8]) -> Result<(), FormatError> {
        while !to.is_empty() {
            if self.used == self.window.len() {
                self.refill()?;
            }
            let ready = &self.window[self.used..];
            let count = ready.len().min(to.len());
            let (head, rest) = to.split_at_mut(count);
            head.copy_from_slice(&ready[..count]);
            self.used += count;
            to = rest;
        }
        Ok(())
    }

    fn refill(&mut self) -> Result<(), FormatError> {
        let len = (self.end - self.next).min(CHUNK_BYTES as u64);
        if len == 0 {
            return Err(FormatError::malformed(self.what, "it ends too early"));
        }
        self.window = read(self.source, self.what, self.next, len)?;
        self.next += len;
        self.used = 0;
        Ok(())
    }
}

/// The end of `len` bytes from `offset`, if the source has them.
pub(crate) fn range_end(source: &dyn Source, what: &str, offset: u64, len: u64) -> Result<u64, FormatError> {
    let end = offset.saturating_add(len);
    if end <= source.len() {
        return Ok(end);
    }
    Err(FormatError::Truncated { what: format!("{what} reaches to byte {end}"), len: source.len() })
}

/// `len` bytes from `offset`.
pub(crate) fn read(source: &dyn Source, what: &str, offset: u64, len: u64) -> Result<Vec<u8>, FormatError> {
    range_end(source, what, offset, len)?;
    let mut bytes = zeroed(what, len)?;
    source.read_at(offset, &mut bytes)?;
    Ok(bytes)
}

/// `len` zeros, or an error where memory has no room for them.
fn zeroed(what: &str, len: u64) -> Result<Vec<u8>, FormatError> {
    let count = usize::try_from(len).unwrap_or(usize::MAX);
    let mut bytes = reserve(what, count)?;
    bytes.resize(count, 0);
    Ok(bytes)
}

/// An empty list with room for `count` values, or an error where memory has none.
pub(crate) fn reserve<T>(what: &str, count: usize) -> Result<Vec<T>, FormatError> {
    let mut list = Vec::new();
    match list.try_reserve_exact(count) {
        Ok(()) => Ok(list),
        Err(_) => Err(FormatError::TooLarge {
            what: format!("{what}: memory for so many values"),
            value: count as u64,
            limit: (isize::MAX as usize / size_of::<T>().max(1)) as u64,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_across_windows_and_stops_at_the_end() {
        let bytes: Vec<u8> = (0..CHUNK_BYTES as u32 + 7).map(|i| i as u8).collect();
        let mut cursor = Cursor::new(&bytes, "range", 1, bytes.len() as u64 - 1).unwrap();
        assert_eq!(cursor.take(CHUNK_BYTES as u64).unwrap(), &bytes[1..=CHUNK_BYTES]);
        assert_eq!(cursor.u16().unwrap().to_le_bytes(), bytes[CHUNK_BYTES + 1..CHUNK_BYTES + 3]);
        assert_eq!(cursor.left(), 4);
        assert!(cursor.u64().unwrap_err().to_string().contains("8 bytes are announced where 4 are left"));
        assert_eq!(cursor.u32().unwrap().to_le_bytes(), bytes[CHUNK_BYTES + 3..]);
        assert_eq!(cursor.u8().unwrap_err().code(), "malformed");
    }

    #[test]
    fn skips_within_and_beyond_the_window() {
        let bytes: Vec<u8> = (0..3 * CHUNK_BYTES).map(|i| (i >> 8) as u8).collect();
        let mut cursor = Cursor::new(&bytes, "range", 0, bytes.len() as u64).unwrap();
        cursor.u8().unwrap();
        cursor.skip(0x1ff).unwrap();
        assert_eq!(cursor.u8().unwrap(), 2);
        cursor.skip(2 * CHUNK_BYTES as u64 - 0x201).unwrap();
        assert_eq!((cursor.position(), cursor.u8().unwrap()), (2 * CHUNK_BYTES as u64, 0));
        assert_eq!(cursor.skip(CHUNK_BYTES as u64).unwrap_err().code(), "malformed");
    }

    #[test]
    fn a_giant_length_allocates_nothing() {
        let bytes = vec![0u8; 16];
        let mut cursor = Cursor::new(&bytes, "range", 0, 16).unwrap();
        assert_eq!(cursor.take(u64::MAX).unwrap_err().code(), "malformed");
        assert_eq!(Cursor::new(&bytes, "range", 8, u64::MAX).err().unwrap().code(), "truncated");
    }
}
