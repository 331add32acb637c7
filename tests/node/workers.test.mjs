// Workers that share what a calibration text is read for: the same result as of one, errors and cancelling included.

import assert from "node:assert/strict";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { compare, open, search } from "statepress";
import { cli, DEMO, fixture, HELDOUT, scratch, start } from "../support/node.mjs";

const folder = scratch();
const SMALL = fixture("fixtures/il_moe.safetensors");
const ids = Uint16Array.from({ length: 2048 }, (_, i) => (i * 37 + ((i * i) % 11)) % 50);
const bin = join(folder, "ids.bin");
writeFileSync(bin, ids);
const judging = join(folder, "judging.bin");
writeFileSync(
  judging,
  ids.map((id) => (id * 7 + 3) % 50),
);

const bytesOf = async (compressed) => Buffer.from(await (await compressed.save("blob")).arrayBuffer());

/** What does not depend on who did the work. */
function same({ seconds, peakMemory, findings, ...report }) {
  return { ...report, findings: findings.filter(({ code }) => code !== "workers") };
}

test("two workers compress to the bytes of one, and say that they were two", async () => {
  const checkpoint = await open(DEMO);
  const calibration = readFileSync(HELDOUT, "utf8").slice(0, 8000);
  const rules = [{ match: "*", precision: "int8", step: 0.3 }];
  const quantize = { rules, otherwise: "fp32", coded: true, errorCompensation: "gptq" };
  const coded = { version: 1, name: "coded", steps: [{ center: {} }, { basis: {} }, { quantize }] };
  for (const recipe of ["nf4", coded]) {
    const one = await checkpoint.compress(recipe, { calibration });
    const stages = new Map();
    const onProgress = ({ stage, done, total }) => {
      assert.ok(done <= total, `${stage}: ${done} of ${total}`);
      stages.set(stage, total);
    };
    const two = await checkpoint.compress(recipe, { calibration, workers: 2, onProgress });
    assert.ok((await bytesOf(two)).equals(await bytesOf(one)), "the same bytes");
    assert.deepEqual(same(two.report), same(one.report));
    assert.ok(!one.report.findings.some(({ code }) => code === "workers"), "of a small model one is enough");
    assert.match(two.report.findings.find(({ code }) => code === "workers").message, /^2 workers /);
    for (const stage of ["calibrate", "compress"]) assert.ok(stages.has(stage), [...stages.keys()].join());
    for (const it of [one, two]) it.dispose();
  }
  checkpoint.dispose();
});

test("what is stored in no codes has nothing to share", async () => {
  const checkpoint = await open(fixture("fixtures/il_ffn.safetensors"));
  const prune = { kind: "layers", keep: 0.5, by: "loss" };
  const steps = (otherwise) => [{ prune }, { quantize: { rules: [], otherwise } }];
  for (const [otherwise, isShared] of [
    ["fp16", false],
    ["nf4", true],
  ]) {
    const recipe = { version: 1, name: otherwise, steps: steps(otherwise) };
    const compressed = await checkpoint.compress(recipe, { calibration: ids, workers: 2 });
    assert.equal(compressed.report.pruned.length, 1, otherwise);
    const isSaid = compressed.report.findings.some(({ code }) => code === "workers");
    assert.equal(isSaid, isShared, otherwise);
    compressed.dispose();
  }
  checkpoint.dispose();
});

test("workers search as one does: the same costs, told of all the while, and the same file", async () => {
  const checkpoint = await open(SMALL);
  for (const coded of [false, true]) {
    const asked = { calibration: ids, fast: true, coded };
    const one = await search(checkpoint, { ratio: 5 }, asked);
    const told = [];
    const two = await search(checkpoint, { ratio: 5 }, { ...asked, workers: 3, onCosts: (costs) => told.push(costs) });
    assert.deepEqual(two.costs, one.costs);
    assert.deepEqual(told.at(-1), one.costs);
    assert.deepEqual([two.recipe, two.measured, two.front], [one.recipe, one.measured, one.front]);
    assert.ok((await bytesOf(two.compressed)).equals(await bytesOf(one.compressed)), "the same bytes");
    const all = one.costs.tensors.length;
    for (const { tensors, unmeasured } of told) assert.equal(tensors.length + unmeasured, all);
    const [first] = told;
    assert.ok(first.unmeasured > 0 && first.fixedBytes > one.costs.fixedBytes, "what is not measured is in the size");
    // What is known is not measured again, whoever measures the rest.
    const known = { ...one.costs, tensors: one.costs.tensors.slice(3), unmeasured: 3 };
    const rest = await search(checkpoint, { ratio: 5 }, { ...asked, workers: 2, costs: known });
    assert.deepEqual(rest.recipe, one.recipe);
    for (const it of [one, two, rest]) it.compressed.dispose();
  }
  checkpoint.dispose();
});

/** A card without what depends on who measured. */
function card({ a, b, ...rest }) {
  const of = ({ seconds, tokensPerSecond, findings, ...it }) => ({
    ...it,
    findings: findings.filter(({ code }) => code !== "workers" && code !== "alone"),
  });
  return { ...rest, a: of(a), b: of(b) };
}

test("workers compare as one does, to the last digit, checkpoints and models alike", async () => {
  const checkpoint = await open(DEMO);
  const compressed = await checkpoint.compress("int4");
  const text = readFileSync(HELDOUT, "utf8");
  const second = { text: text.slice(-6000) };
  const asked = { text: text.slice(0, 12000), second, backend: "cpu", offset: "detect" };
  const one = await compare(checkpoint, compressed, asked);
  assert.ok(one.a.windows > 4 && one.second, "there is something to share");
  const stages = new Set();
  const onProgress = ({ stage, done, total }) => {
    assert.ok(done <= total, `${stage}: ${done} of ${total}`);
    stages.add(stage);
  };
  const two = await compare(checkpoint, compressed, { ...asked, workers: 2, onProgress });
  assert.deepEqual(card(two), card(one));
  assert.ok(stages.has("compare") && stages.has("compare second"), [...stages].join());
  assert.ok(!one.a.findings.some(({ code }) => code === "workers"), "of small models one is enough");
  assert.match(two.a.findings.find(({ code }) => code === "workers").message, /^2 workers /);
  // Models that are loaded stay so, and workers load their own; not where the file of one is gone.
  const models = [await checkpoint.load({ backend: "cpu" }), await compressed.load({ backend: "cpu" })];
  const three = await compare(...models, { ...asked, workers: 3 });
  assert.deepEqual(card(three), card(one));
  assert.match(three.a.findings.find(({ code }) => code === "workers").message, /^3 workers /);
  await compressed.released();
  const alone = await compare(...models, { ...asked, workers: 3 });
  assert.deepEqual(card(alone), card(one));
  assert.match(alone.a.findings.find(({ code }) => code === "alone").message, /disposed/);
  // What fails fails as it does without.
  const short = compare(checkpoint, checkpoint, { text: "a", backend: "cpu", workers: 2 });
  await assert.rejects(short, { code: "bad-ids" });
  for (const it of models) it.dispose();
  checkpoint.dispose();
});

test("workers evaluate as one does, to the last digit, whatever the offset", async () => {
  const checkpoint = await open(DEMO);
  const model = await checkpoint.load({ backend: "cpu" });
  const text = readFileSync(HELDOUT, "utf8").slice(0, 8000);
  for (const offset of [undefined, "detect"]) {
    const one = await model.evaluate(text, { offset });
    assert.ok(one.windows > 4 && (offset === undefined || one.nllByOffset.length === 4), "there is something to share");
    const progress = [];
    const asked = { offset, workers: 2, onProgress: (it) => progress.push(it) };
    const two = await model.evaluate(text, asked);
    assert.deepEqual(card({ a: two, b: one }).a, card({ a: one, b: two }).a);
    assert.ok(progress.some(({ stage, done, total }) => stage === "evaluate" && done === total));
    assert.ok(!one.findings.some(({ code }) => code === "workers"), "of a small model one is enough");
    assert.match(two.findings.find(({ code }) => code === "workers").message, /^2 workers have each evaluated/);
  }
  await assert.rejects(model.evaluate([1, 2, 3], { workers: 2 }), { code: "bad-ids", message: /do not fill/ });
  // No more than there are windows: who would have nothing to do is not started.
  const told = async (options) =>
    (await model.evaluate(text, options)).findings.map(({ message }) => message).join("\n");
  assert.match(await told({ workers: 8, limit: 512 }), /^2 workers have each/m);
  assert.match(
    await told({ workers: 2, limit: 256 }),
    /^one worker does what 2 would have shared: there are not two windows/m,
  );
  // Why it is the CPU is not forgotten.
  const auto = await checkpoint.load({ backend: "auto" });
  const { findings } = await auto.evaluate(text, { limit: 512, workers: 2 });
  assert.equal(findings.filter(({ code }) => code === "backend-cpu").length, auto.backend.name === "cpu" ? 1 : 0);
  auto.dispose();
  for (const workers of [1, 2]) await assert.rejects(auto.evaluate(text, { workers }), { code: "disposed" });
  await assert.rejects(model.evaluate(text, { workers: 0 }), { code: "bad-option", message: /workers/ });
  await checkpoint.released();
  const alone = await model.evaluate(text, { workers: 2 });
  assert.match(alone.findings.find(({ code }) => code === "alone").message, /disposed/);
  model.dispose();
});

test("on the command line too, and nothing is left behind", async () => {
  const temporary = join(folder, "temporary");
  mkdirSync(temporary);
  const env = { ...process.env, TMPDIR: temporary };
  const made = async (name, ...more) => {
    const out = join(folder, name);
    const args = ["compress", SMALL, "-o", out, "--recipe", "int4", "--calibrate-ids", bin, "--json", ...more];
    const said = await cli(args, { env });
    assert.equal(said.code, 0, said.stderr);
    return readFileSync(out);
  };
  assert.ok((await made("two.safetensors", "--workers", "2")).equals(await made("one.safetensors", "--workers", "1")));
  const judged = async (...more) => {
    const args = ["compare", SMALL, join(folder, "two.safetensors"), "--ids", judging, "--backend", "cpu", "--json"];
    const said = await cli([...args, ...more], { env });
    assert.equal(said.code, 0, said.stderr);
    return card(JSON.parse(said.stdout));
  };
  assert.deepEqual(await judged("--workers", "2"), await judged());
  const perplexity = async (...more) => {
    const said = await cli(["evaluate", SMALL, "--ids", judging, "--backend", "cpu", "--json", ...more], { env });
    assert.equal(said.code, 0, said.stderr);
    return JSON.parse(said.stdout);
  };
  const [shared, single] = [await perplexity("--workers", "2"), await perplexity()];
  assert.deepEqual(card({ a: shared, b: single }).a, card({ a: single, b: shared }).a);
  assert.ok(shared.findings.some(({ code }) => code === "workers"));
  const out = join(folder, "found.safetensors");
  const args = ["search", SMALL, "-o", out, "--budget", "5x", "--fast", "--calibrate-ids", bin, "--json"];
  const found = await cli([...args, "--workers", "2"], { env });
  assert.equal(found.code, 0, found.stderr);
  assert.deepEqual(readdirSync(temporary), []);
  const refused = await cli([...args, "--force", "--workers", "none"], { env });
  assert.equal(refused.code, 2);
  assert.match(refused.stderr, /--workers/);
});

test("a signal ends the workers, and a second one does not leave their files behind", async () => {
  for (const again of [false, true]) {
    const [temporary, made] = [join(folder, `signalled-${again}`), join(folder, `made-${again}`)];
    mkdirSync(temporary);
    mkdirSync(made);
    const args = ["compress", DEMO, "-o", join(made, "out.safetensors"), "--recipe", "nf4", "--calibrate", HELDOUT];
    const { child, done } = start([...args, "--workers", "2", "--quiet"], {
      env: { ...process.env, TMPDIR: temporary },
    });
    // Each worker writes a file of its own.
    for (let tries = 0; readdirSync(temporary).length < 2; tries += 1) {
      assert.ok(tries < 1200, "the work begins");
      await sleep(25);
    }
    child.kill("SIGINT");
    if (again) {
      await sleep(400);
      child.kill("SIGINT");
    }
    assert.equal((await done).code, 130);
    assert.deepEqual([readdirSync(temporary), readdirSync(made)], [[], []]);
  }
});

test("where no worker can be started one does it all and says so, unless a number was asked for", async () => {
  const { Workers } = await import("../../web/dist/api/workers.js");
  const host = { call: () => Promise.reject(new Error("no threads here")), close: () => {} };
  const environment = { cores: 16, worker: () => host };
  const large = 130e6;
  const usual = new Workers(environment, large, undefined);
  assert.equal(await usual.team(), undefined);
  assert.match(usual.findings[0].message, /^one worker does what 2 .*no threads here/);
  assert.equal(usual.findings[0].code, "alone");
  await assert.rejects(new Workers(environment, large, 2).team(), /no threads here/);
  // What is small, and what is so large that it has room once, is for one.
  for (const params of [15e6, 2e9]) {
    const one = new Workers(environment, params, undefined);
    assert.deepEqual([await one.team(), one.findings], [undefined, []]);
  }
});

test("nothing is shared where nothing is quantized, and what is disposed of stays so", async () => {
  const checkpoint = await open(SMALL);
  const recipe = { version: 1, name: "pruned", steps: [{ prune: { kind: "width", keep: 0.5, by: "activation" } }] };
  const pruned = await checkpoint.compress(recipe, { calibration: ids, workers: 2 });
  assert.ok(!pruned.report.findings.some(({ code }) => code === "workers"));
  pruned.dispose();
  await checkpoint.released();
  await assert.rejects(checkpoint.compress("nf4", { calibration: ids, workers: 2 }), { code: "disposed" });
});

test("what fails in a worker fails as it does without, and a stopped search stops the workers", async () => {
  const bytes = readFileSync(SMALL);
  const data = 8 + Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.subarray(8, data).toString("utf8"));
  const name = Object.keys(header).find((it) => it.endsWith("in_proj.weight"));
  bytes.writeFloatLE(Number.NaN, data + header[name].data_offsets[0]);
  const broken = await open(new Uint8Array(bytes));
  const failing = (workers) => broken.compress("nf4", { calibration: ids, workers }).catch((error) => error);
  const [one, two] = [await failing(1), await failing(2)];
  assert.equal(one.code, "evaluation-failed");
  // Whichever worker comes first to what it makes of that names its own tensor.
  assert.equal(two.code, one.code);
  for (const { message } of [one, two])
    assert.match(message, /: what enters \S+ is not a number somewhere in the calib/);

  const checkpoint = await open(SMALL);
  const stop = new AbortController();
  const onProgress = ({ stage }) => stage === "search" && stop.abort(new Error("enough"));
  const asked = { calibration: ids, workers: 2, signal: stop.signal, onProgress };
  await assert.rejects(search(checkpoint, { ratio: 5 }, asked), ({ code, cause }) => {
    assert.deepEqual([code, cause.message], ["aborted", "enough"]);
    return true;
  });
  // What a function of one's own throws fails the call.
  const told = () => {
    throw new Error("no more of this");
  };
  for (const workers of [1, 2]) {
    await assert.rejects(
      checkpoint.compress("nf4", { calibration: ids, workers, onProgress: told }),
      /no more of this/,
    );
  }
  for (const workers of [0, 1.5, 65, Number.NaN]) {
    await assert.rejects(checkpoint.compress("nf4", { calibration: ids, workers }), {
      code: "bad-option",
      message: /option workers is .*; allowed: a whole number from 1 to 64/,
    });
  }
  await assert.rejects(checkpoint.compress("nf4", { workers: "two" }), { code: "bad-option", message: /workers/ });
});
