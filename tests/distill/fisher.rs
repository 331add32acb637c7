//! What gradients say of a model is what a small change inside it costs in divergence.

use statepress_core::job;
use statepress_core::report::Fisher;
use statepress_distill::{Batch, Device, FisherOptions, TakeFisher, Trainable};
use statepress_distill_tests::{Opened, fixture};
use statepress_engine::EngineError;
use statepress_engine::calibrate::Sample;

fn wait<T>(future: impl Future<Output = T>) -> T {
    pollster::block_on(future)
}

fn taken(model: Trainable, ids: &[u32], sample: Sample) -> Result<Fisher, EngineError> {
    wait(job::run(TakeFisher::new(model, ids, &FisherOptions { sample, seed: 5 })?, |_| ()))
}

/// The logarithms of what a model predicts after one token.
fn predicted(model: &Trainable, token: u32) -> Vec<f64> {
    let logits = wait(model.evaluate().logits(&Batch::new(&[[token]]).unwrap())).unwrap();
    let sum = logits.iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln();
    logits.iter().map(|&x| f64::from(x) - sum).collect()
}

/// What moving some numbers of a tensor costs, nats.
fn divergence(model: &mut Trainable, token: u32, key: &str, moved: &[(usize, f64)]) -> f64 {
    let before = predicted(model, token);
    let values = wait(model.values(key)).unwrap();
    let mut changed = values.clone();
    moved.iter().for_each(|&(at, by)| changed[at] = (f64::from(changed[at]) + by) as f32);
    model.set(key, changed).unwrap();
    let after = predicted(model, token);
    model.set(key, values).unwrap();
    before.iter().zip(after).map(|(p, q)| p.exp() * (p - q)).sum()
}

/// Windows of one token are independent of each other, so that nothing is left out of what a change costs; that it is drawn
/// from predictions thousands of times leaves an error of a few percent.
#[test]
fn half_the_square_of_a_change_is_what_it_costs() {
    let token = 3;
    // Its positions are rows of their own, and its products have biases.
    let opened = Opened::folder(&fixture("families/gpt2"));
    let mut model = opened.trainable(Device::Flex);
    let sample = Sample { windows: 1 << 13, window: 1 };
    let fisher = taken(opened.trainable(Device::Flex), &[token; 1 << 13], sample).unwrap();
    assert_eq!(fisher.tokens, 1 << 13);
    let d = fisher.looked_up.len().isqrt();
    let near = |what: &str, cost: f64, expected: f64| {
        assert!((cost / expected - 1.0).abs() < 0.15, "{what}: {cost:e} instead of {expected:e}");
    };

    // The position is added to the row that is looked up, and is nothing else to the model.
    let positions =
        model.keys().map(|(key, _)| key.to_string()).find(|key| key.ends_with("wpe.weight")).unwrap();
    let mut random = fastrand::Rng::with_seed(1);
    let change: Vec<f64> = (0..d).map(|_| random.f64() - 0.5).collect();
    let pairs = (0..d * d).map(|at| f64::from(fisher.looked_up[at]) * change[at / d] * change[at % d]);
    let half_square = pairs.sum::<f64>() / 2.0;
    let by = (1e-4 / half_square).sqrt();
    let moved: Vec<(usize, f64)> = change.iter().map(|x| by * x).enumerate().collect();
    near("a look-up", divergence(&mut model, token, &positions, &moved), 1e-4);

    // A bias is added to what a product puts out.
    let mut biased = 0;
    for of in &fisher.outputs {
        let bias = of.key.replace("weight", "bias");
        if !model.keys().any(|(key, _)| key == bias) {
            continue;
        }
        let most = of.rows.iter().copied().fold(0.0, f32::max);
        for (row, &square) in of.rows.iter().enumerate().filter(|(_, square)| **square > most / 4.0).take(4) {
            let moved = [(row, (2e-4 / f64::from(square)).sqrt())];
            near(&format!("output {row} of {}", of.key), divergence(&mut model, token, &bias, &moved), 1e-4);
            biased += 1;
        }
    }
    assert!(biased >= 8, "{biased}");
}

#[test]
fn every_matrix_of_every_family_has_its_outputs() {
    let manifest = std::fs::read_to_string(fixture("families/manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let folders = manifest["entries"].as_object().unwrap().iter();
    let whole = folders.filter(|(name, about)| !name.contains('.') && !about["golden"].is_null());
    let whole = whole.map(|(name, _)| (name.clone(), Opened::folder(&fixture(&format!("families/{name}")))));
    let itera = Opened::file(&fixture("fixtures/il_moe.safetensors"), &[]);
    for (name, opened) in whole.chain([("il_moe".into(), itera)]) {
        let model = opened.trainable(Device::Flex);
        let program = model.program().clone();
        let ids: Vec<u32> = (0..24).map(|at| at * 5 % program.vocab_size as u32).collect();
        let fisher = taken(model, &ids, Sample { windows: 3, window: 8 }).unwrap();
        assert_eq!((fisher.tokens, fisher.looked_up.len()), (24, program.matrix(program.table).cols.pow(2)));
        let entered = statepress_engine::calibrate::entered(&program);
        for id in entered.into_iter().filter(|&id| id != program.head.matrix) {
            let matrix = program.matrix(id);
            let of = fisher.outputs.iter().filter(|of| of.key == matrix.key && of.rows.len() == matrix.rows);
            assert!(of.count() > 0, "{name}: {} has no outputs of {}", matrix.key, matrix.rows);
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_and_what_does_not_fit_is_refused() {
    let model = || Opened::file(&fixture("fixtures/il_ffn.safetensors"), &[]).trainable(Device::Flex);
    let ids: Vec<u32> = (0..40).collect();
    let sample = Sample { windows: 2, window: 8 };
    assert_eq!(taken(model(), &ids, sample).unwrap(), taken(model(), &ids, sample).unwrap());
    let refused = |ids: &[u32]| taken(model(), ids, sample).unwrap_err().to_string();
    assert!(refused(&[1, 2, 3]).contains("3 tokens do not fill one window of 8"), "{}", refused(&[1, 2, 3]));
    assert!(refused(&[99; 8]).contains("outside the vocabulary of 50"), "{}", refused(&[99; 8]));
}
