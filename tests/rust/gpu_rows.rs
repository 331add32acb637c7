//! Models with rows in classes on the GPU: the CPU's logits and texts, and what it refuses.

use statepress::{Calibration, Checkpoint, GpuOptions, MemorySink, OpenOptions, Recipe, run};
use statepress_core::{Form, Packed, Tensor};
use statepress_formats::{TensorSpec, Writer, open as open_index, read_tensor};
use statepress_kernels::codecs;
use statepress_tests::files::{fixture, open, open_folder};
use statepress_tests::golden::assert_close;
use statepress_tests::gpu::{compressed, greedy, logits_in_steps, on, open_gpu};

/// `|a - b| / (1 + |b|)`: f32 sums in another order.
const TOLERANCE: f32 = 1e-3;

fn recipe(rules: &str, options: &str) -> Recipe {
    let json = format!(
        r#"{{"version":1,"name":"t","steps":[{{"quantize":{{"rules":[{rules}],"otherwise":"fp16"{options}}}}}]}}"#
    );
    Recipe::from_json(&json).unwrap()
}

/// Labelled parts of projections, in layers that go op by op then.
fn labelled(folder: &str) -> Checkpoint {
    let rows = r#"{"label":"dt","precision":"fp32"},{"label":"z","precision":"int8"}"#;
    let rule = format!(
        r#"{{"match":"*layers.0.*in_proj.weight","precision":"nf4","rows":[{rows}]}},{{"match":"*proj.weight","precision":"int8"}}"#
    );
    compressed(&open_folder(&fixture(&format!("families/{folder}"))), &recipe(&rule, ""))
}

/// The most used rows of a table, which is the head as well or not.
fn used(file: &str) -> Checkpoint {
    let base = open(&fixture(&format!("fixtures/{file}")), &[]);
    let rows =
        r#"{"count":3,"precision":"fp16"},{"count":9,"precision":"int6"},{"count":17,"precision":"nf4"}"#;
    let rules = ["table", "head"]
        .map(|role| format!(r#"{{"match":"role:{role}","precision":"lm3","rows":[{rows}]}}"#));
    let recipe = recipe(&rules.join(","), r#","errorCompensation":"gptq""#);
    let (sink, ids) =
        (MemorySink::default(), (0..240).map(|i| (i * i * 7 + 11 * i) % 50).collect::<Vec<u32>>());
    let job = base
        .compress_calibrated(&recipe, Box::new(sink.clone()), Calibration::new(&base.model().unwrap(), &ids))
        .unwrap();
    run(job, |_| {}).unwrap();
    Checkpoint::open(sink.take(), OpenOptions::default()).unwrap()
}

fn in_classes(checkpoint: &Checkpoint) -> usize {
    checkpoint.inspection().tensors.iter().filter(|tensor| tensor.dtype.contains('+')).count()
}

#[test]
fn logits_and_texts_are_those_of_the_cpu() {
    for (what, checkpoint, tensors) in [
        ("mamba2-groups", labelled("mamba2-groups"), 1),
        ("mamba-odd", labelled("mamba-odd"), 1),
        ("tied", used("il_moe.safetensors"), 1),
        ("untied", used("tf.untied.pt"), 2),
    ] {
        assert_eq!(in_classes(&checkpoint), tensors, "{what}");
        let exact = checkpoint.model().unwrap();
        let ids = [1, 5, 2, 9, 3, 3, 7, 18, 11, 17, 8, 0, 12];
        let expected = logits_in_steps(&exact, &ids, ids.len());
        for op_by_op in [false, true] {
            let gpu = open_gpu(GpuOptions { op_by_op, ..GpuOptions::default() });
            let model = on(&gpu, &checkpoint);
            for step in [ids.len(), 4, 1] {
                let what = format!("{what} in steps of {step}, op by op: {op_by_op}");
                assert_close(&what, &logits_in_steps(&model, &ids, step), &expected, TOLERANCE);
            }
            assert_eq!(greedy(&model, &ids, 6), greedy(&exact, &ids, 6), "{what}");
        }
    }
}

/// A file with the positions of a model in classes, which no recipe makes.
#[test]
fn what_no_kernel_reads_is_refused_with_the_tensor() {
    let bytes = std::fs::read(fixture("fixtures/il_moe.safetensors")).unwrap();
    let index = open_index(&bytes).unwrap();
    let read = |entry| read_tensor(&bytes, entry).unwrap();
    let tensors: Vec<(String, Tensor)> =
        index.tensors.iter().map(|entry| (entry.name.clone(), read(entry))).collect();
    let classed = tensors.into_iter().map(|(name, tensor)| {
        let (rows, cols) = tensor.matrix();
        let tensor = match name.contains("position_embedding") {
            true => {
                let half = |from: usize, to: usize| {
                    Tensor::from_f32(
                        vec![to - from, cols],
                        codecs::decode(&tensor)[from * cols..to * cols].to_vec(),
                    )
                };
                let of_rows: Vec<u8> = (0..rows).map(|row| u8::from(row >= 2)).collect();
                codecs::rows::join(&[rows, cols], vec![half(0, 2), half(2, rows)], &of_rows).unwrap()
            }
            false => tensor,
        };
        (name, tensor)
    });
    let classed: Vec<_> = classed.collect();
    assert!(classed.iter().any(|(_, tensor)| matches!(tensor.data, Packed::Rows(_))));
    let specs: Vec<_> = classed
        .iter()
        .map(|(name, tensor)| TensorSpec {
            name: name.clone(),
            shape: tensor.shape.clone(),
            form: Form::Coded(tensor.encoding()),
            coded: false,
        })
        .collect();
    let mut writer = Writer::new(Vec::new(), &specs, &index.metadata).unwrap();
    for (name, tensor) in &classed {
        writer.write(name, tensor).unwrap();
    }
    let bytes = writer.finish().unwrap().0;
    let options = OpenOptions::default();
    let checkpoint = Checkpoint::open(bytes, options).unwrap();
    let gpu = open_gpu(GpuOptions::default());
    let error = run(checkpoint.load_into(gpu).unwrap(), |_| {}).map(drop).unwrap_err();
    assert_eq!(error.code(), "gpu-no-kernel");
    assert!(error.to_string().contains("position_embedding.weight"), "{error}");
    checkpoint.model().unwrap();
}
