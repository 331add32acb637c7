//! Compressing with errors made up for: what it gains on a trained model, that every family and every grid goes through, and
//! what is refused.

use std::rc::Rc;

use statepress::program::Op;
use statepress::{
    Calibration, Checkpoint, Compare, CompareOptions, Evaluate, EvaluateOptions, MemorySink, Model,
    OpenOptions, Recipe,
    recipe::{ErrorCompensation, GptqOptions},
    recipes, report, run,
};
use statepress_core::Grid;
use statepress_engine::calibrate::{Graded, part};
use statepress_kernels::codecs;
use statepress_tests::families::samples;
use statepress_tests::files::{demo, fixture, open, open_folder};
use statepress_tests::golden::Golden;
use statepress_tests::yardstick::recipe;

fn now() -> f64 {
    statepress::Clock::default().seconds()()
}

/// With its own report, and as bytes.
fn calibrated(
    checkpoint: &Checkpoint,
    recipe: &Recipe,
    ids: &[u32],
) -> Result<(report::CompressReport, Vec<u8>), statepress::Error> {
    let model = checkpoint.model()?;
    let sink = MemorySink::default();
    let job =
        checkpoint.compress_calibrated(recipe, Box::new(sink.clone()), Calibration::new(&model, ids))?;
    Ok((run(job, |_| {})?, sink.take()))
}

fn plain(checkpoint: &Checkpoint, recipe: &Recipe) -> (report::CompressReport, Vec<u8>) {
    let (job, bytes) = checkpoint.compress_to_memory(recipe).unwrap();
    (run(job, |_| {}).unwrap(), bytes.take())
}

fn reopen(bytes: Vec<u8>) -> Checkpoint {
    Checkpoint::open(bytes, OpenOptions::default()).unwrap()
}

fn divergence(base: &Checkpoint, other: Vec<u8>, ids: &[u32]) -> f64 {
    let (base, other) = (base.model().unwrap(), reopen(other).model().unwrap());
    let options = CompareOptions { window: Some(256), ..CompareOptions::default() };
    run(Compare::new(&base, &other, ids, options, now).unwrap(), |_| {}).unwrap().kl.mean
}

/// At the same size, on text that was not read; of one window, which is little: `tests/node/compensation.test.mjs` has more.
#[test]
fn divergence_falls_at_the_same_size() {
    let base = open(&demo().join("model.safetensors"), &[]);
    let ids = Golden::open(&fixture("trained/itera-tiny.safetensors")).ids("input_ids");
    let (read, judged) = ids.split_at(ids.len() / 2);
    for (grid, options) in
        [("nf4", r#","nf4":{"doubleQuant":false}"#), ("lm3", r#","groups":{"group":64,"scale":"log8"}"#)]
    {
        let recipe = recipe(&[("role:norm", "fp16"), ("*", grid)], options);
        let (before, rounded) = plain(&base, &recipe);
        let (after, compensated) = calibrated(&base, &recipe, read).unwrap();
        assert_eq!(before.plan.bytes, after.plan.bytes, "{grid}");
        let (worse, better) = (divergence(&base, rounded, judged), divergence(&base, compensated, judged));
        assert!(better < 0.92 * worse, "{grid}: {better} with compensation, {worse} without");
        let told = |code: &str| after.plan.findings.iter().find(|finding| finding.code == code);
        assert!(told("compensated").is_some(), "{grid}");
        let plainly = told("not-compensated").unwrap();
        assert!(plainly.message.contains("conv1d.weight"), "{}", plainly.message);
        let substituted = after.plan.findings.iter().filter(|finding| finding.code == "lookup-substitute");
        let substituted: Vec<_> = substituted.filter_map(|finding| finding.tensor.as_deref()).collect();
        assert_eq!(substituted, ["embedding.weight", "position_embedding.weight"], "{grid}");
        assert_eq!(after.plan.recipe, recipe.compensated(), "the report says how");
    }
}

/// Nothing is made up for then, though a text is read.
#[test]
fn scales_clip_by_what_enters_where_the_recipe_asks_for_that_alone() {
    let base = open(&demo().join("model.safetensors"), &[]);
    let ids = Golden::open(&fixture("trained/itera-tiny.safetensors")).ids("input_ids");
    let (read, judged) = ids.split_at(ids.len() / 2);
    let rules = [("role:norm", "fp16"), ("*in_proj*", "int8"), ("*", "int3")];
    let by = |clip: &str| recipe(&rules, &format!(r#","groups":{{"clip":"{clip}"}}"#));
    let (before, rounded) = plain(&base, &by("minmax"));
    let (after, clipped) = calibrated(&base, &by("activation"), read).unwrap();
    assert_eq!(before.plan.bytes, after.plan.bytes);
    let (worse, better) =
        (divergence(&base, rounded.clone(), judged), divergence(&base, clipped.clone(), judged));
    assert!(better < 0.8 * worse, "{better} by activations, {worse} without");
    let told = |code: &str| after.plan.findings.iter().find(|finding| finding.code == code);
    assert!(told("clipped-by-text").is_some() && told("compensated").is_none());
    assert!(told("clipped").unwrap().message.contains("the limit of the least error of activations"));
    let plainly = &told("not-by-text").unwrap().message;
    assert!(plainly.contains("with scales of the least squared error"), "{plainly}");
    assert!(plainly.contains("conv1d") && !plainly.contains("in_proj"), "{plainly}");
    let step = |report: &report::CompressReport| match report.plan.recipe.steps[..] {
        [statepress::recipe::Step::Quantize(ref quantize)] => quantize.clone(),
        _ => panic!("one step"),
    };
    assert_eq!(step(&after).error_compensation, ErrorCompensation::None, "the report says how");
    // What does not clip so is as it was.
    let numbers =
        |bytes: Vec<u8>, name: &str| reopen(bytes).tensor(name, &Default::default()).unwrap().statistics;
    let untouched = "layers.1.ssm.in_proj.weight";
    assert_eq!(numbers(rounded, untouched), numbers(clipped, untouched));
    let needs = base.plan(&by("activation")).unwrap().findings;
    assert!(needs.iter().any(|finding| finding.code == "needs-calibration"), "{needs:?}");
    let error = base.compress_to_memory(&by("activation")).map(drop).unwrap_err().to_string();
    assert!(error.contains("calibration is not given; allowed: a text"), "{error}");
    // Scales by activations are what errors are made up for with anyway, unless a recipe says otherwise.
    let both = |clip: &str| {
        let options = format!(
            r#","groups":{{"clip":"{clip}"}},"errorCompensation":"gptq","gptq":{{"windows":1,"window":64}}"#
        );
        numbers(
            calibrated(&base, &recipe(&rules, &options), &read[..64]).unwrap().1,
            "layers.1.ssm.out_proj.weight",
        )
    };
    assert_eq!(both("activation"), both("minmax"));
    assert_ne!(both("mse"), both("minmax"));
}

#[test]
fn a_text_is_not_read_for_codes_that_no_tensor_gets() {
    let base = open(&fixture("fixtures/il_ffn.safetensors"), &[]);
    let recipe = recipe(&[("nothing*", "nf4"), ("*", "int8")], r#","nf4":{"clip":"activation"}"#);
    let ids: Vec<u32> = (0..64).map(|i| i % 7).collect();
    let (without, bytes) = plain(&base, &recipe);
    let (with, again) = calibrated(&base, &recipe, &ids).unwrap();
    let numbers =
        |bytes: Vec<u8>| reopen(bytes).tensor("layers.0.ssm.in_proj.weight", &Default::default()).unwrap();
    assert_eq!(numbers(bytes).statistics, numbers(again).statistics);
    let told =
        |report: &report::CompressReport| report.plan.findings.iter().any(|it| it.code == "text-not-read");
    assert_eq!([&without, &with].map(told), [false, true]);
}

#[test]
fn whoever_judges_by_the_text_that_was_read_is_told() {
    let base = open(&fixture("fixtures/il_moe.safetensors"), &[]);
    let text = |n: u32| -> Vec<u32> { (0..240).map(|i| (i * i * n + 11 * i) % 50).collect() };
    let (read, other) = (text(7), text(3));
    let (_, bytes) = calibrated(&base, &recipe(&[("*", "nf4")], ""), &read).unwrap();
    // Also through a second compression.
    let (_, again) = plain(&reopen(bytes.clone()), &recipes::find("fp16").unwrap());
    let told = |bytes: &[u8], ids: &[u32]| {
        let model = reopen(bytes.to_vec()).model().unwrap();
        let evaluation =
            run(Evaluate::new(&model, ids, &EvaluateOptions::default(), now).unwrap(), |_| {}).unwrap();
        let options = CompareOptions::default();
        let card =
            run(Compare::new(&base.model().unwrap(), &model, ids, options, now).unwrap(), |_| {}).unwrap();
        let of = |findings: &[statepress::Finding]| {
            findings.iter().find(|it| it.code == "calibration-text").map(|it| it.message.clone())
        };
        assert_eq!(of(&card.a.findings), None, "the base was fitted to nothing");
        assert_eq!(of(&card.b.findings), of(&evaluation.findings));
        of(&evaluation.findings)
    };
    for bytes in [&bytes, &again] {
        let longer = [&read[..], &other].concat();
        assert!(told(bytes, &longer).unwrap().contains("it has 10 of the 10 stretches"));
        // By the very text nothing is judged.
        let (model, options) = (reopen(bytes.clone()).model().unwrap(), CompareOptions::default());
        let alone = Evaluate::new(&model, &read, &EvaluateOptions::default(), now).err().unwrap();
        let beside = Compare::new(&base.model().unwrap(), &model, &read, options, now).err().unwrap();
        for error in [alone, beside] {
            assert!(error.to_string().contains("judge it by another text"), "{error}");
        }
        let part = [&other[..100], &read[..60]].concat();
        assert!(told(bytes, &part).is_some(), "a part of it, elsewhere");
        assert_eq!(told(bytes, &other), None);
    }
    let (_, rounded) = plain(&base, &recipe(&[("*", "nf4")], ""));
    assert_eq!(told(&rounded, &read), None, "no text, no mark");
}

/// Experts in one tensor, transposed matrices, tied and untied heads: the codes of a file are what a reader makes of them. A grid for
/// each family, in turn.
#[test]
fn every_family_goes_through_and_every_grid_with_some() {
    let mut seen = 0;
    for sample in samples().iter().filter(|sample| sample.golden.is_some()) {
        let checkpoint = open_folder(&sample.folder);
        let ids: Vec<u32> = (0..96).map(|i| (i * 37 + 11) % sample.vocab as u32).collect();
        let mut small =
            recipe(&[("*", Grid::ALL[seen % Grid::ALL.len()].name())], r#","groups":{"group":16}"#);
        for step in &mut small.steps {
            if let statepress::recipe::Step::Quantize(quantize) = step {
                quantize.error_compensation = ErrorCompensation::Gptq;
                quantize.gptq = Some(GptqOptions { windows: 3, window: 32, ..GptqOptions::default() });
            }
        }
        let (report, bytes) = calibrated(&checkpoint, &small, &ids).unwrap();
        let (_, again) = calibrated(&checkpoint, &small, &ids).unwrap();
        assert!(bytes == again, "{}: the same text gives the same bytes", sample.name);
        let (_, rounded) = plain(&checkpoint, &recipe(&[("*", "fp32")], ""));
        let (coded, float) = (reopen(bytes), reopen(rounded));
        for tensor in &report.plan.tensors {
            let error = tensor.error.unwrap();
            let relative = error.cosine.unwrap_or(1.0);
            // Compensation moves weights far from where they were, at two bits most of all.
            assert!(relative > 0.3, "{}: {} has cosine {relative}", sample.name, tensor.name);
        }
        assert_eq!(coded.inspection().tensors.len(), float.inspection().tensors.len(), "{}", sample.name);
        coded.model().unwrap();
        seen += 1;
    }
    assert!(seen > Grid::ALL.len(), "{seen} families");
}

/// Rows of zeros stay zeros, whatever the grid and its scales, and their neighbours do not feel them.
#[test]
fn rows_of_zeros_stay_zeros() {
    use statepress_core::Group;
    use statepress_core::encoding::{Coding, ScaleType};
    use statepress_kernels::gptq::{Groups, Options, Prepared, round};
    let mut random = fastrand::Rng::with_seed(3);
    let (rows, cols) = (24, 32);
    let mut h = vec![0.0; cols * cols];
    for _ in 0..200 {
        let x: Vec<f32> = (0..cols).map(|_| random.f32() - 0.3).collect();
        (0..cols * cols).for_each(|at| h[at] += x[at / cols] * x[at % cols]);
    }
    let mut values: Vec<f32> = (0..rows * cols).map(|_| random.f32() - 0.5).collect();
    (0..rows).filter(|row| row % 2 == 0).for_each(|row| values[row * cols..][..cols].fill(0.0));
    let prepared = Prepared::new(&h, cols, 0.01, "w");
    for (grid, scale) in [
        (Grid::Nf4, ScaleType::Double),
        (Grid::Nf4, ScaleType::Fp32),
        (Grid::Lm3, ScaleType::Log8),
        (Grid::Lm2, ScaleType::Fp16),
        (Grid::Int4, ScaleType::Fp16),
        (Grid::Int3, ScaleType::Log8),
    ] {
        for passes in [0, 2] {
            let coding = Coding { grid, group: Group::Values(16), scale };
            let groups = Groups { rows, cols, group: 16, transposed: false };
            let options = Options { passes, ..Options::default() };
            let rounded = round(&prepared, &values, coding, groups, &options);
            if scale != ScaleType::Double {
                // Two groups are a row, so that nothing but a scale could tie rows together.
                let odd: Vec<f32> = values.chunks(2 * cols).flat_map(|pair| &pair[cols..]).copied().collect();
                let alone = round(&prepared, &odd, coding, Groups { rows: rows / 2, ..groups }, &options);
                let among = rounded.codes.chunks(2 * cols).flat_map(|pair| &pair[cols..]);
                assert!(among.eq(&alone.codes), "{grid:?} {scale:?}: zeros beside a row change its codes");
            }
            let tensor = codecs::assemble(&[rows, cols], coding, rounded.codes, rounded.scales).unwrap();
            let decoded = codecs::decode(&tensor);
            for row in 0..rows {
                let (was, is) = (&values[row * cols..][..cols], &decoded[row * cols..][..cols]);
                let worst = was.iter().zip(is).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                // With double quantization a scale is off by what 8 bits are off.
                let allowed = if row % 2 > 0 {
                    1.0
                } else if scale == ScaleType::Double {
                    0.02
                } else {
                    1e-6
                };
                assert!(worst <= allowed, "{grid:?} {scale:?}, {passes} passes, row {row}: {worst}");
            }
        }
    }
}

#[test]
fn codes_and_scales_that_somebody_chose_are_stored_as_they_are() {
    use statepress_core::Group;
    use statepress_core::encoding::{Coding, ScaleType};
    for &grid in Grid::ALL {
        let group = if grid == Grid::Int8 { Group::Row } else { Group::Values(8) };
        let codes: Vec<u8> = (0..32u8).map(|i| i.wrapping_mul(29)).collect();
        let scales = vec![0.5, 0.25, 2.0, 1.0];
        let shape = if grid == Grid::Int8 { [4, 8] } else { [2, 16] };
        let scale = match grid {
            Grid::Int8 => ScaleType::Fp32,
            Grid::Int4 | Grid::Nf4 => ScaleType::Fp16,
            _ => ScaleType::Log8,
        };
        let coding = Coding { grid, group, scale };
        let tensor = codecs::assemble(&shape, coding, codes.clone(), scales.clone()).unwrap();
        let expected: Vec<f32> =
            codes.iter().enumerate().map(|(i, &code)| grid.level(code) * scales[i / 8]).collect();
        assert_eq!(codecs::decode(&tensor), expected, "{grid:?}");
        assert!(codecs::assemble(&shape, coding, codes, vec![1.0]).is_err());
    }
}

#[test]
fn a_text_and_a_recipe_that_do_not_fit_are_refused_by_name() {
    let base = open(&fixture("fixtures/il_ffn.safetensors"), &[]);
    let nf4 = recipe(&[("*", "nf4")], "");
    let error = base.compress_to_memory(&nf4.clone().compensated()).map(drop).unwrap_err();
    assert!(error.to_string().contains("option calibration is not given; allowed: a text"), "{error}");
    let none = statepress::recipes::find("none").unwrap();
    let ids: Vec<u32> = (0..64).map(|i| i % 7).collect();
    let error = calibrated(&base, &none, &ids).map(drop).unwrap_err();
    assert!(error.to_string().contains("quantizes nothing with errorCompensation"), "{error}");
    let fp16 = statepress::recipes::find("fp16").unwrap();
    let error = calibrated(&base, &fp16, &ids).map(drop).unwrap_err();
    assert!(error.to_string().contains("quantizes nothing with errorCompensation"), "{error}");
    let vectors = recipe(&[("role:norm", "nf4"), ("*", "fp16")], "");
    let error = calibrated(&base, &vectors, &ids).map(drop).unwrap_err();
    assert!(error.to_string().contains("codes no matrix of the model"), "{error}");
    let needs = base.plan(&nf4.clone().compensated()).unwrap().findings;
    assert!(needs.iter().any(|finding| finding.code == "needs-calibration"), "{needs:?}");
    let error = calibrated(&base, &nf4, &[]).map(drop).unwrap_err();
    assert!(error.to_string().contains("0 tokens do not fill one window"), "{error}");
    let error = calibrated(&base, &nf4, &[u32::MAX; 64]).map(drop).unwrap_err();
    assert!(error.to_string().contains("outside the vocabulary"), "{error}");
    for (options, why) in [
        (r#"{"windows":0}"#, "gptq.windows is 0; allowed: 1 to 4096"),
        (r#"{"damping":0}"#, "gptq.damping is 0; allowed: above 0 and at most 1"),
        (r#"{"passes":9}"#, "gptq.passes is 9; allowed: 0 to 8"),
        (r#"{"pass":1}"#, "unknown field `pass`"),
    ] {
        let json = format!(
            r#"{{"version":1,"name":"t","steps":[{{"quantize":{{"rules":[],"otherwise":"nf4","errorCompensation":"gptq","gptq":{options}}}}}]}}"#
        );
        let error = Recipe::from_json(&json).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

/// A measurement of gradients of a model: every output matters otherwise than its neighbours.
fn fisher_of(model: &Model) -> report::Fisher {
    let program = &model.info.program;
    let d = program.matrix(program.table).cols;
    let looked_up = (0..d * d).map(|at| if at % (d + 1) == 0 { 2.0 } else { 0.1 }).collect();
    let entered = statepress_engine::calibrate::entered(program).into_iter();
    let outputs = entered.filter(|&id| id != program.head.matrix).map(|id| {
        let matrix = program.matrix(id);
        let rows = (0..matrix.rows).map(|row| (row % 3) as f32).collect();
        report::OutputFisher { key: matrix.key.clone(), part: part(&matrix.layout), rows }
    });
    report::Fisher { tokens: 512, looked_up, outputs: outputs.collect() }
}

fn told(findings: &[statepress::Finding], code: &str) -> Option<String> {
    findings.iter().find(|it| it.code == code).map(|it| it.message.clone())
}

/// What gradients say is used where it is about the model that is compressed, and only there.
#[test]
fn gradients_are_used_where_they_fit_and_said() {
    let base = open(&fixture("fixtures/il_ffn.safetensors"), &[]);
    let model = base.model().unwrap();
    let ids: Vec<u32> = (0..64).map(|i| i * 7 % 50).collect();
    // Steps of rows are as large as the loss can bear.
    let stepped = r#"{"version":1,"name":"t","steps":[{"quantize":{"rules":[{"match":"*","precision":"int8","step":0.3}],
        "otherwise":"fp32","coded":true,"errorCompensation":"gptq"}}]}"#;
    let stepped = Recipe::from_json(stepped).unwrap();
    let compressed = |fisher: Option<report::Fisher>| {
        let sink = MemorySink::default();
        let calibration = Calibration { fisher: fisher.map(Rc::new), ..Calibration::new(&model, &ids) };
        let job = base.compress_calibrated(&stepped, Box::new(sink.clone()), calibration)?;
        Ok::<_, statepress::Error>((run(job, |_| {})?.plan.findings, sink.take()))
    };
    let (without, plain) = compressed(None).unwrap();
    assert!(told(&without, "gradients").is_none() && told(&without, "lookup-substitute").is_some());
    let fisher = fisher_of(&model);
    let (with, better) = compressed(Some(fisher.clone())).unwrap();
    let said = told(&with, "gradients").unwrap();
    assert!(said.contains("14 matrices") && said.contains("512 tokens"), "{said}");
    assert!(told(&with, "lookup-substitute").is_none() && told(&with, "gradients-unfit").is_none());
    assert!(plain != better, "they change what is written");

    let mut short = fisher.clone();
    short.outputs[0].rows.pop();
    let (part, _) = compressed(Some(short)).unwrap();
    let said = told(&part, "gradients-unfit").unwrap();
    assert!(said.contains("1 tensor,") && said.contains(&fisher.outputs[0].key), "{said}");
    let (other, _) = compressed(Some(report::Fisher { looked_up: vec![1.0], ..fisher.clone() })).unwrap();
    assert!(told(&other, "lookup-substitute").is_some() && told(&other, "gradients-unfit").is_some());

    let mut foreign = fisher;
    foreign.outputs.iter_mut().for_each(|it| it.key.push('x'));
    let error = compressed(Some(foreign)).unwrap_err().to_string();
    assert!(error.contains("option gradients is of another model"), "{error}");
}

/// The rows of a table that is no head are told apart by the head, which has to be measured first all the same.
#[test]
fn gradients_leave_rows_that_are_used_most_known() {
    let base = open(&fixture("fixtures/il_ffn.untied.pt"), &[]);
    let model = base.model().unwrap();
    let ids: Vec<u32> = (0..64).map(|i| i * 7 % 50).collect();
    let rows = r#"{"version":1,"name":"t","steps":[{"quantize":{"rules":[{"match":"role:table","precision":"lm3",
        "rows":[{"count":3,"precision":"fp16"}]}],"otherwise":"fp32","errorCompensation":"gptq"}}]}"#;
    let fisher = Some(Rc::new(fisher_of(&model)));
    let calibration = Calibration { fisher, ..Calibration::new(&model, &ids) };
    let job = base.compress_calibrated(
        &Recipe::from_json(rows).unwrap(),
        Box::new(MemorySink::default()),
        calibration,
    );
    let report = run(job.unwrap(), |_| {}).unwrap();
    assert!(told(&report.plan.findings, "gradients").is_some());
}

/// Experts that are left have other numbers than they had: nobody knows whose gradients are whose.
#[test]
fn gradients_of_experts_are_left_out_once_some_were_removed() {
    let base = open(&fixture("fixtures/il_moe.safetensors"), &[]);
    let model = base.model().unwrap();
    let fisher = fisher_of(&model);
    let prune = r#"{"version":1,"name":"t","steps":[{"prune":{"kind":"experts","keep":0.5}}]}"#;
    let (_, bytes) = plain(&base, &Recipe::from_json(prune).unwrap());
    let left = reopen(bytes).model().unwrap();
    for (model, knows) in [(&model, true), (&left, false)] {
        let program = &model.info.program;
        let graded = Graded::new(&fisher, program).unwrap();
        let mut experts = 0;
        for node in &program.nodes {
            let Op::Experts(op) = &node.op else { continue };
            for expert in &op.experts {
                assert_eq!(graded.rows(program, expert.up).is_some(), knows);
                assert_eq!(graded.rows(program, expert.down).is_some(), knows);
                experts += 1;
            }
        }
        assert!(experts > 1);
        assert_eq!(told(&graded.findings, "gradients-unfit").is_none(), knows);
    }
}
