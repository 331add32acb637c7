//! Files that lie: nothing panics, nothing takes long, and every refusal says why.

use std::time::{Duration, Instant};

use statepress_core::{Packed, Source};
use statepress_formats::{FormatError, open, read_tensor};
use statepress_tests::zip::zip;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/fixtures/");

/// Fixtures that use every part of the readers.
const SEEDS: [&str; 7] = [
    "il_ffn.zip.pt",
    "il_ffn.proto4.pt",
    "il_ffn.strided.pt",
    "il_ffn.wrap_config_class.pt",
    "tf.bf16.safetensors",
    "tf.wrap_trainer.pt",
    "il_moe.int8dyn_per_channel.pt",
];

fn file(name: &str) -> Vec<u8> {
    std::fs::read(format!("{FIXTURES}{name}")).unwrap()
}

/// Far more than any of these takes on a busy machine, and far less than what grows too fast would.
const SOON: Duration = Duration::from_secs(20);

/// Opens a file and reads all its tensors; whether it got through.
fn survives(source: &dyn Source) -> bool {
    match open(source) {
        Ok(index) => index.tensors.iter().filter(|entry| read_tensor(source, entry).is_ok()).count() > 0,
        Err(_) => false,
    }
}

#[test]
fn truncated_files_are_refused() {
    for name in SEEDS {
        let bytes = file(name);
        assert!(survives(&bytes), "{name}");
        for len in (0..bytes.len()).step_by(97) {
            let error = open(&bytes[..len].to_vec()).expect_err(name);
            let expected = if len < 16 { "unsupported-format" } else { "truncated" };
            assert!(error.code() == expected || len < 16, "{name} cut to {len}: {error}");
        }
    }
}

#[test]
fn flipped_bits_never_panic_and_never_take_long() {
    // xorshift64, so that a failure can be repeated.
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let mut opened = 0;
    for name in SEEDS {
        let mut bytes = file(name);
        let len = bytes.len();
        for round in 0..600 {
            // Headers and pickles are at the start, zip directories at the end.
            let at = match round % 3 {
                0 => random(len),
                1 => random(len.min(12_000)),
                _ => len - 1 - random(len.min(6_000)),
            };
            let flip = 1 << random(8);
            bytes[at] ^= flip;
            let start = Instant::now();
            opened += u32::from(survives(&bytes));
            assert!(start.elapsed() < SOON, "{name}: byte {at} flipped by {flip}");
            bytes[at] ^= flip;
        }
    }
    assert!(opened > 500, "most flips hit weights: {opened} files were still readable");
}

/// A pickle of `{"a": tensor, "config": <config>}` over storage 0 of `elements` floats.
fn pickle(elements: u8, first: u8, shape: &[u8], strides: &[u8], config: &[u8]) -> Vec<u8> {
    let mut out = b"\x80\x02}(X\x01\0\0\0actorch._utils\n_rebuild_tensor_v2\n((".to_vec();
    out.extend(b"X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK");
    out.extend([elements, b't', b'Q', b'K', first, b'(']);
    out.extend(shape);
    out.extend(b"t(");
    out.extend(strides);
    out.extend(b"t\x89NtRX\x06\0\0\0config");
    out.extend(config);
    out.extend(b"u.");
    out
}

fn archive(pickle: &[u8], storage: &[u8]) -> Vec<u8> {
    zip(&[("m/data.pkl", pickle), ("m/byteorder", b"little"), ("m/data/0", storage)], |_| ())
}

/// The error of a file that must not take long.
fn refusal(source: &dyn Source) -> FormatError {
    let start = Instant::now();
    let error = open(source).unwrap_err();
    assert!(start.elapsed() < SOON, "{error}");
    error
}

#[test]
fn the_crafted_archive_is_sound() {
    let bytes = archive(&pickle(6, 1, b"K\x02K\x02", b"K\x01K\x02", b"}"), &[0; 24]);
    let index = open(&bytes).unwrap();
    assert_eq!(index.tensors[0].shape, [2, 2]);
    let read = read_tensor(&bytes, &index.tensors[0]).unwrap();
    assert_eq!(read.data, Packed::F32(vec![0.0; 4]));
}

#[test]
fn tensors_beyond_their_storage_are_refused() {
    type Case<'a> = (u8, u8, &'a [u8], &'a [u8], &'a str);
    let cases: [Case; 6] = [
        (6, 3, b"K\x02K\x02", b"K\x02K\x01", "reaches past its storage of 6 elements"),
        (7, 0, b"K\x02", b"K\x01", "gives it 7 elements of F32, the archive 24 bytes"),
        (6, 0, b"J\xff\xff\x00\x00M\xff\x01", b"K\x00K\x00", "is more than the limit of"),
        (6, 0, b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7fJ\xff\xff\xff\x7f", b"K\x00K\x00K\x00", "overflows"),
        (6, 0, b"J\xff\xff\xff\xff", b"K\x01", "a tensor without a size"),
        (6, 0, b"K\x01K\x01", b"K\x01", "a tensor of 2 dimensions (limit 8) with 1 strides"),
    ];
    for (elements, first, shape, strides, words) in cases {
        let error = refusal(&archive(&pickle(elements, first, shape, strides, b"N"), &[0; 24]));
        assert!(error.to_string().contains(words), "{error} does not say {words}");
    }
    let missing = zip(&[("m/data.pkl", &pickle(6, 0, b"K\x06", b"K\x01", b"N"))], |_| ());
    assert!(refusal(&missing).to_string().contains("`m/data/0` is missing"));
}

#[test]
fn overlapping_members_are_refused() {
    let tensor = |name: char, key: char, elements: i32| {
        let mut out =
            format!("X\x01\0\0\0{name}ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storage").into_bytes();
        out.extend(format!("ctorch\nFloatStorage\nX\x01\0\0\0{key}X\x03\0\0\0cpuJ").bytes());
        out.extend(elements.to_le_bytes());
        out.extend(b"tQK\0K\x01\x85K\x01\x85\x89NtR");
        out
    };
    // The bytes of storage 0 are the whole member of storage 1, and two more to fill an element.
    let inner = zip(&[("m/data/1", &[0; 40_000])], |_| ());
    let inner = &inner[..30 + 8 + 40_000 + 2];
    let pickle = [b"\x80\x02}(".to_vec(), tensor('a', '0', 10_010), tensor('b', '1', 10_000), b"u.".to_vec()];
    let members: [(&str, &[u8]); 3] =
        [("m/data/0", inner), ("m/data/1", &[]), ("m/data.pkl", &pickle.concat())];
    let bytes = zip(&members, |entry| {
        if entry.ends_with(b"m/data/1") {
            entry[20..24].copy_from_slice(&40_000u32.to_le_bytes());
            entry[24..28].copy_from_slice(&40_000u32.to_le_bytes());
            entry[42..46].copy_from_slice(&38u32.to_le_bytes());
        }
    });
    let error = refusal(&bytes);
    assert!(error.to_string().contains("overlap in the archive: 80040 is more than the limit of"), "{error}");
}

#[test]
fn deep_wide_and_circular_values_are_left_out() {
    let laughs = {
        // A list of two of a list of two of ..., forty times.
        let mut config = b"}(X\x01\0\0\0x]q\0".to_vec();
        for i in 1..40u8 {
            config.extend([b'0', b']', b'(', b'h', i - 1, b'h', i - 1, b'e', b'q', i]);
        }
        config.extend(b"u");
        config
    };
    let deep = {
        let mut config = b"N".to_vec();
        config.extend([0x85; 5000]);
        config
    };
    let circular = b"}q\0(X\x01\0\0\0xh\0u".to_vec();
    for config in [laughs, deep, circular] {
        let bytes = archive(&pickle(6, 0, b"K\x02K\x03", b"K\x03K\x01", &config), &[0; 24]);
        let start = Instant::now();
        let index = open(&bytes).unwrap();
        assert!(start.elapsed() < SOON);
        assert_eq!(index.config, None);
        let [finding] = &index.findings[..] else { panic!("{:?}", index.findings) };
        assert_eq!(finding.code, "metadata-skipped");
    }
}

#[test]
fn what_many_objects_share_is_searched_once() {
    // Objects of a class, each with the one dict of dicts for its state.
    const MANY: u16 = 8000;
    let keys = |out: &mut Vec<u8>, i: u16| out.extend(format!("X\x05\0\0\0{i:05}").as_bytes());
    let mut state = b"}q\0(".to_vec();
    for i in 0..MANY {
        keys(&mut state, i);
        state.extend(b"}");
    }
    state.extend(b"u0cm\nC\nq\x010");
    // The dict and the class are in the memo; what comes now is the value of `config`.
    let mut config = state;
    config.extend(b"}(");
    for i in 0..MANY {
        keys(&mut config, i);
        config.extend(b"h\x01)Rh\0b");
    }
    config.extend(b"u");
    let bytes = archive(&pickle(6, 0, b"K\x02K\x03", b"K\x03K\x01", &config), &[0; 24]);
    let start = Instant::now();
    open(&bytes).unwrap();
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

#[test]
fn giant_lengths_and_counts_are_refused() {
    let state = |config: &[u8]| refusal(&archive(&pickle(6, 0, b"K\x06", b"K\x01", config), &[0; 24]));
    assert!(
        state(b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff").to_string().contains("18446744073709551615 bytes")
    );
    assert!(state(b"B\xff\xff\xff\xff").to_string().contains("4294967295 bytes"));
    assert!(state(b"\x8b\xff\xff\xff\x7f").to_string().contains("2147483647 bytes"));
    assert!(
        state(&[b'('; 2000])
            .to_string()
            .contains("nesting of the pickle: 1025 is more than the limit of 1024")
    );
    let long_key = state(&[b"c".repeat(400), b"\nx\n".to_vec()].concat());
    assert!(long_key.to_string().contains("bytes of the name of a global"), "{long_key}");

    let mut lying = file("il_ffn.zip.pt");
    let end = lying.len() - 22;
    lying[end + 8..end + 12].copy_from_slice(&[0xfe, 0xff, 0xfe, 0xff]);
    assert_eq!(refusal(&lying).code(), "malformed");
    lying[end + 8..end + 12].copy_from_slice(&[1, 0, 1, 0]);
    assert!(refusal(&lying).to_string().contains("bytes after its last entry"));
    // torch writes a zip64 end record and its locator in front of the end record.
    lying[end + 8..end + 20].fill(0xff);
    open(&lying).unwrap();
    lying[end - 12..end - 4].fill(0xff);
    assert_eq!(refusal(&lying).code(), "truncated");
}

#[test]
fn members_that_are_not_stored_plainly_are_refused() {
    let data = pickle(6, 0, b"K\x06", b"K\x01", b"N");
    let members: [(&str, &[u8]); 2] = [("m/data.pkl", &data), ("m/data/0", &[0; 24])];
    let patched = |patch: fn(&mut Vec<u8>)| refusal(&zip(&members, patch)).to_string();
    assert!(patched(|entry| entry[10] = 8).contains("`m/data.pkl` is compressed (method 8)"));
    assert!(patched(|entry| entry[8] = 1).contains("is encrypted"));
    assert!(patched(|entry| entry[24] ^= 1).contains("its two sizes differ"));
    assert!(patched(|entry| entry[42] ^= 4).contains("there is no local header at its offset"));
    assert!(patched(|entry| entry[42..46].fill(0xfe)).contains("cut off"));
    assert!(patched(|entry| entry[20..28].fill(0xff)).contains("has no zip64 field"));
    assert!(patched(|entry| entry[0] = 0).contains("does not begin with its signature"));

    let twice = zip(&[("m/data.pkl", &data), ("m/data.pkl", &data)], |_| ());
    assert!(refusal(&twice).to_string().contains("`m/data.pkl` occurs twice"));
    let two = zip(&[("m/data.pkl", &data), ("n/data.pkl", &data)], |_| ());
    assert!(refusal(&two).to_string().contains("more than one data.pkl"));
    let big = zip(&[("m/data.pkl", &data), ("m/byteorder", b"big")], |_| ());
    assert!(refusal(&big).to_string().contains("byte order of this file is `big`"));
    let script = zip(&[("m/data.pkl", &data), ("m/code/__torch__.py", b"")], |_| ());
    assert!(refusal(&script).to_string().contains("TorchScript"));
    let other = zip(&[("word/document.xml", b"<w/>")], |_| ());
    assert!(refusal(&other).to_string().contains("without a data.pkl"));
}

#[test]
fn zip64_directories_are_read() {
    let data = pickle(6, 0, b"K\x06", b"K\x01", b"N");
    let members: [(&str, &[u8]); 2] = [("m/data.pkl", &data), ("m/data/0", &[7; 24])];
    let mut bytes = zip(&members, |entry| {
        // Both sizes and the offset move to the extra field.
        let wide: Vec<u8> =
            [24, 20, 42].iter().flat_map(|&at| [entry[at..at + 4].to_vec(), vec![0; 4]].concat()).collect();
        entry[20..28].fill(0xff);
        entry[42..46].fill(0xff);
        entry[30] = 28;
        entry.extend([1, 0, 24, 0]);
        entry.extend(wide);
    });
    let end = bytes.split_off(bytes.len() - 22);
    let record_at = bytes.len() as u64;
    let wide = |at: usize| [end[at..at + 4].to_vec(), vec![0; 4]].concat();
    bytes.extend(b"PK\x06\x06");
    bytes.extend([0; 20]);
    bytes.extend([2, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend(wide(12));
    bytes.extend(wide(16));
    bytes.extend(b"PK\x06\x07\0\0\0\0");
    bytes.extend(record_at.to_le_bytes());
    bytes.extend([1, 0, 0, 0]);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend([0xff; 12]);
    bytes.extend([0; 2]);
    let index = open(&bytes).unwrap();
    let read = read_tensor(&bytes, &index.tensors[0]).unwrap();
    assert_eq!(read.data, Packed::F32(vec![f32::from_le_bytes([7; 4]); 6]));
}
