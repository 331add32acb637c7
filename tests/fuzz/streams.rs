//! Entropy-coded streams: what was changed is refused, and a right checksum on anything makes an error or codes, never a
//! panic, and takes no more memory than its size justifies.

use std::panic::{AssertUnwindSafe, catch_unwind};

use fastrand::Rng;
use statepress_formats::entropy::{decode, encode};

/// A matrix and its stream.
struct Stream {
    rows: usize,
    cols: usize,
    codes: Vec<i16>,
    bytes: Vec<u8>,
}

/// Bytes that a decoder may take beside its tables, of which there are at most 64 of 17 KiB.
const BYTES: usize = 2 << 20;

/// Streams that are mutated.
pub(crate) struct Streams(Vec<Stream>);

impl Streams {
    pub(crate) fn load() -> Self {
        let mut rng = Rng::with_seed(1);
        let mut streams = Vec::new();
        for (rows, cols) in [(1, 1), (5, 3), (9, 64), (300, 2), (64, 80), (150, 128)] {
            for (width, spread) in [(1, 1), (3, 4), (5, 1), (8, 3), (16, 7)] {
                let code = |at: usize| {
                    let size = at / cols % spread + at % cols % spread;
                    rng.i16(..) >> (16 - width) >> size.min(15)
                };
                let codes: Vec<i16> = (0..rows * cols).map(code).collect();
                let bytes = encode(&codes, rows, cols).expect("as many codes as the matrix has");
                streams.push(Stream { rows, cols, codes, bytes });
            }
        }
        Self(streams)
    }

    /// Mutates one stream and decodes it.
    pub(crate) fn run(
        &self,
        random: &mut Rng,
        peak: impl FnOnce(&mut dyn FnMut()) -> usize,
    ) -> Result<(), String> {
        let stream = &self.0[random.usize(..self.0.len())];
        let mut bytes = stream.bytes.clone();
        for _ in 0..1 << random.usize(..4) {
            mutate(&mut bytes, &self.0[random.usize(..self.0.len())].bytes, random);
        }
        let (mut rows, mut cols) = (stream.rows, stream.cols);
        let other_shape = random.u8(..16) == 0;
        if other_shape {
            (rows, cols) = (random.usize(..2000), random.usize(..200));
        }
        // Half of them with a right checksum: then what comes behind it is reached.
        let forged = random.bool() && bytes.len() >= 4;
        if forged {
            let end = bytes.len() - 4;
            let crc = crc32(&bytes[..end]).to_le_bytes();
            bytes[end..].copy_from_slice(&crc);
        }
        let mut found = Vec::with_capacity(rows * cols);
        let mut result = None;
        let taken = peak(&mut || {
            let decoded = || decode(&bytes, rows, cols, |_, row| found.extend_from_slice(row));
            result = Some(catch_unwind(AssertUnwindSafe(decoded)));
        });
        if taken > BYTES {
            return Err(format!(
                "decoding {} bytes took {taken} bytes of memory, allowed are {BYTES}",
                bytes.len()
            ));
        }
        let what = format!("a stream of {} x {}, read as {rows} x {cols}", stream.rows, stream.cols);
        match result {
            None | Some(Err(_)) => Err(format!("decoding {what} panicked")),
            Some(Ok(Err(error))) if error.to_string().is_empty() => Err("an error says nothing".into()),
            Some(Ok(Err(error))) if bytes == stream.bytes && (rows, cols) == (stream.rows, stream.cols) => {
                Err(format!("{what} is not changed, but refused: {error}"))
            }
            Some(Ok(Err(_))) => Ok(()),
            Some(Ok(Ok(()))) if found.len() != rows * cols => {
                Err(format!("{what} gave {} codes", found.len()))
            }
            // A short stream can become another one as a whole, by a piece of it.
            Some(Ok(Ok(())))
                if !forged && !self.0.iter().any(|it| it.bytes == bytes && it.codes == found) =>
            {
                Err(format!("{what} gave other codes"))
            }
            Some(Ok(Ok(()))) => Ok(()),
        }
    }
}

/// One mutation: a bit, a byte, a number, or a piece lost, doubled or of another stream.
fn mutate(bytes: &mut Vec<u8>, other: &[u8], random: &mut Rng) {
    if bytes.is_empty() {
        return;
    }
    // Most of them in the header and the tables.
    let at = if random.bool() { random.usize(..bytes.len()) } else { random.usize(..bytes.len().min(80)) };
    let piece = |of: &[u8], random: &mut Rng| {
        let from = random.usize(..of.len());
        of[from..(from + random.usize(..40)).min(of.len())].to_vec()
    };
    match random.u8(..9) {
        0..=2 => bytes[at] ^= 1 << random.u8(..8),
        3 => bytes[at] = random.u8(..),
        4 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.usize(..5)],
        5 => bytes.truncate(at),
        6 => {
            bytes.drain(at..(at + 1 + random.usize(..4)).min(bytes.len()));
        }
        7 => {
            let same = piece(bytes, random);
            bytes.splice(at..at, same);
        }
        _ => {
            let foreign = piece(other, random);
            let end = (at + foreign.len()).min(bytes.len());
            bytes.splice(at..end, foreign);
        }
    }
}

/// Bit by bit: a second one beside the coder's own.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| (crc >> 1) ^ (0xedb8_8320 * (crc & 1));
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}
