// The library in Node, used as its documentation says: open, understand, plan, compress, save, load, measure.

import assert from "node:assert/strict";
import { copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { codes, compare, Model, open, qualityCard, recipes, StatepressError } from "statepress";
import { DEMO, fixture, HELDOUT, readSafetensors, scratch } from "../support/node.mjs";

const folder = scratch();
const heldout = readFileSync(HELDOUT, "utf8");
const short = heldout.slice(0, 6000);

/** The error of a promise; its code must be that one. */
async function refused(promise, code, words = /./) {
  const error = await promise.then(
    () => assert.fail(`expected ${code}`),
    (thrown) => thrown,
  );
  assert.ok(error instanceof StatepressError, `${error}`);
  assert.equal(error.code, code, error.message);
  assert.ok(codes.includes(error.code));
  assert.match(error.message, words);
  return error;
}

test("a folder is opened by its headers, with its configuration and tokenizer", async () => {
  const checkpoint = await open(DEMO);
  const { inspection } = checkpoint;
  assert.equal(inspection.format, "safetensors");
  assert.equal(inspection.family, "itera-lite");
  assert.equal(inspection.params, 1902880);
  assert.equal(inspection.spec.top_k_experts.value, 2);
  assert.equal(inspection.spec.top_k_experts.origin, "read");
  assert.ok(inspection.tensors.length > 60);
  checkpoint.dispose();
});

test("bytes, Files and lists of paths open as well; only what was given is used", async () => {
  const path = join(DEMO, "model.safetensors");
  const bytes = new Uint8Array(readFileSync(path));
  const file = new File([bytes], "model.safetensors");
  const list = [path, join(DEMO, "config.json")];
  for (const input of [bytes, file, list]) {
    const checkpoint = await open(input);
    assert.equal(checkpoint.inspection.params, 1902880);
    assert.equal(checkpoint.inspection.spec.top_k_experts.origin, input === list ? "read" : "assumed");
    const model = await checkpoint.load();
    assert.throws(() => model.encode("text"), { code: "no-tokenizer" });
    model.dispose();
    checkpoint.dispose();
  }
});

test("fields that the checkpoint does not say can be given", async () => {
  const checkpoint = await open(new Uint8Array(readFileSync(join(DEMO, "model.safetensors"))), {
    set: { top_k_experts: 1 },
  });
  const { value, origin } = checkpoint.inspection.spec.top_k_experts;
  assert.deepEqual({ value, origin }, { value: 1, origin: "given" });
  checkpoint.dispose();
});

test("which file is meant is never guessed", async () => {
  await refused(open(join(folder, "missing.pt")), "bad-input", /missing\.pt does not exist/);
  await refused(open(fixture("fixtures")), "bad-input", /several files could be the weights/);
  await refused(open(scratch()), "bad-input", /no weights, for there are no files: expected/);
  // Four tokenizers lie beside this checkpoint: it opens, and text asks for a choice.
  const ambiguous = await open(fixture("itera-lite/itera_lite_micro_distilled.pt"));
  const model = await ambiguous.load();
  assert.throws(() => model.encode("the fox"), { code: "no-tokenizer", message: /several tokenizers.*tokenizer_2000/ });
  const named = await open(fixture("itera-lite/itera_lite_micro_distilled.pt"), {
    tokenizer: fixture("itera-lite/tokenizer_2000.json"),
  });
  const other = await named.load();
  assert.deepEqual(Array.from(other.encode("The fox")), [4, 16]);
  for (const it of [ambiguous, model, named, other]) it.dispose();
});

test("model.safetensors is taken among several weights, and that is said", async () => {
  const both = join(folder, "both");
  mkdirSync(both);
  for (const name of ["il_moe.safetensors", "il_moe.zip.pt"]) {
    copyFileSync(fixture(`fixtures/${name}`), join(both, name === "il_moe.safetensors" ? "model.safetensors" : name));
  }
  const checkpoint = await open(both);
  const finding = checkpoint.inspection.findings.find(({ code }) => code === "several-weights");
  const compressed = await checkpoint.compress("none");
  assert.deepEqual([checkpoint.weightsName, compressed.weightsName], ["model.safetensors", "model.safetensors"]);
  compressed.dispose();
  assert.match(finding.message, /model\.safetensors was taken.*not il_moe\.zip\.pt/);
  checkpoint.dispose();
});

test("files that are no checkpoints are refused with their reason", async () => {
  const reject = (name) => fixture(`fixtures/reject.${name}`);
  const whole = await refused(open(reject("whole_module.pt")), "whole-module");
  assert.equal(JSON.parse(JSON.stringify(whole)).code, "whole-module");
  // What a pickle would call is told and never done; the weights beside it open.
  const called = await open(reject("global_call.pt"));
  assert.ok(called.inspection.findings.some(({ code, level }) => code === "dangerous-pickle" && level === "warning"));
  called.dispose();
  for (const name of ["truncated.pt", "truncated.legacy.pt", "header_len.safetensors", "plain_pickle.pt"]) {
    await assert.rejects(open(reject(name)), StatepressError);
  }
  const gguf = join(folder, "m.gguf");
  writeFileSync(gguf, Buffer.concat([Buffer.from("GGUF"), Buffer.alloc(64)]));
  await refused(open(gguf), "unsupported-format", /GGUF/i);
});

test("a plan predicts exactly what compressing then does", async () => {
  const checkpoint = await open(DEMO);
  for (const { name } of await recipes()) {
    const plan = await checkpoint.plan(name);
    const compressed = await checkpoint.compress(name);
    assert.deepEqual(compressed.report.bytes, plan.bytes, name);
    assert.equal(compressed.inspection.bytes, plan.bytes.after, name);
    assert.equal(compressed.report.tensors.length, plan.tensors.length);
    compressed.dispose();
  }
  checkpoint.dispose();
});

test("a tensor is looked at: its numbers, and what compressing would make of them", async () => {
  const checkpoint = await open(DEMO);
  const name = "layers.0.ssm.in_proj.weight";
  const quantize = { nf4: { doubleQuant: false, block: 128 }, int4: { group: 64 } };
  const view = await checkpoint.tensor(name, { bins: 8, precisions: ["nf4", "int8", "int4"], quantize });
  assert.deepEqual([view.name, view.shape, view.dtype, view.params], [name, [512, 128], "F32", 65536]);
  // As NumPy has them, see tests/rust/view.rs.
  const { min, max, mean, std, absMax, zeros, nonFinite, kurtosis } = view.statistics;
  assert.deepEqual([min, max, absMax, zeros, nonFinite], [-0.372165709733963, 0.4513712227344513, max, 0, 0]);
  assert.ok(Math.abs(mean + 0.0007208469969702744) < 1e-15 && Math.abs(std - 0.09330537874466692) < 1e-13);
  assert.ok(Math.abs(kurtosis - 0.04939338330368015) < 1e-11);
  assert.deepEqual(view.histogram, { from: min, to: max, counts: [133, 2388, 13862, 27358, 17779, 3728, 276, 12] });

  const { values } = readSafetensors(join(DEMO, "model.safetensors"))[name];
  for (const coded of view.coded) {
    const { precision, block } = coded;
    const steps = [{ quantize: { rules: [{ match: name, precision }], otherwise: "fp32", ...quantize } }];
    const compressed = await checkpoint.compress({ version: 1, name: "one", steps });
    const { error, bytesAfter } = compressed.report.tensors.find((tensor) => tensor.name === name);
    assert.deepEqual([coded.stored, coded.error, coded.bytes], [precision, error, bytesAfter]);
    assert.equal(coded.bitsPerWeight, (8 * bytesAfter) / view.params);
    // What is shown of the block is in the file, and becomes what the produced file has.
    const { start } = block;
    assert.deepEqual(block.values, Array.from(values.subarray(start, start + 64)));
    assert.ok(block.values.includes(max) && block.decoded.every((value) => block.levels.includes(value)));
    const again = await compressed.tensor(name, { precisions: ["fp32"] });
    assert.deepEqual(again.coded[0].block.values, await first64(compressed, name));
    assert.equal(again.dtype, precision.toUpperCase());
    compressed.dispose();
  }
  assert.deepEqual(
    view.coded.map(({ block }) => block.levels.length),
    [16, 255, 15],
  );

  const usual = await checkpoint.tensor("norm.weight");
  assert.deepEqual([usual.histogram.counts.length, usual.coded], [64, []]);
  const vector = await checkpoint.tensor("norm.weight", { precisions: ["nf4", "fp16"] });
  assert.deepEqual(
    vector.coded.map(({ precision, stored, block }) => [precision, stored, block.scale, block.levels]),
    [
      ["nf4", "fp32", null, []],
      ["fp16", "fp16", null, []],
    ],
  );
  assert.match(vector.coded[0].findings[0].message, /nf4 refused: a vector is not quantized.*stored as fp32/);

  const near = await refused(
    checkpoint.tensor("layers.0.ssm.in_prj.weight"),
    "unknown-tensor",
    /near to it: layers\.0/,
  );
  assert.deepEqual([near.tensor, near.near.split(", ")[0]], ["layers.0.ssm.in_prj.weight", name]);
  for (const bins of [0, 1025]) await refused(checkpoint.tensor(name, { bins }), "bad-option", /bins is .*1 to 1024/);
  for (const bins of [1.5, -1, NaN]) await refused(checkpoint.tensor(name, { bins }), "bad-option", /bins.*whole/);
  await refused(checkpoint.tensor(name, { precisions: ["nf5"] }), "bad-option", /nf5/);
  const unknown = await refused(checkpoint.tensor(name, { quantize: { int3: {} } }), "bad-option", /quantize.*int3/);
  assert.equal(unknown.option, "quantize");
  await refused(checkpoint.tensor(name, { quantize: { int4: { group: 48 } } }), "bad-option", /int4\.group is 48/);
  await refused(checkpoint.tensor(name, { quantize: 7 }), "bad-option", /quantize/);
  await refused(checkpoint.tensor(name, { signal: AbortSignal.abort() }), "aborted");
  checkpoint.dispose();
  await refused(checkpoint.tensor(name), "disposed", /disposed/);
});

/** The first numbers of a tensor of the file that was produced. */
async function first64(compressed, name) {
  const steps = [{ quantize: { rules: [], otherwise: "fp32" } }];
  const widened = await compressed.compress({ version: 1, name: "wide", steps });
  const path = join(scratch(), "wide.safetensors");
  await widened.save(path);
  widened.dispose();
  return Array.from(readSafetensors(path)[name].values.subarray(0, 64));
}

test("numbers that are none are numbers in JavaScript, too", async () => {
  const header = JSON.stringify({ odd: { dtype: "F32", shape: [2, 3], data_offsets: [0, 24] } });
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  const values = [Number.NaN, 1, Number.POSITIVE_INFINITY, -3, 0, Number.NEGATIVE_INFINITY];
  const bytes = Buffer.concat([length, Buffer.from(header), Buffer.from(new Float32Array(values).buffer)]);
  const checkpoint = await open(new Uint8Array(bytes));
  const view = await checkpoint.tensor("odd", { bins: 4, precisions: ["fp16"] });
  const { min, max, mean, zeros, nonFinite } = view.statistics;
  assert.deepEqual([min, max, mean, zeros, nonFinite], [-3, 1, -2 / 3, 1, 3]);
  assert.deepEqual(
    [view.histogram.counts, view.coded[0].histogram],
    [
      [1, 0, 0, 2],
      [1, 0, 0, 2],
    ],
  );
  assert.deepEqual(view.coded[0].block.values, values);
  assert.deepEqual(view.coded[0].block.decoded, values);
  assert.deepEqual(
    view.findings.map(({ code }) => code),
    ["non-finite"],
  );
  const error = await refused(checkpoint.tensor("odd", { precisions: ["nf4"] }), "bad-tensor", /NaN/);
  assert.equal(error.tensor, "odd");
  checkpoint.dispose();
});

test("recipes may be objects; bad ones are refused by field and limit", async () => {
  const checkpoint = await open(DEMO);
  const quantize = (extra) => ({
    version: 1,
    name: "mine",
    steps: [{ quantize: { rules: [{ match: "*norm*", precision: "fp32" }], otherwise: "int4", ...extra } }],
  });
  const plan = await checkpoint.plan(quantize({ int4: { group: 64 } }));
  assert.equal(plan.recipe.steps[0].quantize.int4.group, 64);
  await refused(checkpoint.plan(quantize({ int4: { group: 48 } })), "bad-recipe", /int4\.group is 48/);
  await refused(checkpoint.plan(quantize({ int3: {} })), "bad-recipe", /int3/);
  await refused(checkpoint.plan("int3"), "bad-recipe", /int3/);
  checkpoint.dispose();
});

test("compressed checkpoints are saved to a path, a Blob and a stream: the same bytes", async () => {
  const checkpoint = await open(DEMO);
  const compressed = await checkpoint.compress("int8");
  const out = join(folder, "int8.safetensors");
  await compressed.save(out);
  const bytes = readFileSync(out);
  assert.equal(bytes.length, compressed.report.fileBytes);
  const blob = await compressed.save("blob");
  assert.ok(bytes.equals(Buffer.from(await blob.arrayBuffer())));
  const parts = [];
  await compressed.save(new WritableStream({ write: (part) => void parts.push(part) }));
  assert.ok(bytes.equals(Buffer.concat(parts)));

  await refused(compressed.save(out), "exists", /--force/);
  await compressed.save(out, { force: true });
  await refused(
    compressed.save(join(folder, "x"), { format: "tflite" }),
    "bad-option",
    /safetensors, plain, bitsandbytes, compressed-tensors, gguf/,
  );
  await refused(checkpoint.save(join(folder, "x")), "unsupported");
  assert.deepEqual(
    readdirSync(folder).filter((name) => name.includes("partial")),
    [],
  );
  // What was saved opens on its own, configuration and recipe included.
  const again = await open(new Uint8Array(bytes));
  assert.equal(again.inspection.recipe.name, "int8");
  assert.equal(again.inspection.spec.top_k_experts.value, 2);
  for (const it of [checkpoint, compressed, again]) it.dispose();
});

test("evaluating gives the numbers of the reference, and text the same as its ids", async () => {
  const checkpoint = await open(DEMO);
  const model = await checkpoint.load();
  assert.equal(model.backend.name, "cpu");
  const reference = readSafetensors(fixture("trained/itera-tiny.safetensors"));
  const windows = await model.evaluate(reference.input_ids.values);
  const expected = reference.nll.values.reduce((a, b) => a + b) / reference.nll.values.length;
  assert.deepEqual([windows.windows, windows.window, windows.tokens], [2, 256, 510]);
  assert.ok(Math.abs(windows.nll - expected) < 1e-4, `${windows.nll}, PyTorch has ${expected}`);

  const progress = [];
  const evaluation = await model.evaluate(short, { window: 128, onProgress: (it) => progress.push(it) });
  assert.equal(evaluation.window, 128);
  assert.equal(evaluation.tokens, evaluation.windows * 127);
  assert.ok(progress.length > 0 && progress.every(({ stage, done, total }) => stage === "evaluate" && done <= total));
  const again = await model.evaluate(model.encode(short), { window: 128 });
  assert.equal(again.nll, evaluation.nll);
  await refused(model.evaluate([1, 2, 9000], { window: 3 }), "bad-ids", /9000/);
  await refused(model.evaluate([1, 2, 3]), "bad-ids", /3 tokens do not fill one window of 256/);
  await refused(model.evaluate([1, 2, -3]), "bad-ids", /-3/);
  await refused(checkpoint.load({ backend: "npu" }), "bad-option", /auto, cpu, webgpu/);
  model.dispose();
  checkpoint.dispose();
});

test("tokens that the tokenizer does not know are counted in the findings", async () => {
  const checkpoint = await open(fixture("itera-lite/itera_lite_micro_distilled.pt"), {
    tokenizer: fixture("itera-lite/tokenizer_2000.json"),
  });
  const model = await checkpoint.load();
  const evaluation = await model.evaluate(`${"once upon a time there was a fox ".repeat(40)}zyx `.repeat(2));
  const finding = evaluation.findings.find(({ code }) => code === "unknown-tokens");
  const unknown = model
    .encode(`${"once upon a time there was a fox ".repeat(40)}zyx `.repeat(2))
    .filter((id) => id === 1);
  assert.ok(unknown.length >= 2);
  assert.match(finding.message, new RegExp(`^${unknown.length} of \\d+ tokens`));
  model.dispose();
  checkpoint.dispose();
});

test("errors carry their facts as fields", async () => {
  const set = { top_k_experts: 9 };
  const error = await refused(open(DEMO, { set }), "bad-option", /top_k_experts/);
  assert.equal(error.option, "top_k_experts");
  assert.equal(error.allowed, "a whole number from 1 to 4");
  const unknown = await refused((await open(DEMO)).plan("int3"), "bad-recipe", /int3/);
  assert.equal(unknown.recipe, "int3");
});

test("compare makes the quality card of what was produced", async () => {
  const checkpoint = await open(DEMO);
  const compressed = await checkpoint.compress("int8");
  const comparison = await compare(checkpoint, compressed, { text: short });
  assert.equal(comparison.bytes.a, checkpoint.inspection.bytes);
  assert.equal(comparison.bytes.b, compressed.inspection.bytes);
  assert.ok(comparison.bytes.ratio > 3.5);
  assert.ok(Math.abs(comparison.perplexityChange) < 1);
  assert.ok(comparison.kl.mean > 0 && comparison.kl.mean < 0.01);
  assert.ok(comparison.top1Agreement > 0.9);
  const card = Object.fromEntries(qualityCard(comparison).map((line) => [line.id, line]));
  assert.equal(card.ratio.compressed, `${comparison.bytes.ratio.toFixed(2)}x`);
  assert.match(card.perplexity.base, /^\d+\.\d+ ± \d/);
  assert.equal(card.verdict.compressed, comparison.verdict.result);
  await refused(compare(checkpoint, compressed, {}), "bad-option", /text or ids/);
  checkpoint.dispose();
  compressed.dispose();
});

test("generation streams, is repeatable, and stops when its loop is left", async () => {
  const checkpoint = await open(DEMO);
  const model = await checkpoint.load();
  const all = async (options) => {
    const tokens = [];
    for await (const token of model.generate("The history of", { maxTokens: 24, ...options })) tokens.push(token);
    return tokens;
  };
  const greedy = await all({ temperature: 0 });
  assert.equal(greedy.length, 24);
  const prompt = Array.from(model.encode("The history of"));
  const whole = model.decode([...prompt, ...greedy.map(({ id }) => id)]);
  assert.equal(`The history of${greedy.map(({ text }) => text).join("")}`, whole);
  assert.ok(greedy.every(({ probability }) => probability > 0 && probability <= 1));
  // The first token is the likeliest of the last position's logits.
  const { data, shape } = await model.logits(prompt);
  const last = data.subarray((shape[0] - 1) * shape[1]);
  assert.equal(greedy[0].id, last.indexOf(last.reduce((a, b) => Math.max(a, b))));

  const sampled = await all({ temperature: 1, topK: 40, seed: 7 });
  assert.deepEqual(await all({ temperature: 1, topK: 40, seed: 7 }), sampled);
  assert.notDeepEqual(await all({ temperature: 1, topK: 40, seed: 8 }), sampled);

  for await (const _ of model.generate("The", { maxTokens: 200 })) break;
  await refused(all({ temperature: -1 }), "bad-option", /temperature/);
  const ids = model.generate(prompt, { maxTokens: 2, temperature: 0 });
  assert.equal((await ids.next()).value.id, greedy[0].id);
  assert.equal((await ids.next()).value.id, greedy[1].id);
  const { done, value } = await ids.next();
  assert.ok(done && value.stop === "max-tokens" && value.tokensPerSecond.decode > 0);
  model.dispose();
  checkpoint.dispose();
});

test("an abort signal stops long work, and the library goes on", async () => {
  const checkpoint = await open(DEMO);
  const model = await checkpoint.load();
  const stop = new AbortController();
  const evaluating = model.evaluate(heldout, { signal: stop.signal, onProgress: () => stop.abort() });
  await refused(evaluating, "aborted");
  await refused(checkpoint.compress("int8", { signal: AbortSignal.abort() }), "aborted");
  const generating = new AbortController();
  await refused(
    (async () => {
      const options = { maxTokens: 250, signal: generating.signal };
      for await (const _ of model.generate("The", options)) generating.abort();
    })(),
    "aborted",
  );
  assert.equal((await model.evaluate(short)).windows > 0, true);
  model.dispose();
  checkpoint.dispose();
});

test("what was disposed of says so, and nothing else breaks", async () => {
  const checkpoint = await open(DEMO);
  const model = await checkpoint.load();
  assert.ok(model instanceof Model);
  checkpoint.dispose();
  checkpoint.dispose();
  assert.equal((await model.logits([1, 2, 3])).data.length, 3 * 8000);
  model.dispose();
  await refused(model.logits([1]), "disposed", /disposed/);
  await refused(checkpoint.plan("int8"), "disposed", /disposed/);
});

test("a config.json is read as Python writes it, and one that cannot be keeps no weights from opening", async () => {
  const beside = join(scratch(), "");
  copyFileSync(fixture("fixtures/il_moe.safetensors"), join(beside, "model.safetensors"));
  const opened = async (text) => {
    writeFileSync(join(beside, "config.json"), text);
    const checkpoint = await open(join(beside, "model.safetensors"));
    checkpoint.dispose();
    return checkpoint.inspection;
  };
  for (const limit of ["[0.0, Infinity]", "[NaN, -Infinity]", '[0.0, {"__float__": "Infinity"}]']) {
    const { spec, findings } = await opened(`\ufeff{"time_step_limit": ${limit}, "top_k_experts": 1.0}`);
    assert.deepEqual([spec.top_k_experts.value, spec.top_k_experts.origin], [1, "read"]);
    assert.ok(findings.some(({ code }) => code === "config-beside"));
  }
  for (const [text, words] of [
    ['{\n  "a": Infinity, }', /config\.json is ignored: line 2, column 18: /],
    ["[1]", /config\.json is ignored: line 1, column 1: a list was found where an object was expected/],
    ["", /config\.json is ignored: line 1, column 0: EOF/],
  ]) {
    const { spec, findings, tensors } = await opened(text);
    const ignored = findings.filter(({ code }) => code.startsWith("config-"));
    assert.deepEqual(
      ignored.map(({ level, code }) => [level, code]),
      [["warning", "config-ignored"]],
    );
    assert.match(ignored[0].message, words);
    assert.equal(spec.top_k_experts.origin, "assumed");
    assert.ok(tensors.length > 10);
  }
});
