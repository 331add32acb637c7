//! The trainable interpreter gives the logits that the engine gives, of every family, on every device.

use std::collections::BTreeSet;

use statepress_core::Recipe;
use statepress_distill::{Batch, Device, Trains};
use statepress_distill_tests::golden::{Golden, assert_close};
use statepress_distill_tests::{Opened, engine_logits, fixture};

/// `|a - b| / (1 + |b|)`.
const TOLERANCE: f32 = 1e-4;

/// Windows of one length go through together, and each gives what the engine gives of it alone.
fn check(name: &str, opened: &Opened, lengths: &[usize]) {
    let model = opened.engine();
    let vocab = model.info.vocab_size;
    let mut random = fastrand::Rng::with_seed(7);
    for &device in Device::ALL {
        let trainable = opened.trainable(device);
        for &len in lengths {
            let mut window = || (0..len).map(|_| random.u32(0..vocab as u32)).collect::<Vec<_>>();
            let windows = [window(), window()];
            let expected: Vec<f32> = windows.iter().flat_map(|ids| engine_logits(&model, ids)).collect();
            let batch = Batch::new(&windows).unwrap();
            let what = format!("{name}, {len} tokens, {}", device.name());
            let plain = pollster::block_on(trainable.evaluate().logits(&batch)).unwrap();
            assert_close(&what, &plain, &expected, TOLERANCE);
            let tracked = pollster::block_on(trainable.train(Trains::All).logits(&batch)).unwrap();
            assert_close(&format!("{what}, with gradients"), &tracked, &expected, TOLERANCE);
        }
    }
}

#[test]
fn every_family_gives_the_engines_logits() {
    let manifest = std::fs::read_to_string(fixture("families/manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let mut families = BTreeSet::new();
    for (name, about) in manifest["entries"].as_object().unwrap() {
        // Those without a golden do not run anywhere; shards are joined by others.
        if name.ends_with("sharded") || about["golden"].is_null() {
            continue;
        }
        let opened = Opened::folder(&fixture(&format!("families/{name}")));
        check(name, &opened, &[1, 2, 7, 40]);
        families.insert(opened.spec.family.name().to_string());
    }
    for family in statepress_engine::families::families() {
        let elsewhere = ["itera-lite", "transformer"].contains(&family.name) || family.lacks.is_some();
        assert!(elsewhere || families.contains(family.name), "{} was not run", family.name);
    }
}

#[test]
fn itera_lite_and_the_transformer_give_the_engines_logits() {
    for (name, most, set) in [
        ("il_ffn", 24, &[][..]),
        ("il_moe", 24, &[]),
        ("il_odd", 19, &[("top_k_experts", 1)]),
        ("il_odd", 19, &[("top_k_experts", 2)]),
        ("tf", 24, &[]),
    ] {
        check(name, &Opened::file(&fixture(&format!("fixtures/{name}.safetensors")), set), &[1, 3, 7, most]);
    }
}

/// What recipes add to a model is in its program.
#[test]
fn a_centered_table_keeps_its_bias() {
    let recipe = Recipe::from_json(r#"{"version": 1, "name": "t", "steps": [{"center": {}}]}"#).unwrap();
    for name in ["il_moe", "tf"] {
        let file = Opened::file(&fixture(&format!("fixtures/{name}.safetensors")), &[]).written(&recipe);
        let centered = Opened::new(file, None, &[]);
        check(name, &centered, &[7]);
        let device = Device::Flex;
        assert!(centered.trainable(device).keys().any(|(key, _)| key == "embedding.bias"), "{name}");
    }
}

/// The same numbers as PyTorch's, not only as ours.
#[test]
fn the_goldens_of_pytorch_hold() {
    for &device in Device::ALL {
        for (name, set) in [("il_moe", &[][..]), ("il_odd", &[("top_k_experts", 1)]), ("tf", &[])] {
            let golden = Golden::open(&fixture(&format!("fixtures/{name}.golden.safetensors")));
            let model =
                Opened::file(&fixture(&format!("fixtures/{name}.safetensors")), set).trainable(device);
            let ids = golden.ids("batch2/ids");
            let windows: Vec<&[u32]> = ids.chunks(ids.len() / 2).collect();
            let found = pollster::block_on(model.evaluate().logits(&Batch::new(&windows).unwrap())).unwrap();
            assert_close(name, &found, &golden.f32("batch2/logits"), TOLERANCE);
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let model = Opened::file(&fixture("fixtures/il_ffn.safetensors"), &[]).trainable(Device::Flex);
    let error = |ids: &[u32]| {
        let batch = Batch::new(&[ids])?;
        pollster::block_on(model.evaluate().logits(&batch)).map(|_| ())
    };
    assert!(error(&[1, 2]).is_ok());
    assert_eq!(error(&[]).unwrap_err().to_string(), "no token ids were given");
    let outside = error(&[1, 50]).unwrap_err();
    assert_eq!(outside.to_string(), "token 50 at position 1 is outside the vocabulary of 50");
    assert_eq!(outside.code(), "bad-ids");
    let long = error(&[1; 25]).unwrap_err().to_string();
    assert_eq!(long, "windows of 25 tokens; the model has 24 positions");
    let uneven = Batch::new(&[vec![1u32], vec![1, 2]]).unwrap_err().to_string();
    assert_eq!(uneven, "windows of 1 and of 2 tokens in one batch");
}
