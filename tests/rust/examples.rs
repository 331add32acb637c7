//! The Rust examples run and say what the README promises.

use std::process::Command;

#[test]
fn the_compress_example_runs() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let output = Command::new(env!("CARGO"))
        .args([
            "run",
            "-q",
            "--manifest-path",
            manifest,
            "-p",
            "statepress-examples",
            "--example",
            "compress",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        said.contains("1902880 parameters") && said.contains("7611520 -> 2801024 bytes, 2.72x"),
        "{said}"
    );
    let agreement: f64 = said.trim().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(agreement > 0.95 && agreement <= 1.0, "{said}");
}
