//! Codes that are entropy-coded in the file: they come back as those that are not, in fewer bytes, and what was damaged is
//! refused by the tensor's name.

use std::collections::BTreeMap;

use statepress::{Calibration, Checkpoint, Job, MemorySink, OpenOptions, Recipe, recipes, report, run};
use statepress_core::encoding::{Coding, ScaleType};
use statepress_core::index::Stored;
use statepress_core::{Codes, Encoding, Form, Grid, Group, Packed, Scales, Tensor};
use statepress_formats::entropy::encode;
use statepress_formats::{TensorSpec, Writer, open as open_index, read_tensor};
use statepress_tests::codes::normal;
use statepress_tests::files::{demo, fixture, open, open_folder};
use statepress_tests::yardstick::recipe;

/// Every grid, and every type of scales that it has.
fn every_coding() -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    for grid in Grid::ALL {
        let options: &[&str] = match grid {
            Grid::Int8 => &["", r#","int8":{"granularity":"tensor"}"#],
            Grid::Int4 => &[r#","int4":{"group":16}"#, r#","int4":{"group":32,"scale":"fp32"}"#],
            Grid::Nf4 => &[
                r#","nf4":{"block":64,"doubleQuant":true}"#,
                r#","nf4":{"block":32,"doubleQuant":false,"absmax":"fp16"}"#,
                r#","nf4":{"block":32,"doubleQuant":false}"#,
            ],
            _ => &[
                r#","groups":{"group":16,"scale":"fp16"}"#,
                r#","groups":{"group":64,"scale":"log8"}"#,
                r#","groups":{"group":256,"scale":"fp32"}"#,
            ],
        };
        all.extend(options.iter().map(|options| (grid.name(), options.to_string())));
    }
    all
}

fn compressed(checkpoint: &Checkpoint, recipe: &Recipe) -> (report::CompressReport, Vec<u8>) {
    let (job, bytes) = checkpoint.compress_to_memory(recipe).unwrap();
    (run(job, |_| {}).unwrap(), bytes.take())
}

/// The same recipe twice: packed, and coded.
fn both(grid: &str, options: &str) -> [Recipe; 2] {
    let rules = [("role:norm", "fp16"), ("*", grid)];
    ["", r#","coded":true"#].map(|coded| recipe(&rules, &format!("{options}{coded}")))
}

fn reopen(bytes: &[u8]) -> Checkpoint {
    Checkpoint::open(bytes.to_vec(), OpenOptions::default()).unwrap()
}

fn tensors(bytes: &[u8]) -> BTreeMap<String, Tensor> {
    let bytes = bytes.to_vec();
    let index = open_index(&bytes).unwrap();
    let read = |entry| read_tensor(&bytes, entry).unwrap();
    index.tensors.iter().map(|entry| (entry.name.clone(), read(entry))).collect()
}

fn logits(bytes: &[u8], ids: &[u32]) -> Vec<f32> {
    let model = reopen(bytes).model().unwrap();
    pollster::block_on(statepress::sequence_logits(&model, ids)).unwrap()
}

fn finding<'a>(report: &'a report::Plan, code: &str) -> Option<&'a statepress::Finding> {
    report.findings.iter().find(|finding| finding.code == code)
}

/// Moe, odd shapes, a transformer with its head apart.
fn checkpoints() -> Vec<(&'static str, Checkpoint)> {
    let of = |name: &'static str| (name, open(&fixture(&format!("fixtures/{name}")), &[]));
    let folder = |name: &'static str| (name, open_folder(&fixture(&format!("families/{name}"))));
    vec![of("il_moe.zip.pt"), of("tf.untied.pt"), folder("mamba-odd"), folder("granite-moe")]
}

#[test]
fn what_is_coded_comes_back_as_what_is_packed() {
    let ids = [1, 5, 2, 9, 3, 3, 7];
    for (name, checkpoint) in checkpoints() {
        let mut coded_tensors = 0;
        for (grid, options) in every_coding() {
            let what = format!("{name}, {grid}{options}");
            let [plain, coded] = both(grid, &options);
            let (plain_report, packed) = compressed(&checkpoint, &plain);
            let (report, streams) = compressed(&checkpoint, &coded);
            let (_, again) = compressed(&checkpoint, &coded);
            assert!(streams == again, "{what}: the same bytes each time");
            assert!(streams.len() <= packed.len(), "{what}: {} against {}", streams.len(), packed.len());
            assert!(tensors(&packed) == tensors(&streams), "{what}: other tensors");
            assert_eq!(logits(&packed, &ids), logits(&streams, &ids), "{what}");

            // Bytes of the report are those of the file, memory is that of packed codes.
            let (before, after) = (plain_report.plan.bytes, report.plan.bytes);
            assert_eq!((before.memory, after.memory), (before.after, before.after), "{what}");
            let inspection = reopen(&streams).inspection();
            assert_eq!((inspection.bytes, inspection.file_bytes), (after.after, report.file_bytes), "{what}");
            assert_eq!(report.file_bytes, streams.len() as u64, "{what}");
            let shares: u64 = report.plan.precisions.iter().map(|share| share.bytes).sum();
            assert_eq!(shares, after.after, "{what}");
            for (tensor, planned) in inspection.tensors.iter().zip(&report.plan.tensors) {
                assert_eq!((&tensor.name, tensor.bytes), (&planned.name, planned.bytes_after), "{what}");
            }
            for (tensor, other) in report.plan.tensors.iter().zip(&plain_report.plan.tensors) {
                assert!(tensor.bytes_after <= other.bytes_after, "{what}: {}", tensor.name);
                assert_eq!(tensor.error, other.error, "{what}: {}", tensor.name);
            }
            let here = inspection.tensors.iter().filter(|tensor| tensor.coded).count();
            let floats = ["fp32", "fp16", "kept"];
            let stored = plain_report.plan.tensors.iter().map(|tensor| tensor.precision.name());
            let quantized = stored.filter(|precision| !floats.contains(precision)).count();
            let packed_still = finding(&report.plan, "not-coded").is_some();
            assert_eq!(here < quantized, packed_still, "{what}: {here} of {quantized} are coded");
            assert!(finding(&plain_report.plan, "not-coded").is_none(), "{what}");
            coded_tensors += here;

            // With the same recipe again nothing changes, and without a recipe neither does.
            for recipe in [coded, recipes::find("none").unwrap()] {
                let (report, third) = compressed(&reopen(&streams), &recipe);
                assert!(finding(&report.plan, "grows").is_none(), "{what}, {} again", recipe.name);
                assert!(tensors(&third) == tensors(&packed), "{what}, {} again", recipe.name);
                assert_eq!(reopen(&third).inspection().bytes, after.after, "{what}, {}", recipe.name);
            }
            let (report, unpacked) = compressed(&reopen(&streams), &plain);
            assert_eq!(finding(&report.plan, "grows").is_some(), here > 0, "{what}");
            assert_eq!(reopen(&unpacked).inspection().bytes, before.after, "{what}: packed again");
        }
        assert!(coded_tensors > 20, "{name}: {coded_tensors} tensors were coded");
    }
}

#[test]
fn a_trained_model_is_smaller_by_what_its_codes_are_less_than_random() {
    let base = open(&demo().join("model.safetensors"), &[]);
    let ids: Vec<u32> = (0..64).map(|i| i * 113 % 8000).collect();
    for (grid, options, most) in [
        ("nf4", "", 0.99),
        ("int4", "", 0.94),
        ("int8", "", 0.92),
        ("lm3", "", 0.97),
        ("int3", r#","groups":{"group":64,"scale":"log8"}"#, 0.85),
    ] {
        let [plain, coded] = both(grid, options);
        let (before, packed) = compressed(&base, &plain);
        let (after, streams) = compressed(&base, &coded);
        println!(
            "{grid}: file {} packed, {} coded; weights {} and {}",
            packed.len(),
            streams.len(),
            before.plan.bytes.after,
            after.plan.bytes.after
        );
        let share = streams.len() as f64 / packed.len() as f64;
        assert!(share < most, "{grid}: {share} of {}", packed.len());
        assert!(tensors(&packed) == tensors(&streams), "{grid}");
        assert_eq!(logits(&packed, &ids), logits(&streams, &ids), "{grid}");
        assert!(after.peak_memory >= streams.len() as u64 / 2, "{grid}: it was held");

        // What is known before: the size in memory, and that it will be less.
        let plan = base.plan(&coded).unwrap();
        assert_eq!((plan.bytes.after, plan.bytes.memory), (before.plan.bytes.after, before.plan.bytes.after));
        assert!(finding(&plan, "coded-smaller").is_some(), "{:?}", plan.findings);
        assert!(finding(&base.plan(&plain).unwrap(), "coded-smaller").is_none());
    }
}

#[test]
fn codes_that_make_up_for_errors_are_coded_alike() {
    let (_, checkpoint) = checkpoints().swap_remove(2);
    let model = checkpoint.model().unwrap();
    let ids: Vec<u32> = (0..600).map(|i| i * 7 % 40).collect();
    let [packed, streams] = both("int8", "").map(|recipe| {
        let sink = MemorySink::default();
        let recipe = recipe.compensated();
        let job = checkpoint
            .compress_calibrated(&recipe, Box::new(sink.clone()), Calibration::new(&model, &ids))
            .unwrap();
        let report = run(job, |_| {}).unwrap();
        assert!(finding(&report.plan, "compensated").is_some());
        sink.take()
    });
    assert!(streams.len() < packed.len(), "{} against {}", streams.len(), packed.len());
    assert!(tensors(&packed) == tensors(&streams));
}

/// A sink that counts how often it is written to.
#[derive(Clone, Default)]
struct Watched(std::rc::Rc<std::cell::Cell<usize>>);

impl statepress::Sink for Watched {
    fn write(&mut self, _: &[u8]) -> Result<(), statepress::SourceError> {
        self.0.set(self.0.get() + 1);
        Ok(())
    }
}

#[test]
fn nothing_is_written_before_all_sizes_are_known() {
    let (_, checkpoint) = checkpoints().swap_remove(0);
    let [plain, coded] = both("nf4", "");
    for (recipe, at_once) in [(plain, true), (coded, false)] {
        let sink = Watched::default();
        let mut job = checkpoint.compress(&recipe, Box::new(sink.clone())).unwrap();
        assert_eq!(sink.0.get() > 0, at_once, "the header");
        while pollster::block_on(job.step()).unwrap().is_some() {}
        assert_eq!(sink.0.get() > 2, at_once);
        job.finish().unwrap();
        assert!(sink.0.get() > 2);
    }
}

/// A file of one tensor, coded.
fn one(codes: Codes, shape: &[usize]) -> Vec<u8> {
    let tensor = Tensor { shape: shape.to_vec(), data: Packed::Codes(codes) };
    let form = Form::Coded(tensor.encoding());
    let spec = TensorSpec { name: "w".into(), shape: shape.to_vec(), form, coded: true };
    let mut writer = Writer::new(Vec::new(), &[spec], &BTreeMap::new()).unwrap();
    writer.write("w", &tensor).unwrap();
    writer.finish().unwrap().0
}

fn int8(shape: &[usize], numbers: &[i16]) -> Codes {
    let codes = numbers.iter().map(|&number| number as u8).collect();
    let scales = Scales::F32(vec![0.5; shape[0]]);
    Codes { grid: Grid::Int8, group: Group::Row, codes, scales }
}

/// A file of any header, stream and arrays behind it.
fn forged(shape: &[usize], stream: &[u8], encoding: &str, codes: &str) -> Vec<u8> {
    let end = stream.len();
    let scales = 4 * shape[0];
    let header = format!(
        r#"{{"__metadata__":{{"statepress":"{{\"version\":1,\"tensors\":{{\"w\":{{\"shape\":{shape:?},{encoding}}}}}}}"}},"w":{{"dtype":{codes},"data_offsets":[0,{end}]}},"w.scale":{{"dtype":"F32","shape":[{}],"data_offsets":[{end},{}]}}}}"#,
        shape[0],
        end + scales
    );
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(stream);
    file.resize(file.len() + scales, 0);
    file
}

const INT8: &str = r#"\"precision\":\"int8\",\"granularity\":\"row\",\"coded\":true"#;

fn read(file: &[u8]) -> Result<Tensor, String> {
    let file = file.to_vec();
    let index = open_index(&file).map_err(|error| error.to_string())?;
    read_tensor(&file, &index.tensors[0]).map_err(|error| error.to_string())
}

#[test]
fn every_damaged_byte_of_a_stream_is_told_with_the_tensor() {
    let shape = [40, 30];
    let numbers = normal(40, 30, 9.0, true);
    let file = one(int8(&shape, &numbers), &shape);
    let index = open_index(&file).unwrap();
    let Stored::Packed { coded: true, parts, .. } = &index.tensors[0].stored else {
        panic!("{:?}", index.tensors[0])
    };
    let (from, len) = (parts[0].offset as usize, parts[0].len as usize);
    for at in from..from + len {
        let mut damaged = file.clone();
        damaged[at] ^= 0x10;
        let error = read(&damaged).unwrap_err();
        assert!(error.starts_with("tensor `w`: malformed entropy-coded stream: "), "{error}");
    }
    // Cut off, it is the file that says so.
    let cut = file[..from + len / 2].to_vec();
    assert!(open_index(&cut).unwrap_err().to_string().contains("cut off"));
}

#[test]
fn a_header_that_lies_about_a_stream_is_refused_before_anything_is_allocated() {
    let stream = encode(&normal(8, 16, 9.0, false), 8, 16).unwrap();
    let len = stream.len();
    let plain = format!(r#""U8","shape":[{len}]"#);
    assert!(read(&forged(&[8, 16], &stream, INT8, &plain)).is_ok());
    let said = |shape: &[usize], stream: &[u8], encoding: &str, codes: &str| {
        read(&forged(shape, stream, encoding, codes)).unwrap_err()
    };
    let other = said(&[16, 8], &stream, INT8, &plain);
    assert!(other.contains("tensor `w`: malformed entropy-coded stream: it is of 8 rows"), "{other}");
    let huge = said(&[8, 1 << 40], &stream, INT8, &plain);
    assert!(huge.starts_with("tensor `w`: 8796093022208 codes are said to be in"), "{huge}");
    let floats = said(&[8, 16], &stream, r#"\"precision\":\"fp16\",\"coded\":true"#, &plain);
    assert!(floats.contains("tensor `w`: fp16 has no codes that are `coded`"), "{floats}");
    let word = said(&[8, 16], &stream, &INT8.replace("true", "1"), &plain);
    assert!(word.contains("its `coded` is a number, not true or false"), "{word}");
    let matrix = format!(r#""I8","shape":[{len}]"#);
    let dtype = said(&[8, 16], &stream, INT8, &matrix);
    assert!(dtype.contains("`w` is I8") && dtype.contains("where U8"), "{dtype}");
    let two = said(&[8, 16], &stream, INT8, &format!(r#""U8","shape":[1,{len}]"#));
    assert!(two.contains("is expected"), "{two}");
    // Not coded, as it says: then the array has to be the packed codes.
    let packed = said(&[8, 16], &stream, &INT8.replace("true", "false"), &plain);
    assert!(packed.contains("where I8 [8, 16] is expected"), "{packed}");

    // One number that eight bits do not hold.
    let mut numbers = vec![3; 128];
    numbers[37] = 128;
    let stream = encode(&numbers, 8, 16).unwrap();
    let outside = said(&[8, 16], &stream, INT8, &format!(r#""U8","shape":[{}]"#, stream.len()));
    assert_eq!(outside, "tensor `w`: row 2 of its codes has 128, which int8 has no code for");
}

#[test]
fn what_would_not_be_smaller_stays_packed() {
    // Nothing to gain, and so much that a reader would not believe it.
    let mut rng = fastrand::Rng::with_seed(3);
    let random: Vec<i16> = (0..1024).map(|_| rng.i16(-128..128)).collect();
    for (shape, numbers) in [([4, 256], random), ([512, 1024], vec![0; 512 * 1024])] {
        let file = one(int8(&shape, &numbers), &shape);
        let index = open_index(&file).unwrap();
        assert_eq!(index.tensors[0].coded_bytes(), 0, "{shape:?}");
        let tensor = read(&file).unwrap();
        assert_eq!(tensor.data, Packed::Codes(int8(&shape, &numbers)), "{shape:?}");
    }
    // A few bytes for many codes are believed up to a thousand of them.
    let shape = [20, 1024];
    let file = one(int8(&shape, &[0; 20 * 1024]), &shape);
    assert!(file.len() < 600, "{}", file.len());
    assert_eq!(read(&file).unwrap().data, Packed::Codes(int8(&shape, &[0; 20 * 1024])));
}

#[test]
fn the_last_byte_of_odd_codes_is_filled_as_packing_fills_it() {
    let shape = [3, 111];
    let n = 333;
    for &grid in Grid::ALL {
        let coding = Coding { grid, group: Group::Values(64), scale: ScaleType::Fp32 };
        if Encoding::Codes(coding).refusal(&shape).is_some() {
            continue;
        }
        let values: Vec<f32> = normal(3, 111, 40.0, false).into_iter().map(f32::from).collect();
        let clip = statepress_kernels::codecs::Clip::Absmax;
        let coded =
            statepress_kernels::codecs::encode(&values, &shape, Encoding::Codes(coding), clip).unwrap();
        let Packed::Codes(codes) = coded.tensor.data else { panic!("{grid:?}") };
        assert_eq!(codes.codes.len(), (n * grid.bits()).div_ceil(8));
        let file = one(codes.clone(), &shape);
        assert_eq!(read(&file).unwrap().data, Packed::Codes(codes), "{grid:?}");
    }
}
