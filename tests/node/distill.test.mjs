// Distillation, as a user runs it: a student made of a teacher, trained by its predictions, in a file like any other.

import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { compare, distill, gradients, open, recover, search } from "statepress";
import { cli, fixture, scratch } from "../support/node.mjs";

const folder = scratch();
const TEACHER = fixture("fixtures/il_moe.safetensors");

/** Ids that can be learned: four in a row, in one of five orders. */
function text(length, seed) {
  let state = seed;
  const next = () => {
    state = (state * 1103515245 + 12345) % 2 ** 31;
    return Math.floor(state / 2 ** 16);
  };
  return Uint16Array.from({ length: Math.ceil(length / 4) }, () => 8 * (next() % 5)).reduce((ids, first, at) => {
    for (let i = 0; i < 4 && 4 * at + i < length; i++) ids[4 * at + i] = first + ((i * 3) % 8);
    return ids;
  }, new Uint16Array(length));
}

const ids = text(4096, 1);
const judges = text(512, 2);
const bin = (name, values) => {
  const path = join(folder, name);
  writeFileSync(path, values);
  return path;
};
const train = bin("train.bin", ids);
const heldOut = bin("held-out.bin", judges);
const short = { steps: 60, window: 24, batch: 4 };

test("the command trains a student that is smaller, and says what was trained on what with which result", async () => {
  const out = join(folder, "student.safetensors");
  const asked = ["--ids", train, "--held-out-ids", heldOut, "--student", "inner=0.5", "--steps", "60"];
  const args = ["distill", TEACHER, "-o", out, ...asked, "--window", "24", "--batch", "4", "--alpha", "0.2", "--json"];
  const said = await cli(args);
  assert.equal(said.code, 0, said.stderr);
  const { params, bytes, steps, tokens, seconds, validation, device, best, stopped, heldOutTokens } = said.json;
  assert.deepEqual([steps, tokens, device, stopped], [60, 60 * 4 * 24, "flex", "finished"]);
  assert.ok(seconds > 0 && heldOutTokens > 400, `${seconds} s, ${heldOutTokens}`);
  const [first, last] = [validation[0], validation.at(-1)];
  assert.deepEqual([first.step, last.step], [0, 60]);
  assert.ok(best.perplexity < 0.8 * first.perplexity, JSON.stringify(validation));
  assert.ok(bytes.ratio > 1 && bytes.before > bytes.after, JSON.stringify(bytes));
  const report = JSON.parse(readFileSync(`${out}.report.json`, "utf8"));
  assert.deepEqual([report.training.best, report.recipe.steps.length], [best, 1]);

  // The student is a checkpoint like any other: it is as good as was said, and compresses.
  const inspected = await cli(["inspect", out, "--json"]);
  assert.equal(inspected.json.params, params);
  const judged = await cli(["evaluate", out, "--ids", heldOut, "--window", "24", "--json"]);
  assert.ok(Math.abs(judged.json.perplexity / best.perplexity - 1) < 0.05, `${judged.json.perplexity}`);
  const small = join(folder, "small.safetensors");
  assert.equal((await cli(["compress", out, "-o", small, "--recipe", "int8", "--json"])).code, 0);
  // What it was trained on flatters it, which whoever measures on a part of that is told; on all of it nothing is measured.
  const part = bin("part.bin", ids.slice(0, 2048));
  const flattered = await cli(["evaluate", out, "--ids", part, "--window", "24", "--json"]);
  assert.ok(
    flattered.json.findings.some(({ code }) => code === "calibration-text"),
    JSON.stringify(flattered.json.findings),
  );
  const refused = await cli(["evaluate", out, "--ids", train, "--window", "24", "--json"]);
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /fitted to this very text, .* judge it by another text/);
});

test("the library tells of every look, gives the same for the same seed, and keeps the best when it is enough", async () => {
  const teacher = await open(TEACHER);
  const student = [{ prune: { kind: "width", keep: 0.5 } }];
  const points = [];
  const asked = { student, text: ids, heldOut: judges, ...short, validateEvery: 10 };
  const [a, b] = [
    await distill(teacher, { ...asked, onPoint: (point) => points.push(point) }),
    await distill(teacher, asked),
  ];
  const looks = ({ report }) => report.training.validation.map(({ step, nll }) => [step, nll]);
  assert.deepEqual(looks(a), looks(b));
  assert.deepEqual(points, a.report.training.validation);
  assert.equal(points.length, 7);
  // What it says at a look, where there is a tokenizer to say it by; without one it trains all the same.
  const tokenizer = { encode: () => [], decode: (of) => Array.from(of, (id) => ` ${id}`).join("") };
  const speaking = await open(TEACHER, { tokenizer });
  const said = [];
  const spoken = await distill(speaking, { ...asked, sample: 5, onPoint: ({ sample }) => said.push(sample) });
  assert.deepEqual([looks(spoken), said.length], [looks(a), 7]);
  for (const { prompt, text } of said) {
    assert.equal(prompt, tokenizer.decode(judges.slice(0, 16)));
    assert.match(text, /^( \d+){5}$/);
  }
  const silent = await distill(teacher, { ...asked, steps: 10, sample: 5, onPoint: (it) => said.push(it.sample) });
  assert.equal(said.at(-1), undefined);
  for (const it of [spoken, silent, speaking]) it.dispose();
  const other = await distill(teacher, { ...asked, seed: 1 });
  assert.notDeepEqual(looks(other), looks(a));
  // Fresh numbers begin where nothing is known: near one over the vocabulary.
  const fresh = await distill(teacher, { ...asked, init: "fresh" });
  assert.ok(Math.abs(Math.log(50) - looks(fresh)[0][1]) < 0.3, `${looks(fresh)[0]}`);
  const card = await compare(teacher, a, { ids: judges, window: 24, backend: "cpu" });
  assert.ok(card.kl.mean > 0 && card.bytes.ratio > 1);

  const enough = new AbortController();
  const early = await distill(teacher, {
    ...asked,
    steps: 10_000,
    enough: enough.signal,
    onPoint: ({ step }) => step >= 20 && enough.abort(),
  });
  const { stopped, steps } = early.report.training;
  assert.equal(stopped, "asked");
  assert.ok(steps >= 20 && steps < 1000, `${steps}`);
  const timed = await distill(teacher, { ...asked, steps: undefined, minutes: 1 / 60 });
  assert.equal(timed.report.training.stopped, "finished");
  assert.ok(timed.report.training.steps > 8 && timed.report.training.seconds < 20);
  for (const it of [a, b, other, fresh, early, timed]) it.dispose();
  teacher.dispose();
});

test("training that was paused, or has crashed, goes on to the very student that it would have become", async () => {
  const teacher = await open(TEACHER);
  const student = [{ prune: { kind: "width", keep: 0.5, by: "loss", repair: true } }];
  const asked = { student, init: "fresh", text: ids, heldOut: judges, ...short, steps: 30, validateEvery: 10 };
  const whole = await distill(teacher, asked);
  const bytes = async (checkpoint) => Buffer.from(await (await checkpoint.save("blob")).arrayBuffer());
  const looks = (points) => points.map(({ step, tokens, nll }) => [step, tokens, nll]);
  // A snapshot after every look but the last, from any of which it goes on, in another process as well.
  const kept = [];
  const told = await distill(teacher, { ...asked, onSnapshot: (snapshot) => kept.push(snapshot) });
  assert.equal(kept.length, 3);
  told.dispose();
  for (const resume of kept) {
    const again = [];
    const made = await distill(teacher, { resume, onPoint: (point) => again.push(point) });
    assert.deepEqual(looks(again), looks(whole.report.training.validation), "looks before it are told again");
    assert.deepEqual(await bytes(made), await bytes(whole));
    assert.deepEqual(made.report.recipe, whole.report.recipe);
    assert.ok(made.report.findings.some(({ code }) => code === "resumed"));
    made.dispose();
  }
  // Paused between two looks.
  const pause = new AbortController();
  let last;
  const paused = distill(teacher, {
    ...asked,
    onSnapshot: (snapshot) => {
      last = snapshot;
    },
    onProgress: ({ stage, done }) => stage === "train" && done >= 14 && pause.abort(),
    pause: pause.signal,
  });
  await assert.rejects(paused, { code: "aborted", message: /paused/ });
  const made = await distill(teacher, { resume: last });
  assert.deepEqual(await bytes(made), await bytes(whole));

  const refused = async (options, why) => assert.rejects(distill(teacher, options), why);
  await refused({ resume: last, steps: 10 }, /option steps is given with resume; allowed: none/);
  await refused({ resume: "snapshot" }, /option resume is "snapshot"; allowed: a Uint8Array/);
  await refused({ resume: new Uint8Array(readFileSync(TEACHER)) }, /option resume is a file without/);
  const other = await teacher.compress("fp16");
  await assert.rejects(
    distill(other, { resume: last }),
    /began with another model, or with a student that was made otherwise/,
  );
  for (const it of [whole, made, teacher, other]) it.dispose();
});

test("on the command line a training goes on from a file, after a crash too", async () => {
  const [out, snapshot] = [join(folder, "resumed.safetensors"), join(folder, "run.snapshot")];
  const student = ["--student", "inner=0.5", "--ids", train, "--held-out-ids", heldOut, "--window", "24"];
  const begin = ["distill", TEACHER, "-o", out, ...student, "--steps", "40", "--json", "--snapshot", snapshot];
  const whole = await cli(begin);
  assert.equal(whole.code, 0, whole.stderr);
  // What stands in the file is where the last look but one left it.
  const resume = ["distill", TEACHER, "-o", out, "--force", "--resume", snapshot, "--json"];
  const again = await cli(resume);
  assert.equal(again.code, 0, again.stderr);
  assert.match(again.stderr, /training goes on from step \d+/);
  const looks = ({ json }) => json.validation.map(({ step, nll }) => [step, nll]);
  assert.deepEqual(looks(again), looks(whole));
  for (const [more, why] of [
    [["--steps", "9"], /--steps goes with a training that begins/],
    [["--snapshot", out], /--snapshot and --output name the same file/],
  ]) {
    const said = await cli([...resume, ...more]);
    assert.deepEqual([said.code, why.test(said.stderr)], [2, true], said.stderr);
  }
  const unforced = await cli([...begin.slice(0, 3), join(folder, "new.safetensors"), ...begin.slice(4)]);
  assert.match(
    unforced.stderr,
    /run\.snapshot exists/,
    "a snapshot is replaced when that is forced, or when it is gone on from",
  );
  assert.equal(existsSync(join(folder, "new.safetensors")), false);
});

test("what compressing lost is healed in part, and every code stays", async () => {
  const [plain, out] = [join(folder, "plain.safetensors"), join(folder, "healed.safetensors")];
  const recipe = ["--recipe", "int4", "--json"];
  assert.equal((await cli(["compress", TEACHER, "-o", plain, ...recipe])).code, 0);
  const said = await cli(["compress", TEACHER, "-o", out, ...recipe, "--recover-ids", train, "--steps", "40"]);
  assert.equal(said.code, 0, said.stderr);
  const { recovered, training, bytes } = said.json;
  assert.ok(recovered.klAfter < recovered.klBefore, JSON.stringify(recovered));
  assert.ok(training.trainedParams < training.params / 5, JSON.stringify(training));
  const [before, after] = [await open(plain), await open(out)];
  assert.equal(bytes.after, after.inspection.bytes);
  assert.equal(before.inspection.bytes, after.inspection.bytes);
  const { name } = before.inspection.tensors.find(({ dtype }) => /int4/i.test(dtype));
  const values = async (of) => (await of.tensor(name)).statistics;
  assert.deepEqual(await values(before), await values(after));
  before.dispose();
  after.dispose();
  const step = { weights: "vectors", steps: 40, alpha: 1, learningRate: 0.001 };
  assert.deepEqual(said.json.recipe.steps.at(-1), { recover: step });
  for (const option of [
    ["--steps", "4"],
    ["--alpha", "0.5"],
    ["--recover-weights", "all"],
  ]) {
    const usage = await cli(["compress", TEACHER, "-o", join(folder, "no.safetensors"), "--recipe", "int4", ...option]);
    assert.equal(usage.code, 2);
    assert.match(usage.stderr, /goes with --recover/);
  }
});

test("codes that are trained heal more, in as many bytes where they are packed", async () => {
  const teacher = await open(TEACHER);
  const step = (coded) => ({ quantize: { rules: [], otherwise: "lm2", groups: { group: 16 }, coded } });
  for (const coded of [false, true]) {
    const compressed = await teacher.compress({ version: 1, name: "t", steps: [step(coded)] });
    const asked = { text: ids, heldOut: judges, ...short, steps: 80, learningRate: 1e-2 };
    const [vectors, all] = [
      await recover(teacher, compressed, asked),
      await recover(teacher, compressed, { ...asked, weights: "all" }),
    ];
    const { klBefore, klAfter, bytesBefore, bytesAfter, codesChanged } = all.report.recovered;
    assert.ok(klAfter < vectors.report.recovered.klAfter && klAfter < klBefore, JSON.stringify(all.report.recovered));
    assert.ok(codesChanged > 0 && codesChanged < 1, `${codesChanged}`);
    assert.equal(vectors.report.recovered.codesChanged, undefined);
    assert.equal(bytesBefore, compressed.inspection.bytes);
    if (coded) assert.ok(Math.abs(bytesAfter / bytesBefore - 1) < 0.1, `${bytesBefore} ${bytesAfter}`);
    else assert.equal(bytesAfter, bytesBefore);
    const dtypes = ({ inspection }) => inspection.tensors.map(({ name, dtype }) => [name, dtype]);
    assert.deepEqual(dtypes(all), dtypes(compressed));
    // The best is what the teacher finds best, and the file is what was judged.
    const { best, validation, params, trainedParams } = all.report.training;
    assert.equal(best.kl, Math.min(...validation.map(({ kl }) => kl)));
    assert.ok(Math.abs(klAfter / best.kl - 1) < 0.05, `${klAfter} ${best.kl}`);
    assert.equal(trainedParams, params);
    for (const it of [compressed, vectors, all]) it.dispose();
  }
  const compressed = await teacher.compress("int4");
  const refused = recover(teacher, compressed, { text: ids, weights: "codes" });
  await assert.rejects(refused, ({ code, message }) => code === "bad-option" && /weights is codes/.test(message));
  compressed.dispose();
  teacher.dispose();
});

test("pruning, rounding and recovery are one recipe, one report and one file", async () => {
  const prune = { prune: { kind: "inner", keep: 0.5 } };
  const quantize = { quantize: { rules: [], otherwise: "lm2", groups: { group: 16 } } };
  const step = { weights: "all", steps: 40, alpha: 1, learningRate: 1e-2 };
  const recipe = { version: 1, name: "small", steps: [prune, quantize, { recover: step }] };
  const teacher = await open(TEACHER);
  assert.ok((await teacher.plan(recipe)).findings.some(({ code }) => code === "needs-training-text"));
  const { steps, ...how } = short;
  const points = [];
  const texts = { text: ids, heldOut: judges, ...how, onPoint: (point) => points.push(point) };
  const healed = await teacher.compress(recipe, { recover: texts });
  const { report } = healed;
  const { klBefore, klAfter, codesChanged } = report.recovered;
  assert.ok(klAfter < klBefore && codesChanged > 0, JSON.stringify(report.recovered));
  assert.equal(points.length, report.training.validation.length);
  assert.equal(report.pruned[0].step.kind, "inner");
  assert.equal(report.bytes.before, teacher.inspection.bytes);
  assert.deepEqual(report.recipe.steps.at(-1), { recover: step });
  // Codes begin beside what pruning has left: of the original they would have no numbers of that shape.
  const [pruned, coded] = [
    { ...recipe, steps: [prune] },
    { ...recipe, steps: [prune, quantize] },
  ];
  const [uncoded, compressed] = [await teacher.compress(pruned), await teacher.compress(coded)];
  const by = async (more) => {
    const made = await recover(teacher, compressed, { ...texts, ...step, ...more });
    const bytes = Buffer.from(await (await made.save("blob")).arrayBuffer());
    made.dispose();
    return bytes;
  };
  const file = Buffer.from(await (await healed.save("blob")).arrayBuffer());
  assert.ok(file.equals(await by({ uncoded })), "the same by single calls");
  assert.ok(!file.equals(await by({})));
  const read = await open(new Uint8Array(file));
  assert.deepEqual(read.inspection.recipe, report.recipe, "the file says what made it");
  for (const it of [healed, uncoded, compressed, read]) it.dispose();
  for (const [given, asked, message] of [
    [recipe, {}, /option recover is not given; allowed: an object with the text to train on/],
    [
      recipe,
      { recover: { ...texts, steps: 9 } },
      /recovery has no option 'steps'; it has text, .*: the recipe, or compress itself, says the rest/,
    ],
    [recipe, { recover: { ...texts, heldout: judges } }, /recovery has no option 'heldout'; .*did you mean 'heldOut'/],
    [recipe, { recover: { ...texts, minutes: -1 } }, /option minutes is -1/],
    [recipe, { recover: { ...texts, sample: 1e9 } }, /option sample is 1000000000; allowed: .* at most 256/],
    [recipe, { recover: texts, gradients: true }, /option gradients is given without a text/],
    ["auto-small", { calibration: ids, recover: texts }, /option recover is given; allowed: none, as no step/],
    [coded, { recover: texts }, /option recover is given; allowed: none, as no step of the recipe trains/],
  ]) {
    await assert.rejects(teacher.compress(given, asked), { code: "bad-option", message });
  }
  // Steps before that read a text, and a training that is enough before it has begun.
  const table = { ...recipe, steps: [{ basis: {} }, quantize, { recover: { weights: "all", steps: 4 } }] };
  const enough = AbortSignal.abort();
  const based = await teacher.compress(table, { calibration: ids, recover: { ...texts, enough } });
  // The recipe names the updates that were done; it has no words for none.
  assert.deepEqual(based.report.recipe.steps.at(-1).recover.steps, 1);
  assert.deepEqual([based.report.training.steps, based.report.training.stopped], [0, "asked"]);
  based.dispose();
  const first = { ...recipe, steps: [{ recover: {} }] };
  await assert.rejects(teacher.compress(first, { recover: texts }), {
    code: "bad-recipe",
    message: /recover at first/,
  });
  teacher.dispose();
  const [json, out] = [join(folder, "recipe.json"), join(folder, "recovered.safetensors")];
  writeFileSync(json, JSON.stringify(recipe));
  const command = ["compress", TEACHER, "-o", out, "--recipe", json];
  const silent = await cli(command);
  assert.equal(silent.code, 2);
  assert.match(
    silent.stderr,
    /the recipe small trains what it makes: --recover TEXT or --recover-ids BIN says on what/,
  );
  const twice = await cli([...command, "--recover-ids", train, "--steps", "3"]);
  assert.match(twice.stderr, /--steps is for recipes without a recover step: small says it there/);
  assert.equal(existsSync(out), false);
});

test("what cannot be trained is refused, and nothing is left behind", async () => {
  const teacher = await open(TEACHER);
  const student = [{ prune: { kind: "inner", keep: 0.5 } }];
  const asked = { student, text: ids, ...short };
  const refuses = (options, code, message) =>
    assert.rejects(distill(teacher, { ...asked, ...options }), { code, message });
  await refuses({ student: [] }, "bad-option", /student is a list without steps/);
  await refuses({ student: [{ quantize: { rules: [], otherwise: "nf4" } }] }, "bad-option", /quantize step/);
  await refuses(
    { student: [{ prune: { kind: "inner", keep: 1 } }] },
    "bad-option",
    /student is steps that remove nothing/,
  );
  await refuses({ student: [{ center: {} }] }, "bad-option", /student is steps that remove nothing/);
  const rows = { student: [{ prune: { kind: "vocabulary", keep: 0.5, by: "usage" } }] };
  await refuses(rows, "unknown-model", /rows for some ids only .* neither trained/);
  await refuses({ alpha: 2 }, "bad-option", /alpha is 2; allowed: 0/);
  await refuses({ minutes: 0 }, "bad-option", /minutes is 0/);
  await refuses({ window: 4096 }, "bad-option", /window is 4096; allowed: 1 to/);
  await refuses({ text: ids.slice(0, 20) }, "bad-ids", /text has .* tokens/);
  await refuses({ text: [4000] }, "bad-ids", /tokens|vocabulary/);
  await refuses({ heldOut: ids.slice(512, 1024) }, "bad-ids", /held-out text is among the text/);
  await refuses({ onpoint: () => {} }, "bad-option", /no option 'onpoint'/);
  const controller = new AbortController();
  const stop = { signal: controller.signal, onPoint: () => controller.abort() };
  await refuses(stop, "aborted", /./);
  teacher.dispose();

  const out = join(folder, "none.safetensors");
  const usage = await cli(["distill", TEACHER, "-o", out, "--ids", train]);
  assert.equal(usage.code, 2);
  assert.match(usage.stderr, /--student inner=0\.5/);
  const bad = await cli(["distill", TEACHER, "-o", out, "--ids", train, "--student", "rows=1"]);
  assert.equal(bad.code, 2);
  assert.match(bad.stderr, /--student takes one of inner, .*, layers, sublayers, vocabulary, not 'rows'/);
  assert.ok(!existsSync(out));
  assert.deepEqual(
    readdirSync(folder).filter((name) => name.startsWith(".statepress")),
    [],
  );
});

test("gradients say what weights are rounded for, alike in the library and on the command line", async () => {
  const recipe = {
    version: 1,
    name: "steps",
    steps: [
      {
        quantize: {
          rules: [{ match: "*", precision: "int8", step: 0.3 }],
          otherwise: "fp16",
          coded: true,
          errorCompensation: "gptq",
        },
      },
    ],
  };
  const base = await open(TEACHER);
  const stages = new Set();
  const onProgress = ({ stage }) => stages.add(stage);
  const fisher = await gradients(base, { calibration: ids, onProgress });
  // The fixture has 24 positions.
  assert.deepEqual([fisher.tokens, fisher.lookedUp.length, stages.has("gradients")], [64 * 24, 16 * 16, true]);
  assert.ok(fisher.outputs.some(({ key, rows }) => key === "layers.0.ssm.in_proj.weight" && rows.length === 64));
  assert.ok(fisher.outputs.every(({ rows }) => rows.every((square) => square >= 0)));

  const asked = { calibration: ids };
  const [plain, graded, again] = [
    await base.compress(recipe, asked),
    await base.compress(recipe, { ...asked, gradients: fisher }),
    await base.compress(recipe, { ...asked, gradients: true }),
  ];
  const bytes = async (it) => Buffer.from(await (await it.save("blob")).arrayBuffer());
  const told = ({ report }) => report.findings.map(({ code }) => code);
  assert.ok(told(graded).includes("gradients") && !told(graded).includes("lookup-substitute"), `${told(graded)}`);
  assert.ok(!told(plain).includes("gradients") && told(plain).includes("lookup-substitute"), `${told(plain)}`);
  assert.ok((await bytes(graded)).equals(await bytes(again)), "taken before, and taken now");
  assert.ok(!(await bytes(graded)).equals(await bytes(plain)));

  const [file, out] = [join(folder, "steps.json"), join(folder, "graded.safetensors")];
  writeFileSync(file, JSON.stringify(recipe));
  const said = await cli(["compress", TEACHER, "-o", out, "--recipe", file, "--calibrate-ids", train, "--gradients"]);
  assert.equal(said.code, 0, said.stderr);
  assert.ok(readFileSync(out).equals(await bytes(graded)), "so does the command line");
  for (const it of [base, plain, graded, again]) it.dispose();
});

test("a search takes gradients once, and what has no text to take them over is refused", async () => {
  const base = await open(fixture("families/mamba-default"));
  const calibration = text(2048, 3);
  const found = await search(base, { ratio: 4 }, { calibration, gradients: true, fast: true });
  assert.ok(found.compressed.report.findings.some(({ code }) => code === "gradients"));
  found.compressed.dispose();
  const asked = { calibration, gradients: true, fast: true, costs: found.costs };
  const again = await search(base, { ratio: 4 }, asked);
  assert.deepEqual(again.recipe, found.recipe, "what is known is not measured again");
  again.compressed.dispose();
  await assert.rejects(base.compress("nf4", { gradients: true }), /option gradients is given without a text/);
  for (const wrong of ["yes", 1, { tokens: 1 }, Promise.resolve()]) {
    const refused = base.compress("nf4", { calibration, gradients: wrong });
    await assert.rejects(refused, /option gradients is .*; allowed: true, false, or what gradients\(\) took/);
  }
  const other = { tokens: 1, lookedUp: [1], outputs: [{ key: "w", part: 0, rows: [-1] }] };
  const refused = base.compress("nf4", { calibration, gradients: other });
  await assert.rejects(refused, ({ code, message }) => code === "bad-option" && /outputs of w/.test(message));
  const resumed = search(base, { ratio: 4 }, { calibration, fast: true, costs: found.costs });
  await assert.rejects(resumed, /option costs is of a search with other options/);
  base.dispose();
  const said = await cli(["compress", TEACHER, "-o", join(folder, "no.safetensors"), "--recipe", "nf4", "--gradients"]);
  assert.equal(said.code, 2);
  assert.match(said.stderr, /--gradients are taken over a text: --calibrate TEXT or --calibrate-ids BIN/);
});
