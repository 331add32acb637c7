// The command line as a stranger meets it: JSON, exit codes, messages, files it leaves and files it does not.

import assert from "node:assert/strict";
import {
  closeSync,
  copyFileSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { codes } from "statepress";
import { cli, DEMO, fixture, HELDOUT, readSafetensors, scratch, start } from "../support/node.mjs";

const folder = scratch();

/** Runs with --json and wants success. */
async function done(...args) {
  const { code, json, stderr } = await cli([...args, "--json"]);
  assert.equal(code, 0, stderr);
  assert.ok(json, "stdout is one JSON object");
  return json;
}

/** Runs with --json and wants that failure: one line on stderr, the facts on stdout. */
async function fails(code, words, ...args) {
  const { code: exit, json, stderr } = await cli([...args, "--json", "--quiet"]);
  assert.match(stderr, /^error: [^\n]+\n$/);
  assert.match(stderr, words);
  assert.equal(json.error.code, code);
  assert.equal(exit, code === "usage" ? 2 : 1);
  if (code !== "usage") assert.ok(codes.includes(code));
  return json.error;
}

test("inspect, advise, plan and recipes answer with the fields of the contract", async () => {
  const inspection = await done("inspect", DEMO);
  for (const field of ["format", "wrapper", "family", "params", "bytes", "tensors", "spec", "findings"]) {
    assert.ok(field in inspection, field);
  }
  const { value, origin, from } = inspection.spec.hidden_size;
  assert.deepEqual([value, typeof origin, typeof from], [128, "string", "string"]);

  const advice = await done("advise", DEMO, "--target", "cpu", "--max-loss", "3");
  const { recipe, why, expectedRatio, risk, basis } = advice.recommended[0];
  assert.ok(recipe && why && expectedRatio > 1 && risk);
  assert.equal(basis, "measured");
  assert.ok(Array.isArray(advice.avoid));
  assert.match(advice.techniques.find((it) => it.technique === "pruning").command, /--prune width=/);
  const { stdout: words } = await cli(["advise", DEMO]);
  assert.match(
    words,
    /^recommended: int8, 3\.82x, loss -0\.03 %, KL 1\.4e-4, measured on itera-tiny, SUCCESS, risk low$/m,
  );
  assert.match(words, /^also: pruning$/m);

  const { recipes } = await done("recipes");
  const names = recipes.map(({ name }) => name);
  const builtin = ["none", "fp16", "bf16", "int8", "int4", "nf4", "mixed", "mixed-aggressive"];
  for (const name of [...builtin, "seed-conservative", "seed-aggressive"]) assert.ok(names.includes(name), name);

  const plan = await done("plan", DEMO, "--recipe", "int8");
  for (const part of [plan.matched, plan.unmatched])
    assert.deepEqual(Object.keys(part), ["tensors", "params", "percent"]);
  assert.ok(plan.bytes.ratio > 3.5 && plan.tensors.every(({ name, precision, rule }) => name && precision && rule));

  // A recipe from a file is the recipe.
  const file = join(folder, "recipe.json");
  writeFileSync(file, JSON.stringify(recipes.find(({ name }) => name === "int8")));
  assert.deepEqual(await done("plan", DEMO, "--recipe", file), plan);
});

test("inspect looks at one tensor", async () => {
  const name = "layers.0.ssm.in_proj.weight";
  const looking = ["inspect", DEMO, "--tensor", name];
  const view = await done(...looking, "--precision", "nf4,int8", "--bins", "8");
  assert.deepEqual(view.histogram.counts, [133, 2388, 13862, 27358, 17779, 3728, 276, 12]);
  assert.deepEqual(
    view.coded.map(({ precision, stored, block }) => [precision, stored, block.levels.length]),
    [
      ["nf4", "nf4", 16],
      ["int8", "int8", 255],
    ],
  );
  assert.deepEqual((await done(...looking)).coded, []);

  const { stdout, stderr, code } = await cli([...looking, "--precision", "nf4", "--bins", "8"]);
  assert.equal(code, 0, stderr);
  for (const line of [
    /^shape +\[512, 128\] F32$/m,
    /^parameters +65,536, 0 zero, 0 not finite$/m,
    /^range +-0\.3722 to 0\.4514, largest magnitude 0\.4514$/m,
    // Of 27358 at most: 13862 are a little over half of it, 12 are not nothing.
    /^f32 +▁▁▅█▆▂▁▁$/m,
    /^nf4 +▁▁▅█▆▂▁▁$/m,
    /^nf4 +nf4 +33,8\d\d +4\.13 /m,
  ]) {
    assert.match(stdout, line);
  }
  // A refusal is said beside the result, on stderr.
  const vector = await cli(["inspect", DEMO, "--tensor", "norm.weight", "--precision", "nf4"]);
  assert.match(vector.stdout, /^nf4 +fp32 +512 +32\.00 /m);
  assert.match(vector.stderr, /warning: nf4 refused: a vector is not quantized.*\[norm\.weight\] \(refused\)/);

  const error = await fails("unknown-tensor", /near to it: norm\.weight/, "inspect", DEMO, "--tensor", "norm.wieght");
  assert.equal(error.tensor, "norm.wieght");
  await fails("usage", /--bins takes a whole number from 1 to 1024, not '0'/, ...looking, "--bins", "0");
  await fails("usage", /--precision takes a list of fp32,.* not 'nf5'/, ...looking, "--precision", "nf4,nf5");
  await fails("usage", /--bins needs --tensor/, "inspect", DEMO, "--bins", "8");
  await fails("usage", /--precision needs --tensor/, "inspect", DEMO, "--precision", "nf4");
});

test("compress writes the file and its report, and never over anything without --force", async () => {
  const out = join(folder, "int8.safetensors");
  const report = await done("compress", DEMO, "-o", out, "--recipe", "int8");
  assert.equal(readFileSync(out).length, report.fileBytes);
  const written = JSON.parse(readFileSync(`${out}.report.json`, "utf8"));
  const files = { format: "safetensors", files: [out], file: out, reportFile: `${out}.report.json` };
  const { checkpoint, peakBytes, ...rest } = report;
  assert.deepEqual({ ...written, ...files }, rest);
  assert.deepEqual([checkpoint.family, checkpoint.params], ["itera-lite", 1902880]);
  assert.ok(report.seconds > 0 && report.peakMemory > 0 && peakBytes > report.peakMemory);
  assert.ok(report.tensors.every(({ error }) => error === undefined || error.cosine > 0.99));

  const before = readFileSync(out);
  await fails("exists", /int8\.safetensors exists.*--force/, "compress", DEMO, "-o", out, "--recipe", "nf4");
  assert.ok(before.equals(readFileSync(out)));
  await done("compress", DEMO, "-o", out, "--recipe", "nf4", "--force");
  assert.ok(readFileSync(out).length < before.length);
  assert.equal((await done("inspect", out)).recipe.name, "nf4");
});

test("without --recipe the advice is followed, and said", async () => {
  const out = join(folder, "advised.safetensors");
  const { recommended } = await done("advise", DEMO);
  const { code, stderr, json } = await cli(["compress", DEMO, "-o", out, "--json"]);
  assert.equal(code, 0, stderr);
  assert.equal(json.recipe.name, recommended[0].recipe);
  assert.match(stderr, new RegExp(`recipe: ${recommended[0].recipe}, as advised`));
});

test("evaluate takes text, stdin and ids alike; compare makes the card", async () => {
  const text = readFileSync(HELDOUT, "utf8").slice(0, 9000);
  const file = join(folder, "text.txt");
  writeFileSync(file, text);
  const fromText = await done("evaluate", DEMO, "--text", file, "--window", "128");
  const timeless = ({ seconds, tokensPerSecond, ...rest }) => rest;
  const piped = await cli(["evaluate", DEMO, "--text", "-", "--window", "128", "--json"], { input: text });
  assert.deepEqual(timeless(piped.json), timeless(fromText));

  const ids = fixture("tokenizers/heldout.bpe8000.u16.bin");
  const u16 = await done("evaluate", DEMO, "--ids", ids, "--limit", "1024");
  assert.deepEqual([u16.window, u16.windows, u16.tokens, u16.backend], [256, 4, 4 * 255, "cpu"]);
  assert.ok(Math.abs(Math.exp(u16.nll) - u16.perplexity) < 1e-9 && u16.nllStderr > 0);
  const wide = join(folder, "ids.u32.bin");
  const narrow = readFileSync(ids);
  const values = Uint32Array.from({ length: 1024 }, (_, i) => narrow.readUInt16LE(2 * i));
  writeFileSync(wide, new Uint8Array(values.buffer));
  const u32 = await done("evaluate", DEMO, "--ids", wide, "--ids-type", "u32");
  // NumPy and torch write 64 bits of their own accord: read as 16, most ids would be 0 and a number would come out.
  const mistaken = await cli(["evaluate", DEMO, "--ids", wide, "--backend", "cpu"]);
  assert.equal(mistaken.code, 1);
  assert.match(mistaken.stderr, /every second 16-bit id is 0.*--ids-type u32/);
  assert.deepEqual(timeless(u32), timeless(u16));

  const out = join(folder, "mixed.safetensors");
  await done("compress", DEMO, "-o", out, "--recipe", "mixed");
  const card = await done("compare", DEMO, out, "--ids", ids, "--limit", "1024");
  const fields = ["a", "b", "bytes", "perplexityChange", "kl", "top1Agreement", "deltaP", "byPosition", "byLayer"];
  for (const field of [...fields, "noiseFloor"]) assert.ok(field in card, field);
  assert.deepEqual(timeless(card.a), timeless(u16));
  assert.ok(card.bytes.ratio > 1.5);
});

test("a model that predicts two tokens ahead is found out, and generates what it did in PyTorch", async () => {
  const model = fixture("itera-lite/itera_lite_micro_distilled.pt");
  const tokenizer = ["--tokenizer", fixture("itera-lite/tokenizer_2000.json")];
  const held = readSafetensors(fixture("models/heldout_ids.safetensors"));
  const ids = join(folder, "heldout2000.bin");
  writeFileSync(ids, new Uint8Array(Uint16Array.from(Object.values(held)[0].values).buffer));
  const found = await done("evaluate", model, "--ids", ids, "--offset", "detect");
  assert.equal(found.offset, 2);
  assert.ok(found.perplexity < 2.6, `${found.perplexity}`);

  const card = await done("compare", model, model, "--ids", ids, "--offset", "detect", "--limit", "1024");
  assert.deepEqual([card.a.offset, card.kl.max, card.top1Agreement], [2, 0, 1]);
  assert.equal(card.a.nllByOffset.indexOf(Math.min(...card.a.nllByOffset)), 2, "all four are told of");
  const wrong = ["--offset", "detect", "--limit", "1024", "--set", "prediction_offset=1"];
  const { a } = await done("compare", model, model, "--ids", ids, ...wrong);
  assert.ok(
    a.findings.some(({ code }) => code === "offset"),
    "what was found odd when it was detected is a finding of the card",
  );

  const prompt = ["--prompt", "once upon a time, there was a little fox. the fox loved", "--max-tokens", "12"];
  const options = [...tokenizer, "--set", "prediction_offset=2", "--temperature", "0"];
  const { text, ids: made, tokensPerSecond } = await done("generate", model, ...prompt, ...options);
  assert.equal(text.trim(), "to play in the mountain. one day, the bird met a scary");
  assert.equal(made.length, 12);
  assert.ok(tokensPerSecond.prefill > 0 && tokensPerSecond.decode > 0);
  await fails("no-tokenizer", /several tokenizers.*--tokenizer/, "generate", model, ...prompt);
});

test("bench says what was timed and with which build", async () => {
  const bench = await done("bench", DEMO, "--repeats", "1", "--build", "base");
  assert.deepEqual([bench.backend, bench.build], ["cpu", "base"]);
  for (const field of ["decodeTokensPerSecond", "prefillTokensPerSecond", "compressBytesPerSecond"]) {
    assert.ok(bench[field] > 0, field);
  }
  assert.notEqual((await done("bench", DEMO, "--repeats", "1")).build, "base");
});

test("every build computes the same numbers, to the last bit", async () => {
  const small = join(folder, "same.safetensors");
  await done("compress", DEMO, "-o", small, "--recipe", "mixed-aggressive");
  const card = async (build) => {
    const about = ["--text", HELDOUT, "--limit", "1024", "--build", build];
    const { a, b, kl, deltaP, byLayer, noiseFloor } = await done("compare", DEMO, small, ...about);
    return { nll: [a.nll, b.nll], kl, deltaP, byLayer, noiseFloor };
  };
  assert.deepEqual(await card("base"), await card("simd"));
});

test("results for people go to stdout, findings to stderr, and --quiet silences those", async () => {
  const micro = fixture("itera-lite/itera_lite_micro_distilled.pt");
  const loud = await cli(["inspect", micro]);
  assert.match(loud.stdout, /family +itera-lite/);
  assert.match(loud.stderr, /^(info|warning): /m);
  const quiet = await cli(["inspect", micro, "--quiet"]);
  assert.deepEqual([quiet.stderr, quiet.stdout], ["", loud.stdout]);
  const out = join(folder, "people.safetensors");
  const compressed = await cli(["compress", DEMO, "-o", out, "--recipe", "int8"]);
  assert.match(compressed.stdout, /3\.\d\dx/);
  assert.doesNotMatch(compressed.stderr, /█/, "no bar where there is no terminal");
});

test("columns of the card say which is which: parts of paths that differ, weights that were taken", async () => {
  const one = fixture("fixtures/il_ffn.tied.safetensors");
  const ids = join(folder, "columns.ids");
  writeFileSync(ids, Buffer.from(Uint16Array.from({ length: 40 }, (_, i) => i % 11).buffer));
  const other = join(folder, "other");
  mkdirSync(other);
  const same = join(other, "il_ffn.tied.safetensors");
  copyFileSync(one, same);
  const columns = async (...args) => {
    const { code, stdout, stderr } = await cli([
      "compare",
      ...args,
      "--ids",
      ids,
      "--window",
      "16",
      "--backend",
      "cpu",
      "--quiet",
    ]);
    assert.equal(code, 0, stderr);
    const [verdict, card] = stdout.split("\n\n");
    assert.match(
      verdict,
      /^(SUCCESS|FAILURE): \d\.\d\dx smaller \(at least 1\.5x wanted\), perplexity \S+ % \(at most \+5 % allowed\)$/,
    );
    return card.split("\n")[0].trim().split(/ {2,}/);
  };
  const folders = ["fixtures/il_ffn.tied.safetensors", "other/il_ffn.tied.safetensors"];
  assert.deepEqual(await columns(one, same), folders);
  assert.deepEqual(await columns(one, one), ["il_ffn.tied.safetensors (a)", "il_ffn.tied.safetensors (b)"]);
  const sets = fixture("cases/cli/two_sets.pt");
  assert.deepEqual(await columns(sets, sets, "--weights-b", "ema"), ["two_sets.pt: model", "two_sets.pt: ema"]);
  assert.deepEqual(await columns(sets, sets, "--weights", "ema"), ["two_sets.pt: ema", "two_sets.pt: model"]);
});

test("compare --check: exit code 3 unless the verdict is success", async () => {
  const out = join(folder, "checked.safetensors");
  await done("compress", DEMO, "-o", out, "--recipe", "int8");
  const comparing = ["compare", DEMO, out, "--text", HELDOUT, "--limit", "512", "--backend", "cpu", "--quiet"];
  const reached = await cli([...comparing, "--check", "--ratio-target", "2", "--loss-target", "5", "--json"]);
  assert.deepEqual([reached.code, reached.stderr, reached.json.verdict.result], [0, "", "success"]);
  const missed = await cli([...comparing, "--check", "--ratio-target", "50", "--json"]);
  assert.deepEqual([missed.code, missed.json.verdict.result], [3, "failure"]);
  assert.match(
    missed.stderr,
    /^check: FAILURE: 3\.\d\dx smaller \(at least 50x wanted\), perplexity [+-]\d[\d.]* % \(at most \+5 % allowed\)\n$/,
  );
  assert.equal(
    (await cli([...comparing, "--ratio-target", "50"])).code,
    0,
    "a verdict is no error unless it is asked for",
  );
});

test("what drivers of a GPU write to stderr is not shown", async () => {
  // A driver that is not there is something that the loader talks about.
  const env = { ...process.env, VK_DRIVER_FILES: join(folder, "no-driver.json") };
  const asking = ["evaluate", DEMO, "--text", HELDOUT, "--limit", "256"];
  const loud = await cli([...asking, "--quiet"], { env: { ...env, STATEPRESS_DRIVERS: "show" } });
  assert.match(loud.stderr, /no-driver\.json/, "there is something to be silenced");
  const quiet = await cli([...asking, "--quiet"], { env });
  assert.deepEqual([quiet.code, quiet.stderr], [0, ""]);
  const told = await cli([...asking, "--json"], { env });
  assert.ok(told.json.findings.some(({ code }) => code === "backend-cpu"));
  for (const line of told.stderr.trimEnd().split("\n")) assert.match(line, /^(info|warning): .* \([\w-]+\)$/);
  const asked = await cli([...asking, "--backend", "webgpu", "--json"], { env });
  assert.deepEqual(
    [asked.code, asked.json.error.code, asked.stderr.split("\n").length],
    [1, "no-gpu", asked.stderr.match(/^(info|error): /gm).length + 1],
  );
  // The process of its own ends with the one that was started.
  const { child, done: ended } = start(["evaluate", DEMO, "--text", HELDOUT], { env });
  await new Promise((resolve) => child.stderr.once("data", resolve));
  child.kill("SIGINT");
  const { code, stderr } = await ended;
  assert.equal(code, 130);
  assert.match(stderr, /error: stopped on request\n$/);
});

test("usage errors: exit code 2, one line, and what would be right", async () => {
  await fails("usage", /no command 'press'; there are inspect/, "press");
  await fails("usage", /unknown option '--nope'/i, "inspect", DEMO, "--nope");
  await fails("usage", /inspect takes FILE, 0 were given/, "inspect");
  await fails("usage", /compare takes BASE and OTHER, 1 were given/, "compare", DEMO);
  await fails("usage", /--output is needed/, "compress", DEMO);
  await fails("usage", /--recipe is needed/, "plan", DEMO);
  await fails("usage", /either --text or --ids is needed/, "evaluate", DEMO);
  await fails("usage", /--text or --ids is needed, not both/, "evaluate", DEMO, "--text", HELDOUT, "--ids", HELDOUT);
  await fails("usage", /--window takes a whole number/, "evaluate", DEMO, "--text", HELDOUT, "--window", "1.5");
  await fails("usage", /--target is 'moon'; allowed: gpu, cpu, edge/, "advise", DEMO, "--target", "moon");
  await fails("usage", /--set takes FIELD=VALUE/, "inspect", DEMO, "--set", "top_k_experts");
  await fails("usage", /--set x: 'abc'/, "inspect", DEMO, "--set", "x=abc");
  await fails("usage", /'x' is no token id/, "logits", DEMO, "--ids", "1,x", "-o", join(folder, "l"));
  assert.equal((await cli([])).code, 2);
});

test("what fails of a file says of which, also where two are given", async () => {
  const bad = join(folder, "bad.pt.gz");
  writeFileSync(bad, Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0]));
  const unknown = fixture("cases/pickle/flat.pt");
  const words = ["--text", HELDOUT, "--backend", "cpu"];
  await fails("unsupported-format", /^error: \S+bad\.pt\.gz: a gzip archive/, "inspect", bad);
  await fails("unsupported-format", /^error: \S+bad\.pt\.gz: a gzip archive/, "compare", DEMO, bad, ...words);
  await fails("unknown-model", /^error: \S+flat\.pt: no model of a known family/, "compare", DEMO, unknown, ...words);
  const sets = fixture("cases/cli/two_sets.pt");
  await fails("no-tokenizer", /two_sets\.pt: text needs a tokenizer/, "compare", DEMO, sets, ...words);
  const { stderr } = await cli(["inspect", "-"], { input: readFileSync(bad) });
  assert.match(stderr, /^error: standard input: a gzip archive/);
});

test("help is on stdout, with exit code 0", async () => {
  const overview = await cli(["--help"]);
  assert.equal(overview.code, 0);
  for (const command of ["inspect", "advise", "plan", "compress", "evaluate", "compare", "generate", "logits"]) {
    assert.match(overview.stdout, new RegExp(`^ +${command} `, "m"));
    const { code, stdout } = await cli([command, "--help"]);
    assert.equal(code, 0);
    assert.match(stdout, /--json/);
  }
});

test("bad input: exit code 1, one line, and the facts as JSON", async () => {
  await fails("bad-input", /missing\.pt does not exist/, "inspect", join(folder, "missing.pt"));
  await fails("whole-module", /error: /, "inspect", fixture("fixtures/reject.whole_module.pt"));
  const list = join(folder, "list.json");
  writeFileSync(list, "[]");
  await fails(
    "bad-recipe",
    /list\.json: a recipe is the name of a built-in one or an object with version, name and steps, not a list/,
    "plan",
    DEMO,
    "--recipe",
    list,
  );
  // Which file, and what a recipe needs: for each command that takes one.
  const empty = join(folder, "empty.json");
  writeFileSync(empty, "{}");
  const needs = /empty\.json: not a recipe: a recipe is an object with version, name and steps; version is missing/;
  await fails("bad-recipe", needs, "plan", DEMO, "--recipe", empty);
  await fails("bad-recipe", needs, "compress", DEMO, "-o", join(folder, "no.safetensors"), "--recipe", empty);
  await fails("bad-recipe", /int3/, "plan", DEMO, "--recipe", "int3");
  await fails("usage", /--build is 'fast'; allowed: auto, base, simd, relaxed/, "inspect", DEMO, "--build", "fast");
  await fails("io", /nowhere\.txt cannot be read/, "evaluate", DEMO, "--text", join(folder, "nowhere.txt"));
  await fails("bad-ids", /8000|vocabulary/, "logits", DEMO, "--ids", "1,8000", "-o", join(folder, "l"));
  await fails("io", /there is no folder/, "compress", DEMO, "-o", join(folder, "no/such/folder/x"), "--recipe", "int8");
  const odd = join(folder, "odd.bin");
  writeFileSync(odd, "abc");
  await fails("bad-input", /3 bytes are no whole number of 16-bit ids/, "evaluate", DEMO, "--ids", odd);
  writeFileSync(odd, Buffer.from([0xff, 0xfe, 0xfd]));
  await fails("bad-input", /not UTF-8/, "evaluate", DEMO, "--text", odd);
  const shards = join(folder, "model.safetensors.index.json");
  writeFileSync(shards, JSON.stringify({ metadata: {}, weight_map: { a: "model-00001-of-00002.safetensors" } }));
  await fails("missing-shard", /1 of 1 shard is missing: `model-00001-of-00002/, "inspect", shards);
});

// Zeros without end: a checkpoint of a little model with a table of 100,000 x 256, as a sparse file of 100 MB.
function bigCheckpoint(path) {
  const { tensors } = headerOf(fixture("fixtures/il_ffn.tied.safetensors"));
  const wide = { 50: 100000, 16: 256 };
  const header = {};
  let end = 0;
  for (const [name, { dtype, shape }] of Object.entries(tensors)) {
    const dims = name === "embedding.weight" ? shape.map((dim) => wide[dim]) : shape;
    const from = end;
    end += dims.reduce((a, b) => a * b, 4);
    header[name] = { dtype, shape: dims, data_offsets: [from, end] };
  }
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  const descriptor = openSync(path, "w");
  writeSync(descriptor, Buffer.concat([length, json]));
  ftruncateSync(descriptor, 8 + json.length + end);
  closeSync(descriptor);
}

function headerOf(path) {
  const bytes = readFileSync(path);
  const { __metadata__, ...tensors } = JSON.parse(bytes.subarray(8, 8 + Number(bytes.readBigUInt64LE(0))).toString());
  return { tensors };
}

for (const [signal, exit] of [
  ["SIGINT", 130],
  ["SIGTERM", 143],
  ["SIGHUP", 129],
  ["SIGQUIT", 131],
]) {
  test(`${signal} while compressing leaves nothing behind`, async () => {
    const temporary = scratch();
    const target = scratch();
    const big = join(temporary, "big.safetensors");
    bigCheckpoint(big);
    const args = ["compress", big, "-o", join(target, "out.safetensors"), "--recipe", "nf4"];
    const { child, done: ended } = start(args, { env: { ...process.env, TMPDIR: temporary } });
    const working = () => readdirSync(target).some((name) => name.startsWith(".statepress-partial-"));
    while (!working() && child.exitCode === null) await sleep(2);
    child.kill(signal);
    const { code, stderr } = await ended;
    assert.equal(code, exit, stderr);
    assert.match(stderr, /stopped on request/);
    assert.deepEqual(readdirSync(target), []);
    assert.deepEqual(readdirSync(temporary), ["big.safetensors"]);
  });
}

test("a reader that has seen enough is no error", async () => {
  const { child, done: ended } = start(["recipes", "--json"]);
  child.stdout.destroy();
  const { code } = await ended;
  assert.equal(code, 0);
});
