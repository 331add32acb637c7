// The benchmarks run: a benchmark that nobody runs is wrong by the time somebody does. No speed is checked here.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { compare, open } from "statepress";
import { fixture, ROOT, scratch } from "../support/node.mjs";

const folder = scratch();
const run = promisify(execFile);
const BENCH = join(ROOT, "tests/bench/peers.mjs");
const bench = (...args) => run(process.execPath, [BENCH, "--tiny", ...args]);

/** Every rate and ratio of a result. */
const numbers = ({ decode, prefill, ...rest }) => [
  decode,
  prefill,
  ...[rest.ofFirst, rest.ofOther, rest.ofRival].flatMap((ratio) => (ratio ? [ratio.decode, ratio.prefill] : [])),
];

test("the benchmark measures every precision of the demo model, in every build that this Node takes", async () => {
  for (const build of ["base", "simd", "relaxed"]) {
    const result = JSON.parse((await bench("--build", build, "--json")).stdout);
    assert.equal(result.build, build);
    const [{ model, parameters, variants, missing }] = result.models;
    assert.deepEqual([model, parameters, missing], ["itera-tiny", 1902880, []]);
    assert.deepEqual(
      variants.map(({ recipe }) => recipe),
      ["none", "int8"],
    );
    for (const variant of variants) for (const number of numbers(variant)) assert.ok(number > 0, variant.name);
  }
});

test("the benchmark sets a build beside another one, precision by precision", async () => {
  const against = ["--against", join(ROOT, "web/wasm/base"), "--recipes", "none,lm3"];
  const [{ variants }] = JSON.parse((await bench(...against, "--json")).stdout).models;
  assert.deepEqual(
    variants.map(({ build, recipe }) => `${recipe} ${build}`),
    ["none this", "none other", "lm3 this", "lm3 other"],
  );
  for (const variant of variants) {
    assert.equal(variant.ofOther !== undefined, variant.build === "this");
    assert.ok(numbers(variant).every((number) => number > 0 && Number.isFinite(number)));
  }
  const { stdout } = await bench("--against", join(ROOT, "web/wasm/simd"));
  const lines = stdout.trim().split("\n");
  assert.match(lines[1], /decode +first +other build +prefill +first +other build/);
  assert.match(lines[2], /^statepress none +[\d.]+ +x1.000 +x\d+\.\d+ +[\d.]+ +x1.000 +x\d+\.\d+$/);
  assert.equal(lines.length, 6);
});

test("the benchmark takes any checkpoint, several at once, and fails where one of ours cannot be measured", async () => {
  const paths = ["fixtures/il_moe.proto4.pt", "fixtures/il_ffn.safetensors"].map(fixture);
  const { models } = JSON.parse((await bench(...paths, "--recipes", "int8", "--json")).stdout);
  assert.equal(models.length, 2);
  for (const { variants } of models) assert.ok(numbers(variants[0]).every((number) => number > 0));
  await assert.rejects(bench("--recipes", "none,nothing"), ({ code, stdout }) => {
    assert.equal(code, 1);
    assert.match(stdout, /^statepress nothing +not measured: no recipe is named/m);
    return /^statepress none +\d/m.test(stdout);
  });
});

test("a Mamba of any shape is written for benchmarks, and compresses", async () => {
  const model = join(folder, "shape.safetensors");
  const shape = (...args) => run(process.execPath, [join(ROOT, "tests/bench/shape.mjs"), ...args]);
  const { stdout } = await shape(model, "--hidden", "32", "--layers", "2", "--vocab", "64");
  assert.match(stdout, /: 0.0 million parameters, 0.1 MB/);
  const checkpoint = await open(model);
  const { family, params } = checkpoint.inspection;
  // As Mamba counts them: the table, the last norm, and of each layer its ten tensors.
  const layer = 32 + 128 * 32 + 64 * 4 + 64 + 34 * 64 + 64 * 2 + 64 + 64 * 16 + 64 + 32 * 64;
  assert.deepEqual([family, params], ["mamba", 64 * 32 + 32 + 2 * layer]);
  const ids = (by) => Uint32Array.from({ length: 512 }, (_, i) => (i * by) % 64);
  const compressed = await checkpoint.compress("nf4", { calibration: ids(7) });
  const card = await compare(checkpoint, compressed, { ids: ids(11) });
  assert.ok(card.kl.mean > 0 && card.kl.mean < 1, `${card.kl.mean}`);
  for (const it of [compressed, checkpoint]) it.dispose();
  await assert.rejects(shape(model, "--layers", "0"), /16 or more of --hidden/);
  await assert.rejects(shape(model, "--hidden", "32", "--vocab", "64"), /EEXIST/, "nothing is overwritten");
});

test("what a checkpoint takes is measured in each recipe and format, of a file with holes", async () => {
  const model = join(folder, "sparse.safetensors");
  const [shape, memory] = ["shape", "memory"].map((it) => join(ROOT, `tests/bench/${it}.mjs`));
  await run(process.execPath, [shape, model, "--hidden", "64", "--layers", "1", "--vocab", "128", "--sparse"]);
  const asked = [model, "--recipes", "int8,nf4", "--formats", "onnx"];
  const { size, rows } = JSON.parse((await run(process.execPath, [memory, ...asked, "--json"])).stdout);
  assert.equal(size, statSync(model).size);
  assert.deepEqual(
    rows.map(({ name }) => name),
    ["int8", "nf4", "--format onnx"],
  );
  for (const { name, seconds, peakBytes } of rows) assert.ok(seconds > 0 && peakBytes > 2 ** 24, name);
  await assert.rejects(
    run(process.execPath, [memory, model, "--recipes", "nothing"]),
    /nothing: .*no recipe is named/s,
  );
});

test("the benchmark of workers writes the same bytes with one and with several", async () => {
  const ids = join(folder, "ids.bin");
  writeFileSync(
    ids,
    Uint16Array.from({ length: 1024 }, (_, i) => (i * 37 + ((i * i) % 11)) % 50),
  );
  const asked = [fixture("fixtures/il_moe.safetensors"), "--ids", ids];
  const workers = (...args) => run(process.execPath, [join(ROOT, "tests/bench/workers.mjs"), ...asked, ...args]);
  const { one, several, ofOne } = JSON.parse((await workers("--recipe", "int4", "--json")).stdout);
  assert.deepEqual([one.workers, several.workers, several.sha256], [1, 2, one.sha256]);
  assert.ok(one.seconds > 0 && several.seconds > 0 && ofOne > 0);
  const { stdout } = await workers("--search", "5", "--coded");
  assert.match(stdout, /search 5x, 1024 ids\)\n1 workers +[\d.]+ s +x1.00 .*\n2 workers +[\d.]+ s +x[\d.]+ /);
});

test("the benchmark of training times the steps of a student, and says where no peer was run", async () => {
  const ids = join(folder, "train.bin");
  let state = 1;
  const next = () => {
    state = (state * 1103515245 + 12345) % 2 ** 31;
    return Math.floor(state / 2 ** 16) % 50;
  };
  writeFileSync(ids, Uint16Array.from({ length: 2048 }, next));
  const asked = [fixture("fixtures/il_moe.safetensors"), ids, "--repeats", "1"];
  const train = (...args) => run(process.execPath, [join(ROOT, "tests/bench/train.mjs"), ...asked, ...args]);
  const { batch, window, rows } = JSON.parse((await train("--steps", "100", "--json")).stdout);
  assert.deepEqual([batch, window, rows.length], [2, 24, 1]);
  const [{ parameters, secondsPerStep, tokensPerSecond, ofPeer, loss }] = rows;
  assert.deepEqual([parameters, ofPeer, tokensPerSecond], [10320, undefined, 48 / secondsPerStep]);
  assert.ok(secondsPerStep > 0 && loss > 0 && loss < 6, `${secondsPerStep} s, ${loss}`);
  const { stdout } = await train("--steps", "100", "--student", "width=0.5");
  assert.match(
    stdout,
    /student width=0\.5 of \d+ parameters.*\n.*\nstatepress, WebAssembly +[\d.]+ +\d+ .*\nno peer was run/,
  );
  await assert.rejects(train("--steps", "1"), /1 steps are over too soon/);
  await assert.rejects(train("--steps", "0"), /--steps takes a whole number from 1/);
});
