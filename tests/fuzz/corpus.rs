//! The files that are mutated: fixtures that use every part of the readers, and pickles written by hand.

use std::path::{Path, PathBuf};

use std::collections::BTreeMap;

use statepress_core::{ClassedRows, Codes, Form, Grid, Group, Packed, Scales, Tensor};
use statepress_formats::{TensorSpec, Writer};

use statepress_tests::zip::zip;

/// Folders of fixtures, and the most bytes of a file of theirs that is taken.
const FOLDERS: [&str; 8] = [
    "cases/parts",
    "cases/pickle",
    "cases/quantized",
    "cases/shards",
    "cases/spelling",
    "fixtures",
    "gguf",
    "numpy",
];
const BYTES: u64 = 40_000;

/// Files by name, always in the same order.
pub(crate) fn load() -> Vec<(String, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let mut paths: Vec<PathBuf> = FOLDERS.iter().flat_map(|folder| files(&root.join(folder))).collect();
    paths.sort();
    let read =
        |path: PathBuf| Some((path.file_name()?.to_string_lossy().into_owned(), std::fs::read(path).ok()?));
    let mut corpus: Vec<_> = paths.into_iter().filter_map(read).collect();
    assert!(corpus.len() > 30, "the fixtures are not where they were");
    corpus.extend(opcodes());
    corpus.extend([Grid::Int8, Grid::Nf4, Grid::Lm3].map(coded));
    corpus.push(in_classes());
    corpus
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let small = |path: &PathBuf| path.metadata().is_ok_and(|it| it.is_file() && it.len() <= BYTES);
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries.filter_map(|entry| Some(entry.ok()?.path())).filter(small).collect()
}

/// A file whose tensors of that grid are entropy-coded.
fn coded(grid: Grid) -> (String, Vec<u8>) {
    let mut rng = fastrand::Rng::with_seed(2);
    let mut tensors = Vec::new();
    for (name, rows, cols) in [("a.weight", 24, 32), ("b.weight", 1, 700), ("c.weight", 90, 7)] {
        let n: usize = rows * cols;
        let (group, scales) = match grid {
            Grid::Int8 => (Group::Row, rows),
            _ => (Group::Values(64), n.div_ceil(64)),
        };
        // Few of the codes there are.
        let codes = (0..(n * grid.bits()).div_ceil(8)).map(|_| 0x49 << rng.u32(..2)).collect();
        let codes = Codes { grid, group, codes, scales: Scales::F32(vec![0.25; scales]) };
        tensors.push((name, Tensor { shape: vec![rows, cols], data: Packed::Codes(codes) }));
    }
    let spec = |(name, tensor): &(&str, Tensor)| TensorSpec {
        name: name.to_string(),
        shape: tensor.shape.clone(),
        form: Form::Coded(tensor.encoding()),
        coded: true,
    };
    let specs: Vec<_> = tensors.iter().map(spec).collect();
    let mut writer = Writer::new(Vec::new(), &specs, &BTreeMap::new()).expect("a layout");
    for (name, tensor) in &tensors {
        writer.write(name, tensor).expect("a tensor of the layout");
    }
    assert!(writer.held() < 2000, "nothing was coded");
    (format!("{} entropy-coded", grid.name()), writer.finish().expect("all tensors").0)
}

/// A file with a matrix whose rows are in three classes.
fn in_classes() -> (String, Vec<u8>) {
    let (rows, cols) = (40, 24);
    let of_rows: Vec<u8> = (0..rows).map(|row| (row * row % 7 % 3) as u8).collect();
    let part = |class: u8| {
        let rows = of_rows.iter().filter(|of| **of == class).count();
        let (n, groups) = (rows * cols, (rows * cols).div_ceil(64));
        let codes = |grid: Grid, scales| {
            let codes = vec![0x5a; (n * grid.bits()).div_ceil(8)];
            Packed::Codes(Codes { grid, group: Group::Values(64), codes, scales })
        };
        let nested = vec![0.5; groups.div_ceil(256)];
        let data = match class {
            0 => Packed::F16(vec![0x3800; n]),
            1 => codes(Grid::Nf4, Scales::Double { codes: vec![200; groups], nested, offset: 0.1 }),
            _ => codes(Grid::Lm3, Scales::Log8 { codes: vec![9; groups], unit: 0.5 }),
        };
        Tensor { shape: vec![rows, cols], data }
    };
    let classed = ClassedRows::new([0, 1, 2].map(part).into(), &of_rows).expect("all rows");
    let tensor = Tensor { shape: vec![rows, cols], data: Packed::Rows(classed) };
    let (shape, form) = (tensor.shape.clone(), Form::Coded(tensor.encoding()));
    let spec = TensorSpec { name: "a.weight".into(), shape, form, coded: false };
    let mut writer = Writer::new(Vec::new(), &[spec], &BTreeMap::new()).expect("a layout");
    writer.write("a.weight", &tensor).expect("the tensor of the layout");
    ("rows in classes".into(), writer.finish().expect("all tensors").0)
}

/// Archives whose pickles use the opcodes that no writer of today does.
fn opcodes() -> Vec<(String, Vec<u8>)> {
    let pickles: [&[u8]; 6] = [
        b"(S'a'\np0\nI1\nL5L\nF1.5\nVx\\u20ac\ng0\n(lp1\nI7\na(dp2\nt.",
        b"}(U\x01aT\x01\0\0\0b\x8e\x03\0\0\0\0\0\0\0abc\x96\x02\0\0\0\0\0\0\0xy\x8c\x01c(K\x01K\x02\x91u.",
        b"}(X\x01\0\0\0a(X\x01\0\0\0xim\nC\nX\x01\0\0\0b(cm\nD\nK\x01oX\x01\0\0\0ccm\nE\n)}\x92}bu.",
        b"ccollections\nOrderedDict\n](](U\x01aK\x01e](U\x01bNee\x85R.",
        b"\x80\x04\x95\x20\0\0\0\0\0\0\0}\x94(\x8c\x01m\x8c\x01C\x93)\x81\x94}bK\x01\x8f(K\x01K\x02\x90u.",
        b"}(K\x01\x82\x01X\x01\0\0\0b\x97\x98X\x01\0\0\0cP1\nu.",
    ];
    let named = |(at, pickle): (usize, &&[u8])| (format!("opcodes {at}"), archive(pickle));
    pickles.iter().enumerate().map(named).collect()
}

/// A zip archive with that pickle.
pub(crate) fn archive(pickle: &[u8]) -> Vec<u8> {
    zip(&[("m/data.pkl", pickle), ("m/data/0", &[0; 64])], |_| ())
}
