//! The Rust examples run and say what the README promises; the benchmarks run. No speed is checked here.

use std::path::Path;
use std::process::Command;
use std::sync::Once;

use statepress_tests::files::fixture;

/// What an example prints.
fn example(name: &str, arguments: &[&str]) -> String {
    static BUILT: Once = Once::new();
    BUILT.call_once(build);
    let own = std::env::current_exe().unwrap();
    let name = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    let path = own.parent().and_then(Path::parent).unwrap().join("examples").join(name);
    said(Command::new(path).args(arguments))
}

/// Both packages at once, as `cargo test` for all has built them: alone, one of them would have everything below
/// built again with other features.
fn build() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "-q", "--manifest-path", manifest, "--examples"]);
    cargo.args(["-p", "statepress-tests", "-p", "statepress-examples"]);
    said(cargo.args((!cfg!(debug_assertions)).then_some("--release")));
}

fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

#[test]
fn the_compress_example_runs() {
    let said = example("compress", &[]);
    assert!(
        said.contains("1902880 parameters") && said.contains("7611520 -> 2789792 bytes, 2.73x"),
        "{said}"
    );
    let agreement: f64 = said.trim().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(agreement > 0.95 && agreement <= 1.0, "{said}");
}

#[test]
fn the_search_example_runs() {
    let said = example("best", &[]);
    let ratio = |line: &str| line.split(", ").nth(1)?.strip_suffix('x')?.parse::<f64>().ok();
    let ratio = said.lines().find_map(ratio).unwrap_or_else(|| panic!("{said}"));
    assert!((8.0..8.1).contains(&ratio) && said.contains("searched-"), "{said}");
}

#[test]
fn the_yardstick_evaluates_every_method() {
    let ids = fixture("tokenizers/heldout.bpe8000.u16.bin");
    let said = example("yardstick", &[&ids.to_string_lossy(), "--tiny"]);
    let rows: Vec<Vec<&str>> = said.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows.len(), 8, "{said}");
    for row in rows {
        // Method, bytes, published bytes, perplexity, published one, difference, tokens per second.
        assert_eq!(row.len(), 7, "{said}");
        let number = |column: usize| row[column].parse::<f64>().unwrap();
        assert_eq!(row[1], row[2], "{said}");
        assert!(number(3) > 1.0 && number(3) < 1e3 && number(6) > 0.0, "{said}");
    }
}

#[test]
fn the_entropy_coder_is_measured_on_every_matrix() {
    let said = example("entropy", &["--tiny"]);
    let rows: Vec<Vec<f64>> = said
        .lines()
        .skip(1)
        .map(|line| line.split_at(40).1.split_whitespace().map(|number| number.parse().unwrap()).collect())
        .collect();
    assert_eq!(rows.len(), 11, "{said}");
    for row in &rows {
        // Codes, bits of one, entropy, entropy by class, and two rates.
        let &[codes, bits, entropy, by_class, decoding, encoding] = row.as_slice() else { panic!("{said}") };
        // No speed is expected: a busy machine may stop for longer than a small matrix takes, and its rate is printed as 0.
        assert!(codes > 0.0 && decoding.is_finite() && encoding.is_finite(), "{said}");
        assert!(by_class < entropy && bits < 1.05 * entropy, "{said}");
    }
    // Ordinary codes of the demo: rows of 8 bits save 7 % at least, groups of 4 bits save 14 %.
    assert!(rows[8][1] < 0.93 * 8.0 && rows[9][1] < 0.86 * 4.0, "{said}");
}

/// A text in two files of ids: one to read, and one to judge by.
fn halves() -> [String; 2] {
    let ids = std::fs::read(fixture("tokenizers/heldout.bpe8000.u16.bin")).unwrap();
    let (read, judged) = ids.split_at(ids.len() / 4 * 2);
    let folder = std::env::temp_dir().join(format!("statepress-examples-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    [("read.u16.bin", read), ("judged.u16.bin", judged)].map(|(name, bytes)| {
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_string_lossy().into_owned()
    })
}

#[test]
fn a_search_is_carried_out_and_its_prediction_stands_beside() {
    let [read, judged] = halves();
    let model = fixture("../../examples/demo/itera-tiny");
    let said = example("search", &[&read, &judged, &model.to_string_lossy(), "9", "--tiny"]);
    let row = said.lines().find(|line| line.starts_with("9.") && line.contains("measured")).unwrap();
    let numbers: Vec<f64> = row.split(' ').filter_map(|word| word.parse().ok()).collect();
    // Predicted KL and change, measured KL and change.
    let &[predicted, _, measured, _] = numbers.as_slice() else { panic!("{said}") };
    assert!((0.3..3.0).contains(&(measured / predicted)), "{said}");
}

#[test]
fn calibration_is_measured_by_every_method() {
    let [read, judged] = halves();
    let model = fixture("../../examples/demo/itera-tiny");
    let said = example("calibrate", &[&read, &judged, &model.to_string_lossy(), "--tiny"]);
    let rows: Vec<&str> = said.lines().filter(|line| line.contains(" bytes ")).collect();
    assert!(rows.len() >= 7, "{said}");
    let divergence = |row: &str| row.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
    let of = |name: &str| divergence(rows.iter().find(|row| row.starts_with(name)).unwrap());
    assert!(of("gptq+ H_head (") < 0.75 * of("absmax"), "{said}");
}

#[test]
fn the_gpu_benchmark_decodes_in_every_way() {
    let said = example("gpu", &["--tiny"]);
    let rows: Vec<Vec<&str>> = said
        .lines()
        .filter(|line| line.starts_with("tiny"))
        .map(|line| line.trim_end_matches('x').split_whitespace().collect())
        .collect();
    assert_eq!(rows.len(), 9, "{said}");
    for row in rows {
        assert!(row[row.len() - 1].parse::<f64>().unwrap() > 0.0, "{said}");
    }
}
