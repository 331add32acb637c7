//! Mutations that know the formats: opcodes, arguments and strings of pickles, numbers of headers, records of archives.

use fastrand::Rng;

use crate::corpus::archive;

/// Every opcode, most often where a byte of a pickle is replaced.
const OPCODES: &[u8] = b"(.012FIJKMNPQRSTUVXabcdeghijlopqrstu]})CB\x80\x81\x82\x83\x84\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8d\x8e\x8f\x90\x91\x92\x93\x94\x95\x96\x97\x98";

/// Globals that the reader understands, and some that it does not.
const GLOBALS: [&[u8]; 12] = [
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ctorch._utils\n_rebuild_tensor_v3\n",
    b"ctorch._utils\n_rebuild_qtensor\n",
    b"ctorch._utils\n_rebuild_parameter\n",
    b"ctorch._utils\n_rebuild_parameter_with_state\n",
    b"ctorch._utils\n_rebuild_sparse_tensor\n",
    b"ctorch._tensor\n_rebuild_from_type_v2\n",
    b"ccollections\nOrderedDict\n",
    b"c_codecs\nencode\n",
    b"ctorch\nComplexFloatStorage\n",
    b"cos\nsystem\n",
    b"ctorch\nuint16\n",
];

/// Words that JSON headers are made of.
const WORDS: [&[u8]; 10] = [
    b"18446744073709551615",
    b"-1",
    b"null",
    b"1e308",
    b"[]",
    b"{}",
    b"\"__metadata__\":",
    b"\"BF16\"",
    b"4294967296",
    b"\"\\ud800\"",
];

/// Values of lengths and offsets that are off by one, or by everything.
const NUMBERS: [u64; 10] =
    [0, 1, 0x7f, 0x80, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 0x7fff_ffff_ffff_ffff, u64::MAX];

/// A file of the corpus, mutated a few times.
pub(crate) fn mutated<'a>(corpus: &'a [(String, Vec<u8>)], random: &mut Rng) -> (&'a str, Vec<u8>) {
    let (name, seed) = &corpus[random.usize(..corpus.len())];
    if random.u8(..) < 24 {
        return (name, archive(&opcodes(random)));
    }
    let mut bytes = seed.clone();
    let times = 1 << random.usize(..5);
    for _ in 0..times {
        let Some(at) = place(&bytes, random) else { break };
        once(&mut bytes, at, corpus, random);
    }
    (name, bytes)
}

/// A pickle of opcodes in any order, with short arguments.
fn opcodes(random: &mut Rng) -> Vec<u8> {
    let mut out = vec![0x80, 2];
    for _ in 0..random.usize(..400) {
        match random.u8(..8) {
            0 => out.extend(GLOBALS[random.usize(..GLOBALS.len())]),
            1 => out.extend([b'K', random.u8(..8)]),
            2 => out.extend([b'q', random.u8(..8)]),
            3 => out.extend([b'h', random.u8(..8)]),
            4 => out.extend(b"X\x01\0\0\0a"),
            5 => out
                .extend([b'(', b']', b'}', b')', b'N', b't', b'R', b'b', b'u', b'e'].get(random.usize(..10))),
            _ => out.push(OPCODES[random.usize(..OPCODES.len())]),
        }
    }
    out.push(b'.');
    out
}

/// Where to mutate: headers and pickles are at the start, directories at the end, numbers everywhere.
fn place(bytes: &[u8], random: &mut Rng) -> Option<usize> {
    let len = bytes.len();
    let at = match random.u8(..8) {
        0 => random.usize(..len.max(1)),
        1..=5 => random.usize(..len.clamp(1, 4_000)),
        _ => len.saturating_sub(1 + random.usize(..len.clamp(1, 2_000))),
    };
    (at < len).then_some(at)
}

/// One mutation.
fn once(bytes: &mut Vec<u8>, at: usize, corpus: &[(String, Vec<u8>)], random: &mut Rng) {
    let len = bytes.len();
    let piece = |bytes: &[u8], random: &mut Rng| {
        let from = random.usize(..bytes.len().max(1)).min(bytes.len());
        let to = (from + random.usize(..64)).min(bytes.len());
        bytes[from..to].to_vec()
    };
    match random.u8(..12) {
        0 => bytes[at] ^= 1 << random.u8(..8),
        1 => bytes[at] = random.u8(..),
        2 => bytes[at] = OPCODES[random.usize(..OPCODES.len())],
        3 => {
            let width = [1, 2, 4, 8][random.usize(..4)].min(len - at);
            let number = NUMBERS[random.usize(..NUMBERS.len())].to_le_bytes();
            bytes[at..at + width].copy_from_slice(&number[..width]);
        }
        4 => bytes.truncate(at),
        5 => {
            bytes.drain(at..(at + 1 + random.usize(..16)).min(len));
        }
        6 => {
            let same = piece(bytes, random);
            bytes.splice(at..at, same);
        }
        7 => {
            let other = piece(&corpus[random.usize(..corpus.len())].1, random);
            bytes.splice(at..at, other);
        }
        8 => {
            bytes.splice(at..at, GLOBALS[random.usize(..GLOBALS.len())].iter().copied());
        }
        9 => {
            bytes.splice(at..at, WORDS[random.usize(..WORDS.len())].iter().copied());
        }
        10 => {
            // The same opcode many times: stacks, marks and memos grow.
            let again = vec![OPCODES[random.usize(..OPCODES.len())]; random.usize(..4_000)];
            bytes.splice(at..at, again);
        }
        _ => bytes.extend(vec![random.u8(..); random.usize(..200)]),
    }
}
