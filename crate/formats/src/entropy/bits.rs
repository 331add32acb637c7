//! Fields of a few bits, the lowest bit of a byte first.

/// Writes fields behind each other.
#[derive(Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    /// Bits of the last byte that are taken; 0 if none is begun.
    taken: u32,
}

impl BitWriter {
    /// Writes the `width` lowest bits of `value`.
    pub(super) fn put(&mut self, value: u32, width: u32) {
        for bit in 0..width {
            if self.taken == 0 {
                self.bytes.push(0);
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= ((value >> bit & 1) as u8) << self.taken;
            }
            self.taken = (self.taken + 1) % 8;
        }
    }

    /// Writes a length as LEB128: seven bits a time, the lowest first, and whether more follow.
    pub(super) fn put_len(&mut self, len: usize) {
        let mut rest = len;
        while rest >= 128 {
            self.put((rest & 127) as u32 | 128, 8);
            rest >>= 7;
        }
        self.put(rest as u32, 8);
    }

    /// All bytes, the last filled up with zeros.
    pub(super) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// Reads fields; `None` where the bytes end.
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    /// Bits read.
    at: usize,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next `width` bits, at most 32.
    pub(super) fn get(&mut self, width: u32) -> Option<u32> {
        (0..width).try_fold(0, |value, bit| {
            let byte = self.bytes.get(self.at / 8)?;
            let one = u32::from(byte >> (self.at % 8) & 1);
            self.at += 1;
            Some(value | one << bit)
        })
    }

    /// A length as [`BitWriter::put_len`] writes it.
    pub(super) fn get_len(&mut self) -> Option<u64> {
        let mut len = 0;
        for place in 0..9 {
            let byte = self.get(8)?;
            len |= u64::from(byte & 127) << (7 * place);
            if byte & 128 == 0 {
                return Some(len);
            }
        }
        None
    }

    /// Bits that are left.
    pub(super) fn left(&self) -> usize {
        self.bytes.len().saturating_mul(8).saturating_sub(self.at)
    }

    /// The bytes behind the one that was begun, if what is left of that is zeros.
    pub(super) fn finish(mut self) -> Option<&'a [u8]> {
        let fill = (8 - self.at % 8) % 8;
        if self.get(fill as u32)? != 0 {
            return None;
        }
        self.bytes.get(self.at / 8..)
    }
}
