//! What can go wrong with a GPU: each is an error that says what it was, and leaves the rest usable.

use std::cell::Cell;
use std::rc::Rc;

use pollster::block_on;
use statepress::{
    Backend, BackendError, Checkpoint, Cpu, Evaluate, EvaluateOptions, Generate, GenerateOptions, GpuOptions,
    Job, Loaded, OpenOptions, Recipe, Runner, Wanted, choose, run,
};
use statepress_core::{Packed, Tensor};
use statepress_gpu::One;
use statepress_kernels::network::Network;
use statepress_kernels::shaders::{self as wgsl, Kernel};
use statepress_tests::files::{fixture, open};
use statepress_tests::gpu::{clock, compressed, demo_checkpoint, greedy, on, open_gpu};

#[test]
fn what_does_not_fit_is_refused_by_its_name_and_the_limit() {
    let gpu = open_gpu(GpuOptions { max_buffer: Some(1 << 20), ..GpuOptions::default() });
    let error = run(demo_checkpoint().load_into(gpu).unwrap(), |_| {}).err().unwrap();
    assert_eq!(error.code(), "gpu-limit");
    let message = error.to_string();
    assert!(message.contains("embedding.weight") && message.contains("4096000"), "{message}");
    assert!(message.contains("1048576"), "{message}");
    // The memory of a sequence, too.
    let gpu = open_gpu(GpuOptions { max_buffer: Some(5 << 20), ..GpuOptions::default() });
    let model = on(&gpu, &demo_checkpoint());
    let mut runner = model.runner(true).unwrap();
    let error = block_on(runner.forward(&[0; 256], None)).unwrap_err();
    assert_eq!(error.code(), "gpu-limit", "{error}");
    assert!(error.to_string().contains("activations"), "{error}");
}

#[test]
fn a_lost_gpu_is_an_error_and_the_next_one_works() {
    let gpu = open_gpu(GpuOptions::default());
    let model = on(&gpu, &demo_checkpoint());
    let mut generate = Generate::new(&model, &[1, 2, 3], GenerateOptions::default()).unwrap();
    assert_eq!(block_on(generate.step(2)).unwrap().len(), 2);
    gpu.destroy();
    let error = block_on(generate.step(2)).unwrap_err();
    assert_eq!(error.code(), "gpu-lost", "{error}");
    assert!(model.runner(true).is_err());
    let error = run(demo_checkpoint().load_into(gpu).unwrap(), |_| {}).err().unwrap();
    assert_eq!(error.code(), "gpu-lost", "{error}");
    let again = open_gpu(GpuOptions::default());
    assert_eq!(greedy(&on(&again, &demo_checkpoint()), &[1, 2, 3], 2).len(), 5);
}

#[test]
fn a_gpu_that_is_lost_in_the_middle_of_an_evaluation_gives_no_numbers() {
    let gpu = open_gpu(GpuOptions::default());
    let model = on(&gpu, &open(&fixture("fixtures/il_moe.safetensors"), &[]));
    let options = EvaluateOptions { window: Some(24), ..EvaluateOptions::default() };
    let mut job = Evaluate::new(&model, &[1; 96], &options, clock()).unwrap();
    assert!(block_on(job.step()).unwrap().is_some());
    gpu.destroy();
    let error = block_on(job.step()).unwrap_err();
    assert_eq!(error.code(), "gpu-lost", "{error}");
}

/// What the driver refuses comes to light where results are waited for, and nothing on that device
/// is trusted any more.
#[test]
fn a_refused_command_is_an_error_and_the_next_gpu_works() {
    let gpu = open_gpu(GpuOptions::default());
    let checkpoint = open(&fixture("fixtures/il_moe.safetensors"), &[]);
    let model = on(&gpu, &checkpoint);
    let mut one = One::default();
    one.ids = vec![0; 6];
    let x = one.rows(&[1.0; 4], 4);
    let params = wgsl::NormRows { x, y: x, ..wgsl::NormRows::default() };
    // Beyond the 65535 workgroups of a dimension that every adapter has.
    let refused = block_on(one.dispatch(&gpu, Kernel::Norm, &[], &params, [1 << 20, 1, 1]));
    let error = refused.unwrap_err();
    assert_eq!(error.code(), "gpu-validation", "{error}");
    assert!(error.to_string().contains("1048576"), "{error}");
    let after = model.runner(true).err().unwrap();
    assert_eq!(after, error);
    assert_eq!(greedy(&on(&open_gpu(GpuOptions::default()), &checkpoint), &[4, 5], 3).len(), 5);
}

/// Two models, two sequences of one model, and one that is left in the middle.
#[test]
fn sequences_do_not_disturb_each_other() {
    let gpu = open_gpu(GpuOptions::default());
    let demo = on(&gpu, &demo_checkpoint());
    let small = on(&gpu, &open(&fixture("fixtures/il_moe.safetensors"), &[]));
    let alone = (greedy(&demo, &[1, 2, 3], 6), greedy(&small, &[4, 5], 6));
    let options = |max_tokens| GenerateOptions { max_tokens, ..GenerateOptions::default() };
    let mut first = Generate::new(&demo, &[1, 2, 3], options(6)).unwrap();
    let mut second = Generate::new(&small, &[4, 5], options(6)).unwrap();
    let mut left = Generate::new(&demo, &[9, 9, 9], options(6)).unwrap();
    block_on(left.step(2)).unwrap();
    let mut found = (vec![1, 2, 3], vec![4, 5]);
    for _ in 0..3 {
        found.0.extend(block_on(first.step(2)).unwrap().iter().map(|token| token.id));
        found.1.extend(block_on(second.step(2)).unwrap().iter().map(|token| token.id));
    }
    drop(left);
    assert_eq!(found, alone);
    // An evaluation that is dropped after its first window.
    let options = EvaluateOptions { window: Some(24), ..EvaluateOptions::default() };
    let evaluate = || Evaluate::new(&small, &[1; 96], &options, clock()).unwrap();
    let mut aborted = evaluate();
    assert!(block_on(aborted.step()).unwrap().is_some());
    drop(aborted);
    assert_eq!(run(evaluate(), |_| {}).unwrap().windows, 4);
}

#[test]
fn models_that_are_not_numbers_fail_on_the_gpu_too() {
    let golden = fixture("fixtures/il_ffn.safetensors");
    let mut bytes = std::fs::read(golden).unwrap();
    let (header, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let at = 8 + header + metadata.info("norm.weight").unwrap().data_offsets.0;
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    let checkpoint = Checkpoint::open(bytes, OpenOptions::default()).unwrap();
    let gpu = open_gpu(GpuOptions::default());
    let model = on(&gpu, &checkpoint);
    let job = Evaluate::new(&model, &[1; 48], &EvaluateOptions::default(), clock()).unwrap();
    let error = run(job, |_| {}).unwrap_err();
    assert_eq!(error.code(), "evaluation-failed", "{error}");
}

#[test]
fn the_choice_says_why() {
    let asked = block_on(choose(Wanted::WebGpu, GpuOptions::default())).unwrap();
    assert!(asked.gpu.is_some() && asked.finding.is_none());
    let cpu = block_on(choose(Wanted::Cpu, GpuOptions::default())).unwrap();
    assert!(cpu.gpu.is_none() && cpu.finding.is_none());
    let auto = block_on(choose(Wanted::Auto, GpuOptions::default())).unwrap();
    if asked.gpu.unwrap().adapter().software {
        // The CPU does it faster than a program on it that plays a GPU.
        assert!(auto.gpu.is_none());
        let finding = auto.finding.unwrap();
        assert_eq!(finding.code, "backend-cpu");
        let words = "the CPU computes: no GPU: the only adapter is emulated on the CPU (";
        assert!(finding.message.starts_with(words), "{}", finding.message);
    } else {
        assert!(auto.gpu.is_some());
    }
    let absent = || GpuOptions { absent: Some("no such thing here".into()), ..GpuOptions::default() };
    let error = block_on(choose(Wanted::WebGpu, absent())).err().unwrap();
    assert_eq!((error.code(), error.to_string().contains("no such thing here")), ("no-gpu", true));
    assert!(block_on(choose(Wanted::Auto, absent())).unwrap().reason.contains("no such thing here"));
}

/// A backend that computes something else in one precision is refused with the layer and the numbers, and does
/// what is without that precision.
#[test]
fn the_self_check_sees_a_wrong_number() {
    #[derive(Clone)]
    struct Wrong(Rc<Cell<usize>>);
    impl Backend for Wrong {
        type Matrix = <Cpu as Backend>::Matrix;
        type Network = <Cpu as Backend>::Network;
        type Runner = <Cpu as Backend>::Runner;
        fn matrix(
            &self,
            name: &str,
            mut tensor: Tensor,
            transposed: bool,
        ) -> Result<Self::Matrix, BackendError> {
            if let Packed::F16(bits) = &mut tensor.data {
                bits[7] ^= 0x0200;
            }
            Cpu.matrix(name, tensor, transposed)
        }
        fn network(&self, network: Network<Self::Matrix>) -> Result<Self::Network, BackendError> {
            Cpu.network(network)
        }
        fn runner(&self, network: &Rc<Self::Network>, exact: bool) -> Result<Self::Runner, BackendError> {
            Cpu.runner(network, exact)
        }
        fn unchecked(&self, network: &Self::Network) -> Option<Vec<usize>> {
            Some((0..network.program.n_layers()).collect())
        }
        fn passed(&self, _: &Self::Network) {
            self.0.set(self.0.get() + 1);
        }
    }
    let backend = Wrong(Rc::default());
    let base = demo_checkpoint();
    run(base.load_into(backend.clone()).unwrap(), |_| {}).unwrap();
    assert_eq!(backend.0.get(), 1, "fp32 passes");
    let recipe = r#"{"version": 1, "name": "one", "steps": [{"quantize": {"rules": [
        {"match": "layers.2.ssm.in_proj.weight", "precision": "fp16"}], "otherwise": "int8"}}]}"#;
    let checkpoint = compressed(&base, &Recipe::from_json(recipe).unwrap());
    let mut job = checkpoint.load_into(backend.clone()).unwrap();
    let error = loop {
        match block_on(job.step()) {
            Ok(progress) => assert!(progress.is_some(), "it passed"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), "gpu-self-check");
    let message = error.to_string();
    assert!(message.contains("layer 2 (fp16, int8) makes of a sequence"), "{message}");
    assert!(message.contains("allowed (number "), "{message}");
    assert_eq!(backend.0.get(), 1);
    // It stays so.
    assert!(block_on(job.step()).is_err() && job.finish().is_err());
}
