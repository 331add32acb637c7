//! Gradients and updates are PyTorch's, on every device; where no golden is at hand, they are the slopes that the loss has.

use statepress_distill::{Adam, Batch, Device, Labelled, Mixture, Objective, Optimizer, Trainable, Trains};
use statepress_distill_tests::golden::{Golden, assert_close};
use statepress_distill_tests::{Opened, fixture};

/// `|a - b| / (1 + |b|)`.
const TOLERANCE: f32 = 1e-4;

/// The text alone; Itera-Lite was trained with the imbalance of its experts.
const TEXT: Objective = Objective { mixture: Mixture { alpha: 0.0, temperature: 1.0 }, balance: 0.01 };

fn wait<T>(future: impl Future<Output = T>) -> T {
    pollster::block_on(future)
}

/// Position `t` of each window against token `t + 1`.
fn next_tokens(ids: &[u32], windows: usize) -> Labelled {
    let windows: Vec<&[u32]> = ids.chunks(ids.len() / windows).collect();
    let labels = windows.iter().flat_map(|window| &window[1..]).copied().collect();
    Labelled::new(Batch::new(&windows).unwrap(), labels).unwrap()
}

fn loss(model: &Trainable, examples: &Labelled, objective: &Objective) -> f32 {
    wait(model.gradients(examples, None, objective, Trains::All)).unwrap().loss as f32
}

#[test]
fn gradients_and_three_updates_are_those_of_pytorch() {
    let manifest = std::fs::read_to_string(fixture("fixtures/manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let number = |value: &serde_json::Value| value.as_f64().unwrap() as f32;
    for &device in Device::ALL {
        for (name, set) in
            [("il_ffn", &[][..]), ("il_moe", &[]), ("il_odd", &[("top_k_experts", 1)]), ("tf", &[])]
        {
            let what = |quantity: &str| format!("{name}, {}: {quantity}", device.name());
            let golden = Golden::open(&fixture(&format!("fixtures/{name}.train.safetensors")));
            let about = &manifest["training"][name];
            let mut model =
                Opened::file(&fixture(&format!("fixtures/{name}.safetensors")), set).trainable(device);
            let examples = next_tokens(&golden.ids("ids"), 2);
            let adam = Adam { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.01, clip: 1.0 };
            let mut optimizer = Optimizer::new(&model, &adam);
            for step in 0..3 {
                let gradients = wait(model.gradients(&examples, None, &TEXT, Trains::All)).unwrap();
                let found = [gradients.loss as f32, wait(gradients.norm(&model)).unwrap()];
                let expected = ["losses", "grad_norm_before_clip"].map(|it| number(&about[it][step]));
                assert_close(&what(&format!("loss and norm of step {step}")), &found, &expected, TOLERANCE);
                if step == 0 {
                    let imbalance = gradients.imbalance.map_or(0.0, |it| 0.01 * it);
                    if golden.has("aux_loss") {
                        assert_close(&what("aux_loss"), &[imbalance], &golden.f32("aux_loss"), TOLERANCE);
                    }
                    let mut compared = 0;
                    for key in golden.names().iter().filter_map(|name| name.strip_prefix("grad/")) {
                        let found = wait(gradients.of(&model, key)).unwrap().unwrap();
                        let expected = golden.f32(&format!("grad/{key}"));
                        assert_close(&what(&format!("gradient of {key}")), &found, &expected, TOLERANCE);
                        compared += 1;
                    }
                    assert_eq!(compared, model.keys().count(), "{name}");
                }
                optimizer.apply(&mut model, gradients, 1e-3);
            }
            for key in golden.names().iter().filter_map(|name| name.strip_prefix("after3/")) {
                let found = wait(model.values(key)).unwrap();
                let expected = golden.f32(&format!("after3/{key}"));
                assert_close(&what(&format!("{key} after three updates")), &found, &expected, TOLERANCE);
            }
        }
    }
}

/// Every parameter of every family that transformers has, on every device. `STATEPRESS_TORCH` names a Python that has it.
#[test]
fn gradients_of_every_family_are_those_of_transformers() {
    let python = std::env::var_os("STATEPRESS_TORCH").unwrap_or_else(|| {
        panic!("STATEPRESS_TORCH is to name a Python with torch and transformers: ./pkg-scripts/test distill does")
    });
    let manifest = std::fs::read_to_string(fixture("families/manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let entries = manifest["entries"].as_object().unwrap().iter();
    let names = entries.filter(|(name, about)| {
        let is_theirs = about["reference"].as_str().unwrap().starts_with("transformers ");
        is_theirs && !name.contains('.') && !about["golden"].is_null()
    });
    let folders: Vec<_> = names.map(|(name, _)| fixture(&format!("families/{name}"))).collect();
    assert!(folders.len() > 15, "{}", folders.len());
    let out = std::env::temp_dir().join(format!("statepress-gradients-{}", std::process::id()));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/gradients.py");
    let made = std::process::Command::new(python).arg(script).arg(&out).args(&folders).status().unwrap();
    assert!(made.success());
    let text = Objective { balance: 0.0, ..TEXT };
    for folder in folders {
        let name = folder.file_name().unwrap().to_str().unwrap();
        let golden = Golden::open(&out.join(name).join("model.safetensors"));
        let examples = next_tokens(&Golden::open(&out.join(name).join("ids.safetensors")).ids("ids"), 1);
        for &device in Device::ALL {
            let model = Opened::folder(&folder).trainable(device);
            let gradients = wait(model.gradients(&examples, None, &text, Trains::All)).unwrap();
            let mut compared = 0;
            for (key, _) in model.keys() {
                let theirs =
                    golden.names().into_iter().find(|it| it == key || it.ends_with(&format!(".{key}")));
                let what = format!("{name}, {}: {key}", device.name());
                let expected = golden.f32(&theirs.unwrap_or_else(|| panic!("{what}: transformers has none")));
                let found =
                    wait(gradients.of(&model, key)).unwrap().unwrap_or_else(|| panic!("{what}: none"));
                // By the largest of a tensor: many are small all over.
                let most = expected.iter().fold(1e-6_f32, |most, it| most.max(it.abs()));
                let scaled = |it: Vec<f32>| -> Vec<f32> { it.iter().map(|it| it / most).collect() };
                assert_close(&what, &scaled(found), &scaled(expected), 1e-3);
                compared += 1;
            }
            assert_eq!(compared, golden.names().len(), "{name}: all of transformers'");
        }
    }
    std::fs::remove_dir_all(out).unwrap();
}

/// Moving a tensor along its gradient changes the loss by the square of its length, in every tensor of every family.
#[test]
fn gradients_are_the_slopes_of_the_loss() {
    let manifest = std::fs::read_to_string(fixture("families/manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let mut random = fastrand::Rng::with_seed(3);
    for (name, about) in manifest["entries"].as_object().unwrap() {
        // One way to store a model is as good as another here.
        if name.contains('.') || about["golden"].is_null() {
            continue;
        }
        let opened = Opened::folder(&fixture(&format!("families/{name}")));
        let mut model = opened.trainable(Device::Flex);
        let vocab = model.program().vocab_size as u32;
        let ids: Vec<u32> = (0..40).map(|_| random.u32(0..vocab)).collect();
        let examples = next_tokens(&ids, 1);
        let gradients = wait(model.gradients(&examples, None, &TEXT, Trains::All)).unwrap();
        let keys: Vec<String> = model.keys().map(|(key, _)| key.to_string()).collect();
        for key in &keys {
            let Some(gradient) = wait(gradients.of(&model, key)).unwrap() else {
                panic!("{name}: the loss does not depend on {key}")
            };
            let values = wait(model.values(key)).unwrap();
            let length = gradient.iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>().sqrt();
            if length < 1e-5 {
                continue;
            }
            // Far enough for the loss to move by more than its rounding, near enough to be straight.
            let mut nearest = f64::INFINITY;
            for step in [3e-2, 1e-2, 3e-3, 1e-3] {
                let mut moved = |by: f64| {
                    let along = values.iter().zip(&gradient);
                    let moved = along.map(|(&x, &g)| (f64::from(x) + by * f64::from(g) / length) as f32);
                    model.set(key, moved.collect()).unwrap();
                    f64::from(loss(&model, &examples, &TEXT))
                };
                let slope = (moved(step) - moved(-step)) / (2.0 * step);
                nearest = nearest.min((slope - length).abs() / (1e-3 + length));
                if nearest < 0.02 {
                    break;
                }
            }
            model.set(key, values).unwrap();
            assert!(
                nearest < 0.02,
                "{name}: the slope along the gradient of {key} is off by {nearest:e} of {length:e}"
            );
        }
    }
}

#[test]
fn only_what_is_trained_has_gradients() {
    let model = Opened::file(&fixture("fixtures/il_moe.safetensors"), &[]).trainable(Device::Flex);
    let ids: Vec<u32> = (0..20).collect();
    let gradients = wait(model.gradients(&next_tokens(&ids, 2), None, &TEXT, Trains::Vectors)).unwrap();
    let has = |key: &str| wait(gradients.of(&model, key)).unwrap().is_some();
    assert!(has("layers.0.ssm.norm.weight") && has("layers.0.ssm.ssm.A_log") && has("layers.0.ssm.ssm.D"));
    assert!(has("layers.0.ssm.ssm.delta_proj.bias") && has("norm.bias"));
    assert!(!has("embedding.weight") && !has("layers.0.ssm.in_proj.weight") && !has("layers.0.ssm.ssm.B"));
}

#[test]
fn what_does_not_fit_is_refused() {
    let model = Opened::file(&fixture("fixtures/il_ffn.safetensors"), &[]).trainable(Device::Flex);
    let batch = || Batch::new(&[[1u32, 2, 3], [4, 5, 6]]).unwrap();
    for labels in [vec![], vec![1, 2, 3], vec![1; 8]] {
        assert_eq!(Labelled::new(batch(), labels).unwrap_err().code(), "bad-ids");
    }
    let examples = Labelled::new(batch(), vec![1, 50]).unwrap();
    let refused = |examples: &Labelled, teacher, objective| {
        wait(model.gradients(examples, teacher, &objective, Trains::All)).err().unwrap()
    };
    assert_eq!(refused(&examples, None, TEXT).to_string(), "label 50 is outside the vocabulary of 50");
    let examples = Labelled::new(batch(), vec![1, 2]).unwrap();
    let half = Objective { mixture: Mixture { alpha: 0.5, temperature: 1.0 }, balance: 0.0 };
    let error = refused(&examples, None, half).to_string();
    assert_eq!(error, "option teacher is 0 logits; allowed: 100, for 2 labels and a share of 0.5");
    assert_eq!(refused(&examples, Some(vec![0.0; 99]), half).code(), "bad-option");
    assert!(wait(model.values("layers.9.norm")).is_err());
}
