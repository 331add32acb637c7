//! The architecture's arrows, kept by a machine: which crate may know which.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Direct dependencies of every member of the workspace, by `cargo metadata`.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline", "--manifest-path", manifest])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter();
    let name = |value: &serde_json::Value| value["name"].as_str().unwrap().to_string();
    packages
        .map(|package| {
            (name(package), package["dependencies"].as_array().unwrap().iter().map(name).collect())
        })
        .collect()
}

#[test]
fn arrows_point_down_only() {
    let dependencies = dependencies();
    let allowed = BTreeMap::from([
        ("statepress-core", vec![]),
        ("statepress-formats", vec!["statepress-core"]),
        ("statepress-kernels", vec!["statepress-core"]),
        ("statepress-engine", vec!["statepress-core", "statepress-formats", "statepress-kernels"]),
        ("statepress-gpu", vec!["statepress-core", "statepress-kernels"]),
        (
            "statepress",
            vec![
                "statepress-core",
                "statepress-formats",
                "statepress-kernels",
                "statepress-engine",
                "statepress-gpu",
            ],
        ),
        (
            "statepress-distill",
            vec!["statepress-core", "statepress-engine", "statepress-formats", "statepress-kernels"],
        ),
        ("statepress-wasm", vec!["statepress", "statepress-distill"]),
        ("statepress-examples", vec!["statepress"]),
    ]);
    for (member, allowed) in &allowed {
        let ours = dependencies[*member].iter().filter(|name| name.starts_with("statepress"));
        for name in ours {
            assert!(allowed.contains(&name.as_str()), "{member} must not know {name}");
        }
    }
    let tests = ["statepress-tests", "statepress-distill-tests"];
    for member in dependencies.keys().filter(|name| !tests.contains(&name.as_str())) {
        assert!(allowed.contains_key(member.as_str()), "{member} has no floor");
    }
}

#[test]
fn platforms_stay_in_their_one_crate() {
    for (member, names) in dependencies() {
        for (crate_name, homes) in [
            ("wgpu", &["statepress-gpu"][..]),
            ("js-sys", &["statepress-wasm"]),
            ("web-sys", &["statepress-wasm"]),
            ("wasm-bindgen", &["statepress-wasm"]),
            ("serde-wasm-bindgen", &["statepress-wasm"]),
        ] {
            assert!(
                !names.contains(crate_name) || homes.contains(&member.as_str()),
                "{member} must not say {crate_name}"
            );
        }
        // It takes minutes to build: whoever does not train must not wait for it.
        let builds_burn = names.iter().any(|name| name.starts_with("burn"));
        assert!(!builds_burn || member == "statepress-distill", "{member} must not say burn");
        let trains = names.contains("statepress-distill");
        let may = ["statepress-distill-tests", "statepress-wasm"].contains(&member.as_str());
        assert!(!trains || may, "{member} must not wait for burn");
    }
}
