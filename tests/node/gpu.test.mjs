// The GPU in Node, by the npm package `webgpu`: the numbers of the CPU, and what happens when it fails.
//
// A machine without an adapter fails these tests. Software adapters are slow: a few tokens have to do.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { compare, distill, open, qualityCard, recover } from "statepress";
import { cli, DEMO, fixture, HELDOUT, scratch } from "../support/node.mjs";

let checkpoint;
let ids;

before(async () => {
  checkpoint = await open(DEMO);
  const cpu = await checkpoint.load({ backend: "cpu" });
  ids = cpu.encode(readFileSync(HELDOUT, "utf8")).slice(0, 256);
  cpu.dispose();
  // The GPU is there once somebody has wanted one: from then on it is known what is opened on it.
  (await checkpoint.load({ backend: "webgpu" })).dispose();
  const { gpu } = globalThis.navigator;
  const requestAdapter = gpu.requestAdapter;
  gpu.requestAdapter = async function (...wanted) {
    const adapter = await requestAdapter.apply(this, wanted);
    const requestDevice = adapter.requestDevice;
    adapter.requestDevice = async function (...asked) {
      const device = await requestDevice.apply(this, asked);
      devices.push(device);
      return device;
    };
    return adapter;
  };
});
after(() => checkpoint.dispose());

/** Every device that was opened. */
const devices = [];

async function texts(model, options) {
  const made = [];
  const tokens = model.generate([5, 6, 7], options);
  for (;;) {
    const next = await tokens.next();
    if (next.done) return { made, generation: next.value };
    made.push(next.value.id);
  }
}

test("what the GPU computes is what the CPU computes, in every precision that the demo is compressed to", async () => {
  const cpu = await checkpoint.load({ backend: "cpu" });
  const gpu = await checkpoint.load({ backend: "webgpu" });
  assert.equal(gpu.backend.name, "webgpu");
  assert.ok(gpu.backend.adapter.name.length > 0 && gpu.backend.adapter.maxBuffer >= 128 << 20);
  assert.match(gpu.backend.reason, /agree with the CPU/);

  const { made, generation } = await texts(gpu, { maxTokens: 5 });
  assert.deepEqual(made, (await texts(cpu, { maxTokens: 5 })).made);
  assert.deepEqual([generation.backend, generation.stop], ["webgpu", "max-tokens"]);
  const sampling = { maxTokens: 3, temperature: 0.9, topK: 20, seed: 3 };
  assert.deepEqual((await texts(gpu, sampling)).made, (await texts(cpu, sampling)).made);

  for (const recipe of ["none", "mixed-aggressive", "nf4"]) {
    const compressed = await checkpoint.compress(recipe);
    const [a, b] = [await compressed.load({ backend: "cpu" }), await compressed.load({ backend: "webgpu" })];
    const [exact, found] = [await a.evaluate(ids), await b.evaluate(ids)];
    assert.deepEqual([exact.backend, found.backend], ["cpu", "webgpu"]);
    assert.equal(found.adapter, b.backend.adapter.name);
    const change = 100 * (found.perplexity / exact.perplexity - 1);
    assert.ok(Math.abs(change) < 0.05, `${recipe}: ${change} %`);
    for (const it of [a, b, compressed]) it.dispose();
  }
  for (const it of [cpu, gpu]) it.dispose();
});

test("a lost GPU is an error for those who asked for it, and a finding for those who did not", async () => {
  const asked = await checkpoint.load({ backend: "webgpu" });
  await asked.loseGpu();
  await assert.rejects(asked.evaluate(ids), { name: "StatepressError", code: "gpu-lost" });
  asked.dispose();
  // The device that was lost is not handed out again.
  const again = await checkpoint.load({ backend: "webgpu" });
  const going = again.generate([5, 6, 7], { maxTokens: 100 });
  assert.equal((await going.next()).done, false);
  await again.loseGpu();
  const rest = async () => {
    while (!(await going.next()).done);
  };
  await assert.rejects(rest(), { name: "StatepressError", code: "gpu-lost" });
  again.dispose();

  const cpu = await checkpoint.load({ backend: "cpu" });
  const expected = (await texts(cpu, { maxTokens: 6 })).made;
  const auto = await checkpoint.load({ backend: "auto", backendOptions: { software: true } });
  assert.equal(auto.backend.name, "webgpu");
  // In the middle of a text: the CPU goes on where the GPU ended.
  const made = [];
  const tokens = auto.generate([5, 6, 7], { maxTokens: 6 });
  made.push((await tokens.next()).value.id);
  await auto.loseGpu();
  let generation;
  for (;;) {
    const next = await tokens.next();
    if (next.done) {
      generation = next.value;
      break;
    }
    made.push(next.value.id);
  }
  assert.deepEqual(made, expected);
  assert.equal(generation.backend, "cpu");
  assert.deepEqual(
    generation.findings.map(({ level, code }) => [level, code]),
    [["warning", "backend-cpu"]],
  );
  assert.equal(auto.backend.name, "cpu");
  assert.match(auto.backend.reason, /the GPU was lost/);
  const evaluation = await auto.evaluate(ids);
  assert.equal(evaluation.backend, "cpu");
  assert.ok(evaluation.findings.some(({ code }) => code === "backend-cpu"));
  for (const it of [cpu, auto]) it.dispose();
});

test("what the GPU has no room for is refused by name, or goes to the CPU with a finding", async () => {
  const backendOptions = { maxBuffer: 1 << 20, software: true };
  await assert.rejects(checkpoint.load({ backend: "webgpu", backendOptions }), {
    code: "gpu-limit",
    message: /embedding\.weight.* needs 4096000; the GPU .* allows 1048576/,
  });
  const model = await checkpoint.load({ backend: "auto", backendOptions });
  assert.equal(model.backend.name, "cpu");
  assert.match(model.backend.finding.message, /embedding\.weight/);
  assert.ok((await model.evaluate(ids)).findings.some(({ code }) => code === "backend-cpu"));
  model.dispose();
});

test("stopping in the middle leaves the GPU usable", async () => {
  const small = await open(fixture("fixtures/il_moe.safetensors"));
  const model = await small.load({ backend: "webgpu" });
  const stop = new AbortController();
  const aborted = model.evaluate(new Array(480).fill(1), { signal: stop.signal, onProgress: () => stop.abort() });
  await assert.rejects(aborted, { code: "aborted" });
  for await (const _ of model.generate([1, 2, 3], { maxTokens: 20 })) break;
  assert.equal((await model.evaluate(new Array(48).fill(1))).backend, "webgpu");
  const { data, shape } = await model.logits([1, 2, 3]);
  assert.deepEqual([data.length, shape], [3 * shape[1], [3, model.info.vocabSize]]);
  model.dispose();
  small.dispose();
});

test("two models at once, and two texts of one model, do not disturb each other", async () => {
  const checkpoints = [];
  for (const name of ["fixtures/il_moe.safetensors", "fixtures/tf.safetensors"]) {
    checkpoints.push(await open(fixture(name)));
  }
  const models = await Promise.all(checkpoints.map((it) => it.load({ backend: "webgpu" })));
  const work = [
    async () => (await texts(models[0], { maxTokens: 8 })).made,
    async () => (await texts(models[1], { maxTokens: 8 })).made,
    async () => (await texts(models[0], { maxTokens: 8, temperature: 1, seed: 5 })).made,
    async () => (await models[1].evaluate(new Array(48).fill(1))).nll,
  ];
  const alone = [];
  for (const it of work) alone.push(await it());
  assert.deepEqual(await Promise.all(work.map((it) => it())), alone);
  for (const it of [...models, ...checkpoints]) it.dispose();
});

test("a card has its halves on the backends that were asked for", async () => {
  const small = await open(fixture("fixtures/il_moe.safetensors"));
  const nf4 = await small.compress("nf4");
  const few = Array.from({ length: 96 }, (_, i) => (i * 7) % 50);
  const card = (backend, backendB) => compare(small, nf4, { ids: few, backend, backendB });
  const [expected, found] = [await card("cpu", "cpu"), await card("cpu", "webgpu")];
  assert.deepEqual([found.a.backend, found.b.backend], ["cpu", "webgpu"]);
  assert.ok(Math.abs(found.kl.mean / expected.kl.mean - 1) < 1e-3, `${found.kl.mean}, ${expected.kl.mean}`);
  const line = qualityCard(found).find(({ id }) => id === "backend");
  assert.deepEqual([line.base, line.compressed], ["cpu", `webgpu: ${found.b.adapter}`]);
  for (const it of [nf4, small]) it.dispose();
});

test("attention, and blocks that are too large to be fused, are the CPU's too", async () => {
  for (const name of ["fixtures/tf.safetensors", "fixtures/il_moe.safetensors"]) {
    const small = await open(fixture(name));
    const cpu = await small.load({ backend: "cpu" });
    const gpu = await small.load({ backend: "webgpu", backendOptions: { opByOp: true } });
    const [a, b] = [await texts(cpu, { maxTokens: 8 }), await texts(gpu, { maxTokens: 8 })];
    assert.deepEqual(b.made, a.made, name);
    const [exact, found] = [await cpu.logits([1, 2, 3, 4]), await gpu.logits([1, 2, 3, 4])];
    const worst = Math.max(...exact.data.map((x, i) => Math.abs(x - found.data[i]) / (1 + Math.abs(x))));
    assert.ok(worst < 1e-3, `${name}: ${worst}`);
    for (const it of [cpu, gpu, small]) it.dispose();
  }
});

test("the command line names the adapter, counts the dispatches, and puts backends side by side", async () => {
  const small = fixture("fixtures/il_moe.safetensors");
  const model = await checkpoint.load({ backend: "webgpu" });
  const { adapter } = model.backend;
  model.dispose();
  const facts = [adapter.name, `by ${adapter.api}`, ...adapter.features].join(", ");
  // One process: each compiles its kernels anew, which takes long where a GPU is emulated.
  const bench = await cli(["bench", small, "--backend", "webgpu", "--explain", "--repeats", "1"]);
  assert.equal(bench.code, 0, bench.stderr);
  assert.ok(bench.stdout.includes(facts), `${facts} in ${bench.stdout}`);
  const [, ...sums] = bench.stdout.match(/^a token +(\d+) +([\d,]+) +([\d,]+)$/m) ?? [];
  assert.equal(sums[0], String(3 * 4 + 3), bench.stdout);
  const rows = [...bench.stdout.matchAll(/ (\d+) +([\d,]+) +([\d,]+)$/gm)].slice(0, -1);
  const number = (text) => Number(text.replaceAll(",", ""));
  for (const [at, sum] of sums.entries()) {
    const added = rows.reduce((total, row) => total + number(row[at + 1]), 0);
    assert.equal(added, number(sum), bench.stdout);
  }

  const file = join(scratch(), "ids.bin");
  writeFileSync(
    file,
    Uint16Array.from({ length: 96 }, (_, i) => (i * 7) % 50),
  );
  const backends = ["--backend", "cpu", "--backend-b", "webgpu"];
  const compared = await cli(["compare", small, small, ...backends, "--ids", file]);
  assert.equal(compared.code, 0, compared.stderr);
  assert.match(compared.stdout, /computed by +cpu +webgpu: \S/);
  assert.ok(compared.stderr.includes(`GPU: ${facts}`), compared.stderr);
});

test("every command that computes explains --backend", async () => {
  for (const command of ["evaluate", "compare", "generate", "logits", "bench"]) {
    assert.match(
      (await cli([command, "--help"])).stdout,
      /--backend NAME +what computes \(default auto\): auto, cpu, webgpu/,
      command,
    );
  }
  const wrong = await cli(["evaluate", DEMO, "--text", HELDOUT, "--backend", "npu"]);
  assert.deepEqual([wrong.code, /auto, cpu, webgpu/.test(wrong.stderr)], [2, true]);
});

test("without an adapter the CPU computes, and says why", async () => {
  const env = { ...process.env, VK_DRIVER_FILES: "/nowhere.json", VK_ICD_FILENAMES: "/nowhere.json" };
  const refused = await cli(["evaluate", DEMO, "--text", HELDOUT, "--backend", "webgpu", "--json"], { env });
  if (process.platform === "linux") {
    assert.equal(refused.code, 1);
    assert.equal(refused.json.error.code, "no-gpu");
    const auto = await cli(["evaluate", DEMO, "--text", HELDOUT, "--limit", "512", "--json"], { env });
    assert.equal(auto.json.backend, "cpu");
    assert.match(auto.stderr, /the CPU computes: no GPU/);
  }
});

/** Ids that can be learned: four in a row, in one of five orders. */
function learnable(length, seed) {
  let state = seed;
  return Uint16Array.from({ length }, (_, at) => {
    if (at % 4 === 0) state = (state * 1103515245 + 12345) % 2 ** 31;
    return 8 * (Math.floor(state / 2 ** 16) % 5) + (((at % 4) * 3) % 8);
  });
}

const SMALL = {
  text: learnable(2048, 1),
  heldOut: learnable(256, 2),
  window: 24,
  batch: 2,
  steps: 8,
  validateEvery: 4,
};
const looks = ({ report }) => report.training.validation;
const near = (found, right, what) => {
  assert.deepEqual(
    found.map(({ step }) => step),
    right.map(({ step }) => step),
  );
  for (const [at, { nll }] of right.entries())
    assert.ok(Math.abs(found[at].nll - nll) < 2e-3, `${what}: ${found[at].nll} instead of ${nll} at look ${at}`);
};

test("training on the GPU is training on the CPU: a student, what is healed, and what goes on elsewhere", async () => {
  const teacher = await open(fixture("fixtures/il_moe.safetensors"));
  const asked = { ...SMALL, student: [{ prune: { kind: "inner", keep: 0.5 } }] };
  const right = await distill(teacher, { ...asked, backend: "cpu" });
  const kept = [];
  const made = await distill(teacher, { ...asked, backend: "webgpu", onSnapshot: (snapshot) => kept.push(snapshot) });
  assert.deepEqual([right.report.training.device, made.report.training.device], ["flex", "wgpu"]);
  assert.match(made.report.findings.find(({ code }) => code === "trained-by-gpu").message, /^the GPU .+ trained/);
  near(looks(made), looks(right), "the student");
  assert.ok(looks(right).at(-1).nll < looks(right)[0].nll - 0.05, "it learns something");

  // What the GPU began, the CPU goes on with, and says so.
  const gone = await distill(teacher, { resume: kept[1], backend: "cpu" });
  assert.equal(gone.report.training.device, "flex");
  near(looks(gone), looks(right), "what went on");
  const told = gone.report.findings.find(({ code }) => code === "other-device").message;
  assert.equal(told, "flex goes on from step 4, up to which wgpu trained");

  // Codes and all: they are rounded on the way.
  const coded = await teacher.compress("int4");
  const how = { ...SMALL, weights: "all", learningRate: 1e-3 };
  const healed = await recover(teacher, coded, { ...how, backend: "webgpu" });
  const expected = await recover(teacher, coded, { ...how, backend: "cpu" });
  assert.equal(healed.report.training.device, "wgpu");
  near(looks(healed), looks(expected), "what was healed");
  for (const it of [teacher, right, made, gone, coded, healed, expected]) it.dispose();
});

test("a GPU that is lost while it trains ends the training, which goes on from its snapshot, on a GPU too", async () => {
  const teacher = await open(fixture("fixtures/il_ffn.safetensors"));
  const asked = { ...SMALL, student: [{ prune: { kind: "inner", keep: 0.5 } }] };
  const right = await distill(teacher, { ...asked, backend: "cpu" });
  const kept = [];
  const lost = distill(teacher, {
    ...asked,
    backend: "webgpu",
    onSnapshot: (snapshot) => kept.push(snapshot),
    onPoint: ({ step }) => {
      // As a driver that is reset does.
      if (step === 4) for (const it of devices.splice(0)) it.destroy();
    },
  });
  await assert.rejects(lost, { code: "gpu-lost", message: /training goes on from it, on the CPU as well/ });
  const gone = await distill(teacher, { resume: kept.at(-1), backend: "webgpu" });
  assert.equal(gone.report.training.device, "wgpu");
  near(looks(gone), looks(right), "what went on");

  // What a driver refuses, with nobody waiting for an answer, is told by whatever is asked next.
  const refused = distill(teacher, {
    ...asked,
    backend: "webgpu",
    onPoint: ({ step }) => {
      const device = devices.findLast(({ label }) => label === "statepress training");
      if (step === 4) device.createBuffer({ size: 4, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.MAP_WRITE });
    },
  });
  await assert.rejects(refused, { code: "gpu-validation" });

  // Who leaves the choice is told, once of every look, and has the student.
  const points = [];
  const left = await distill(teacher, {
    ...asked,
    backendOptions: { software: true },
    onPoint: (point) => points.push(point),
    // Once the look at step 4 is written down.
    onSnapshot: () => {
      if (points.length === 2) for (const it of devices.splice(0)) it.destroy();
    },
  });
  assert.equal(left.report.training.device, "flex");
  near(looks(left), looks(right), "what the CPU went on with");
  assert.deepEqual(points, looks(left), "what was told");
  const [by, from] = ["trained-by-gpu", "backend-cpu"].map((code) =>
    left.report.findings.find((it) => it.code === code),
  );
  assert.ok(by, "half of it is the GPU's");
  assert.equal(from.level, "warning");
  assert.match(from.message, /^the CPU computes: the GPU was lost: [^\n]+; it went on from step 4$/);
  for (const it of [teacher, right, gone, left]) it.dispose();
});
