//! Rows in classes, each in a precision of its own: bytes, values, products and files, held against the gathered rows of each
//! class coded plainly. The same bodies run natively and in wasm.

use std::collections::BTreeMap;

use statepress_core::encoding::{Granularity, ScaleType};
use statepress_core::{Encoding, Form, Grid, Packed, Tensor};
use statepress_formats::{TensorSpec, Writer, open, read_tensor};
use statepress_kernels::codecs::{self, Clip};
use statepress_kernels::linear::{self, Scratch, Weights};
use statepress_tests::test;

fn random(n: usize, rng: &mut fastrand::Rng) -> Vec<f32> {
    (0..n).map(|_| (0..4).map(|_| rng.f32() - 0.5).sum::<f32>()).collect()
}

/// Classes of as many kinds as there are.
fn encodings() -> Vec<Vec<Encoding>> {
    let lm = |grid| Encoding::grouped(grid, 64, ScaleType::Log8);
    let int8 = Encoding::int8(Granularity::Row);
    vec![
        vec![Encoding::Fp16, int8],
        vec![lm(Grid::Int6), Encoding::nf4(64, ScaleType::Double), lm(Grid::Lm3), lm(Grid::Lm2)],
        vec![Encoding::Fp32, Encoding::Bf16, Encoding::int4(8, ScaleType::Fp16)],
        vec![
            int8,
            int8,
            lm(Grid::Int5),
            lm(Grid::Int5),
            lm(Grid::Int3),
            lm(Grid::Int2),
            Encoding::Fp16,
            int8,
        ],
    ]
}

/// A matrix, its tensor, the tensor of each class by itself, and the class of each row.
struct Case {
    shape: [usize; 2],
    tensor: Tensor,
    parts: Vec<Tensor>,
    of_rows: Vec<u8>,
}

fn case(rows: usize, cols: usize, encodings: &[Encoding], rng: &mut fastrand::Rng) -> Case {
    let values = random(rows * cols, rng);
    // Every class has a row, and which have how many is by chance.
    let mut of_rows: Vec<u8> = (0..rows)
        .map(|row| if row < encodings.len() { row as u8 } else { rng.u8(0..encodings.len() as u8) })
        .collect();
    rng.shuffle(&mut of_rows);
    let part = |(class, &encoding): (usize, &Encoding)| {
        let gathered: Vec<f32> = values
            .chunks(cols)
            .zip(&of_rows)
            .filter(|(_, of)| usize::from(**of) == class)
            .flat_map(|(row, _)| row.to_vec())
            .collect();
        codecs::encode(&gathered, &[gathered.len() / cols, cols], encoding, Clip::Absmax).unwrap().tensor
    };
    let parts: Vec<Tensor> = encodings.iter().enumerate().map(part).collect();
    let tensor = codecs::rows::join(&[rows, cols], parts.clone(), &of_rows).unwrap();
    Case { shape: [rows, cols], tensor, parts, of_rows }
}

impl Case {
    /// The numbers of every row, by the tensors of the classes alone.
    fn numbers(&self) -> Vec<f32> {
        let decoded: Vec<_> = self.parts.iter().map(codecs::decode).collect();
        let mut rows: Vec<_> = decoded.iter().map(|values| values.chunks(self.shape[1])).collect();
        self.of_rows.iter().flat_map(|&class| rows[usize::from(class)].next().unwrap().to_vec()).collect()
    }
}

fn cases() -> Vec<Case> {
    let mut rng = fastrand::Rng::with_seed(5);
    let mut cases = Vec::new();
    for encodings in encodings() {
        for (rows, cols) in [(9, 8), (41, 24), (100, 64), (23, 136)] {
            cases.push(case(rows, cols, &encodings, &mut rng));
        }
    }
    cases
}

#[test]
fn values_and_bytes_are_those_of_the_rows_of_each_class() {
    for case in cases() {
        let Case { shape: [rows, cols], tensor, parts, .. } = &case;
        let expected = case.numbers();
        assert_eq!(codecs::decode(tensor), expected);
        let mut some = vec![f32::NAN; 2 * cols + 3];
        codecs::decode_range(tensor, cols + 2, &mut some);
        assert_eq!(some, expected[cols + 2..][..some.len()], "a range that begins and ends within rows");
        let bits = usize::BITS - (parts.len() - 1).leading_zeros();
        let index = (rows * bits as usize).div_ceil(8) as u64;
        assert_eq!(tensor.bytes(), index + parts.iter().map(Tensor::bytes).sum::<u64>());
    }
}

#[test]
fn products_are_those_of_each_class() {
    let mut rng = fastrand::Rng::with_seed(6);
    for case in cases() {
        let [rows, cols] = case.shape;
        let (weights, numbers) = (Weights::new(case.tensor.clone()).unwrap(), case.numbers());
        let parts: Vec<_> = case.parts.iter().map(|part| Weights::new(part.clone()).unwrap()).collect();
        for (tokens, exact, wanted) in
            [(1, false, rows), (1, true, rows), (1, false, 7), (5, false, rows), (6, false, 3)]
        {
            let mut scratch = Scratch::default();
            scratch.exact = exact;
            let x = random(tokens * cols, &mut rng);
            let mut found = vec![f32::NAN; tokens * wanted];
            linear::linear(&weights, &x, &mut found, &mut scratch);
            let mut sums = Vec::new();
            for part in &parts {
                let mut out = vec![f32::NAN; tokens * part.rows()];
                linear::linear(part, &x, &mut out, &mut scratch);
                sums.push(out);
            }
            let mut next = vec![0; parts.len()];
            for (row, &class) in case.of_rows.iter().enumerate() {
                let (class, at) = (usize::from(class), next[usize::from(class)]);
                next[class] += 1;
                for t in 0..tokens {
                    let expected = sums[class][t * parts[class].rows() + at];
                    assert!(row >= wanted || found[t * wanted + row] == expected, "row {row} of token {t}");
                }
            }
        }
        let mut row = vec![f32::NAN; cols];
        for at in 0..rows {
            weights.row(at, &mut row);
            assert_eq!(row, numbers[at * cols..][..cols], "row {at}");
        }
    }
}

#[test]
fn rows_of_inputs_are_added_up() {
    let mut rng = fastrand::Rng::with_seed(7);
    for case in cases() {
        let [inputs, outputs] = case.shape;
        let (weights, numbers) = (Weights::transposed(case.tensor.clone()).unwrap(), case.numbers());
        assert_eq!((weights.rows(), weights.cols()), (outputs, inputs));
        for tokens in [1, 4] {
            let x = random(tokens * inputs, &mut rng);
            let mut scratch = Scratch::default();
            scratch.exact = true;
            let mut found = vec![f32::NAN; tokens * outputs];
            linear::linear(&weights, &x, &mut found, &mut scratch);
            for (at, found) in found.iter().enumerate() {
                let (t, out) = (at / outputs, at % outputs);
                let terms =
                    (0..inputs).map(|i| f64::from(x[t * inputs + i]) * f64::from(numbers[i * outputs + out]));
                let expected: f64 = terms.sum();
                assert!((f64::from(*found) - expected).abs() < 1e-4, "{found} for {expected}");
            }
        }
    }
}

/// A file of one tensor.
fn file(tensor: &Tensor) -> Vec<u8> {
    let (shape, form) = (tensor.shape.clone(), Form::Coded(tensor.encoding()));
    let spec = TensorSpec { name: "w".into(), shape, form, coded: false };
    let mut writer = Writer::new(Vec::new(), &[spec], &BTreeMap::new()).unwrap();
    assert_eq!(writer.write("w", tensor).unwrap(), tensor.bytes());
    writer.finish().unwrap().0
}

fn read(file: &[u8]) -> Result<Tensor, String> {
    let file = file.to_vec();
    let index = open(&file).map_err(|error| error.to_string())?;
    assert_eq!(index.tensors.len(), 1);
    read_tensor(&file, &index.tensors[0]).map_err(|error| error.to_string())
}

#[test]
fn files_come_back_as_they_were_written() {
    for case in cases() {
        assert_eq!(read(&file(&case.tensor)).unwrap(), case.tensor);
    }
}

/// The same file with something else in its header, of whatever length.
fn changed(file: &[u8], from: &str, to: &str) -> Vec<u8> {
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header = std::str::from_utf8(&file[8..8 + length]).unwrap();
    assert!(header.contains(from), "{header}");
    let header = header.replacen(from, to, 1);
    let mut changed = (header.len() as u64).to_le_bytes().to_vec();
    changed.extend(header.as_bytes());
    changed.extend(&file[8 + length..]);
    changed
}

#[test]
fn files_that_lie_are_refused_with_the_tensor() {
    let mut rng = fastrand::Rng::with_seed(8);
    let encodings = [Encoding::Fp16, Encoding::int8(Granularity::Row), Encoding::Bf16];
    let Case { tensor, of_rows, .. } = case(24, 8, &encodings, &mut rng);
    let file = file(&tensor);
    let Packed::Rows(rows) = &tensor.data else { panic!("rows") };
    let counts: Vec<_> = rows.parts().iter().map(|part| part.matrix().0).collect();
    let count = |class: usize, rows: usize| {
        format!(r#"\"count\":{rows},\"precision\":\"{}"#, ["fp16", "int8", "bf16"][class])
    };
    for (from, to, why) in [
        (count(0, counts[0]), count(0, counts[0] + 1), "25 rows in all, where it has 24"),
        (count(0, counts[0]), count(0, usize::MAX), "rows in all, where it has 24"),
        (count(0, counts[0]), count(0, 0), "class 0 of its rows is of no row"),
        (
            count(0, counts[0]),
            format!(r#"\"rows\":[{{{}\"}}],{}"#, count(0, 1), count(0, counts[0])),
            "one of them",
        ),
        (count(2, counts[2]), r#"\"precision\":\"bf16"#.into(), "`rows` 2 needs `count`"),
        (count(2, counts[2]), format!(r#"\"group\":8,{}"#, count(2, counts[2])), "no groups"),
        (r#"\"rows\":["#.into(), r#"\"coded\":true,\"rows\":["#.into(), "no codes that are `coded`"),
        (r#""w.1.scale""#.into(), r#""w.9.scale""#.into(), "`w.1.scale` is missing"),
        (r#""w.2":{"dtype":"BF16""#.into(), r#""w.2":{"dtype":"F16""#.into(), "`w.2` is F16"),
        (r#"\"shape\":[24,8]"#.into(), r#"\"shape\":[3,8,8]"#.into(), "only matrices"),
    ] {
        let error = read(&changed(&file, &from, &to)).unwrap_err();
        assert!(error.contains('w') && error.contains(why), "{to}: {error}");
    }
    // What lies in the data shows when the tensor is read.
    let data = 8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let (first, second) = (of_rows[0], of_rows.iter().find(|class| **class != of_rows[0]).unwrap());
    for (class, why) in [(3, "row 0 is of class 3, where there are 3"), (*second, "more rows than")] {
        let mut file = file.clone();
        assert_eq!(file[data] >> 6, first);
        file[data] = file[data] & 0x3f | class << 6;
        let error = read(&file).unwrap_err();
        assert!(error.contains("tensor `w`") && error.contains(why), "{error}");
    }
}

#[test]
fn classes_in_classes_and_too_few_rows_are_refused() {
    let numbers = Tensor::from_f32(vec![2, 4], vec![1.0; 8]);
    let rows = codecs::rows::join(&[4, 4], vec![numbers.clone(), numbers.clone()], &[0, 0, 1, 1]).unwrap();
    let nested = codecs::rows::join(&[6, 4], vec![rows, numbers.clone()], &[0, 0, 0, 0, 1, 1]);
    assert!(nested.unwrap_err().to_string().contains("has classes itself"));
    for of_rows in [&[0, 0, 1][..], &[0, 0, 0, 1], &[0, 0, 1, 2]] {
        assert!(codecs::rows::join(&[4, 4], vec![numbers.clone(), numbers.clone()], of_rows).is_err());
    }
    let narrow = Tensor::from_f32(vec![2, 3], vec![1.0; 6]);
    assert!(codecs::rows::join(&[4, 4], vec![numbers, narrow], &[0, 0, 1, 1]).is_err());
}
