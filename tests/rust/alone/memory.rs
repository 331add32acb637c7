//! Compressing holds one tensor and its codes at a time: measured at the allocator.

use std::fs;
use std::io::Write;
use std::rc::Rc;

use peak_alloc::PeakAlloc;
use statepress::{
    Calibration, Checkpoint, Clock, ExportTarget, FileSource, MemorySink, OpenOptions, PlainOptions, Sink,
    SourceError, recipes, run,
};
use statepress_core::DType;
use statepress_core::limits::BAND_NUMBERS;
use statepress_engine::families::{Hints, infer};
use statepress_engine::techniques::shares::Work;
use statepress_engine::techniques::{self, compress::Compress};
use statepress_tests::files::demo;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Bytes of the largest tensor of the demo model: the embedding table, `[8000, 128]` in FP32.
const LARGEST: usize = 8000 * 128 * 4;

/// What the header, the plan and a chunk of file may take beside tensors.
const BLOCK: usize = 1 << 19;

/// Counts what is written, and keeps nothing.
struct Counter(u64);

impl Sink for Counter {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SourceError> {
        self.0 += bytes.len() as u64;
        Ok(())
    }
}

/// A checkpoint of a single matrix of zeros, three times as large as a band.
fn large(dtype: DType) -> Checkpoint {
    let (rows, cols, name) = (12_288, 4096, dtype.name());
    let bytes = dtype.bytes() * rows * cols;
    let header =
        format!(r#"{{"w":{{"dtype":"{name}","shape":[{rows},{cols}],"data_offsets":[0,{bytes}]}}}}"#);
    let path =
        std::env::temp_dir().join(format!("statepress-large-{name}-{}.safetensors", std::process::id()));
    let mut file = fs::File::create(&path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.set_len(8 + header.len() as u64 + bytes as u64).unwrap();
    let source = FileSource::open(&path).unwrap();
    // It stays readable as long as it is open.
    fs::remove_file(&path).unwrap();
    Checkpoint::open(source, OpenOptions::default()).unwrap()
}

/// One test, because the allocator counts the whole process.
#[test]
fn compressing_needs_less_than_two_tensors_of_memory() {
    let source = FileSource::open(demo().join("model.safetensors")).unwrap();
    let checkpoint = Checkpoint::open(source, OpenOptions::default()).unwrap();
    for recipe in recipes::builtin().unwrap() {
        ALLOCATOR.reset_peak_usage();
        let before = ALLOCATOR.current_usage();
        let report = run(checkpoint.compress(&recipe, Box::new(Counter(0))).unwrap(), |_| {}).unwrap();
        let peak = ALLOCATOR.peak_usage() - before;
        assert!(peak < 2 * LARGEST + BLOCK, "{}: {peak} bytes", recipe.name);
        assert!(peak as u64 >= report.peak_memory, "{}: {peak} against {}", recipe.name, report.peak_memory);
    }

    // For another tool codes are made numbers of: one tensor of them.
    let sink = MemorySink::default();
    let job = checkpoint.compress(&recipes::find("nf4").unwrap(), Box::new(sink.clone())).unwrap();
    run(job, |_| {}).unwrap();
    let compressed = Checkpoint::open(sink.take(), OpenOptions::default()).unwrap();
    for (of, most) in [(&checkpoint, BLOCK), (&compressed, LARGEST + LARGEST / 4 + BLOCK)] {
        ALLOCATOR.reset_peak_usage();
        let before = ALLOCATOR.current_usage();
        let plain = ExportTarget::Plain(PlainOptions::default());
        run(of.export(&plain, Box::new(Counter(0))).unwrap(), |_| {}).unwrap();
        let peak = ALLOCATOR.peak_usage() - before;
        assert!(peak < most, "plain: {peak} bytes");
    }
    drop(compressed);

    // What makes up for errors holds the model, and statistics beside it.
    let ids: Vec<u32> = (0..512).map(|i| (i * 37 + 11) % 8000).collect();
    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage();
    let model = checkpoint.model().unwrap();
    let nf4 = recipes::find("nf4").unwrap();
    let job =
        checkpoint.compress_calibrated(&nf4, Box::new(Counter(0)), Calibration::new(&model, &ids)).unwrap();
    let report = run(job, |_| {}).unwrap();
    let peak = ALLOCATOR.peak_usage() - before;
    assert!(report.peak_memory > model.info.bytes, "{}", report.peak_memory);
    assert!(peak as u64 >= report.peak_memory, "{peak} against {}", report.peak_memory);
    drop(model);

    // What is entropy-coded waits for the sizes of all; only codes do that, and no numbers.
    let mut recipe = recipes::find("nf4").unwrap();
    for step in &mut recipe.steps {
        if let statepress::recipe::Step::Quantize(quantize) = step {
            quantize.coded = true;
        }
    }
    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage();
    let report = run(checkpoint.compress(&recipe, Box::new(Counter(0))).unwrap(), |_| {}).unwrap();
    let peak = ALLOCATOR.peak_usage() - before;
    let file = report.file_bytes as usize;
    assert!(file < LARGEST / 4 && report.peak_memory > file as u64, "{file}, {}", report.peak_memory);
    assert!(peak < 2 * LARGEST + file + BLOCK, "coded: {peak} bytes");
    assert!(peak as u64 >= report.peak_memory, "coded: {peak} against {}", report.peak_memory);

    // A tensor with more numbers than a band has is gone through in bands: this one, of zeros, has 201 MB as float32.
    for (dtype, recipe) in [(DType::Bf16, "int8"), (DType::Bf16, "fp16"), (DType::F32, "fp16")] {
        let large = large(dtype);
        ALLOCATOR.reset_peak_usage();
        let before = ALLOCATOR.current_usage();
        let recipe = recipes::find(recipe).unwrap();
        let report = run(large.compress(&recipe, Box::new(Counter(0))).unwrap(), |_| {}).unwrap();
        let peak = ALLOCATOR.peak_usage() - before;
        assert!(peak < 8 * BAND_NUMBERS, "{}: {peak} bytes", recipe.name);
        assert!(peak as u64 >= report.peak_memory, "{}: {peak} against {}", recipe.name, report.peak_memory);
    }

    // A head that is a copy of the table is compared with it before the first tensor is written.
    let source = FileSource::open(demo().join("model.safetensors")).unwrap();
    let mut index = statepress_formats::open(&source).unwrap();
    let mut head = index.get("embedding.weight").unwrap().clone();
    head.name = "lm_head.weight".into();
    index.tensors.push(head);
    let spec = infer(&index, &Hints::default()).unwrap();
    let (recipe, clock) = (recipes::find("int8").unwrap(), Clock::default().seconds());
    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage();
    let of = techniques::Checkpoint { source: Rc::new(source), index: Rc::new(index), spec };
    let job = Compress::new(of, &recipe, Box::new(Counter(0)), clock, None, Work::Whole).unwrap();
    let peak = ALLOCATOR.peak_usage() - before;
    assert!(peak < LARGEST / 2 + BLOCK, "comparing: {peak} bytes");
    let report = run(job, |_| {}).unwrap();
    assert!(report.plan.findings.iter().any(|finding| finding.code == "tied-again"));
    assert!(ALLOCATOR.peak_usage() - before < 2 * LARGEST + BLOCK);
}
