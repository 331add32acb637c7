// The manners of the library: every refusal is a StatepressError, an abort is an AbortError, disposing is safe.

import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";
import {
  bitsPerByte,
  codes,
  compare,
  compareByText,
  decodeText,
  open,
  qualityCard,
  readTokenizer,
  StatepressError,
  tokensDiffer,
  weightsAmong,
  withoutMark,
} from "statepress";
import { DEMO, HELDOUT, scratch } from "../support/node.mjs";

const text = readFileSync(HELDOUT, "utf8");
let checkpoint;
let model;
let compressed;
/** They have been disposed of. */
let gone;
let goneModel;

before(async () => {
  checkpoint = await open(DEMO);
  model = await checkpoint.load({ backend: "cpu" });
  compressed = await checkpoint.compress("int8");
  gone = await open(DEMO);
  goneModel = await gone.load({ backend: "cpu" });
  gone.dispose();
  goneModel.dispose();
});

/** What JavaScript lets anybody pass. */
const ODD = [
  undefined,
  null,
  0,
  -1,
  1.5,
  Number.NaN,
  Number.POSITIVE_INFINITY,
  2 ** 53,
  "",
  "no such thing",
  true,
  Symbol("odd"),
  10n,
  [],
  [null],
  [undefined],
  ["", {}],
  {},
  { a: 1 },
  Object.create(null),
  () => {},
  new Date(0),
  new Map(),
  new Uint8Array(3),
  new Float64Array([0.5]),
  new ArrayBuffer(8),
  Promise.resolve(1),
];

const all = async (tokens) => {
  for await (const _ of tokens);
};
const tensor = (options) => checkpoint.tensor("norm.weight", options);
const recipe = (more) => ({ version: 1, name: "odd", steps: [], ...more });
const quantize = (more) => recipe({ steps: [{ quantize: { rules: [], otherwise: "fp32", ...more } }] });
const PAIR = { ids: [1, 2, 3], window: 2, backend: "cpu" };
const evaluating = (options) => model.evaluate([1, 2, 3], { window: 2, ...options });
const generating = (options) => all(model.generate("The", { maxTokens: 1, ...options }));
const benching = (options) => model.bench({ repeats: 1, decodeTokens: 1, prefillTokens: 2, ...options });
const unsaved = join(scratch(), "out.safetensors");

/** Every call with one odd thing in one place. */
const CALLS = {
  open: (it) => open(it),
  "open's list": (it) => open([it]),
  "open's options": (it) => open(DEMO, it),
  tokenizer: (it) => open(DEMO, { tokenizer: it }),
  set: (it) => open(DEMO, { set: it }),
  field: (it) => open(DEMO, { set: { top_k_experts: it } }),
  "open's signal": (it) => open(DEMO, { signal: it }),
  tensor: (it) => checkpoint.tensor(it),
  "tensor's options": tensor,
  bins: (it) => tensor({ bins: it }),
  precisions: (it) => tensor({ precisions: it }),
  precision: (it) => tensor({ precisions: [it] }),
  quantize: (it) => tensor({ precisions: ["nf4"], quantize: it }),
  codec: (it) => tensor({ precisions: ["nf4"], quantize: { nf4: it } }),
  "advise's options": (it) => checkpoint.advise(it),
  target: (it) => checkpoint.advise({ target: it }),
  maxLoss: (it) => checkpoint.advise({ maxLoss: it }),
  maxSize: (it) => checkpoint.advise({ maxSize: it }),
  measured: (it) => checkpoint.advise({ measured: it }),
  "what was measured": (it) => checkpoint.advise({ measured: [it] }),
  measure: (it) => checkpoint.advise({ measure: it }),
  plan: (it) => checkpoint.plan(it),
  version: (it) => checkpoint.plan(recipe({ version: it })),
  name: (it) => checkpoint.plan(recipe({ name: it })),
  steps: (it) => checkpoint.plan(recipe({ steps: it })),
  step: (it) => checkpoint.plan(recipe({ steps: [it] })),
  rules: (it) => checkpoint.plan(quantize({ rules: it })),
  rule: (it) => checkpoint.plan(quantize({ rules: [it] })),
  otherwise: (it) => checkpoint.plan(quantize({ otherwise: it })),
  compress: (it) => checkpoint.compress(it),
  "compress's options": (it) => checkpoint.compress("int8", it),
  "compress's signal": (it) => checkpoint.compress("int8", { signal: it }),
  "compress's onProgress": (it) => checkpoint.compress("int8", { onProgress: it }),
  save: (it) => (it === "no such thing" ? undefined : compressed.save(it)),
  "save's options": (it) => compressed.save("blob", it),
  format: (it) => compressed.save("blob", { format: it }),
  force: (it) => (it === undefined ? undefined : compressed.save(unsaved, { force: it === true ? 1 : it })),
  "save's signal": (it) => compressed.save("blob", { signal: it }),
  "load's options": (it) => checkpoint.load(it),
  backend: (it) => checkpoint.load({ backend: it }),
  backendOptions: (it) => checkpoint.load({ backend: "cpu", backendOptions: it }),
  encode: (it) => model.encode(it),
  decode: (it) => model.decode(it),
  id: (it) => model.decode([it]),
  generate: (it) => all(model.generate(it, { maxTokens: 1 })),
  "generate's options": (it) =>
    all(model.generate("The", it === undefined ? { maxTokens: 1 } : { ...it, maxTokens: 1 })),
  "generate's options themselves": (it) => (isObject(it) ? undefined : all(model.generate("The", it ?? null))),
  maxTokens: async (it) => {
    for await (const _ of model.generate("The", { maxTokens: it })) break;
  },
  temperature: (it) => generating({ temperature: it }),
  topK: (it) => generating({ topK: it }),
  seed: (it) => generating({ seed: it }),
  "generate's signal": (it) => generating({ signal: it }),
  logits: (it) => model.logits(it),
  "logits's id": (it) => model.logits([it]),
  evaluate: (it) => model.evaluate(it, { window: 4 }),
  "evaluate's options": (it) => model.evaluate([1, 2, 3], it),
  window: (it) => evaluating({ window: it }),
  limit: (it) => evaluating({ limit: it }),
  offset: (it) => evaluating({ offset: it }),
  "evaluate's onProgress": (it) => evaluating({ onProgress: it }),
  repeats: (it) => benching({ repeats: it }),
  decodeTokens: (it) => benching({ decodeTokens: it }),
  prefillTokens: (it) => benching({ prefillTokens: it === 2 ** 53 ? -2 : it }),
  compare: (it) => compare(it, checkpoint, PAIR),
  "compare's second": (it) => compare(model, it, PAIR),
  "compare's options": (it) => compare(model, model, it),
  "compare's text": (it) => compare(model, model, { text: it, window: 2 }),
  "compare's ids": (it) => compare(model, model, { ids: it, window: 2 }),
  ratioTarget: (it) => compare(model, model, { ...PAIR, ratioTarget: it }),
  lossTarget: (it) => compare(model, model, { ...PAIR, lossTarget: it }),
  backendB: (it) => compare(model, compressed, { ...PAIR, backendB: it ?? "cpu" }),
  compareByText: (it) => compareByText(it, model, { text: "The film", window: 2 }),
  "compareByText's options": (it) => compareByText(model, model, it),
  "compareByText's text": (it) => compareByText(model, model, { text: it, window: 2 }),
  "compareByText's limit": (it) => compareByText(model, model, { text: "The film was", window: 2, limit: it }),
  "a checkpoint that is gone": (it) => gone.plan(it),
  "loading one that is gone": () => gone.load(),
  "a model that is gone": (it) => goneModel.logits(it),
  "generating with it": () => all(goneModel.generate("The")),
  "comparing with it": () => compare(goneModel, model, PAIR),
  "comparing with a checkpoint that is gone": () => compare(gone, model, PAIR),
  qualityCard: (it) => qualityCard(it),
  tokensDiffer: (it) => tokensDiffer(it, checkpoint),
  bitsPerByte: (it) => bitsPerByte(it, 1),
  weightsAmong: (it) => weightsAmong(it),
  decodeText: (it) => decodeText(it, "x"),
  withoutMark: (it) => withoutMark(it),
};

const isObject = (it) => typeof it === "object" && it !== null;

test("whatever it is given, the library refuses it as a StatepressError with a code of the list, or does it", async () => {
  let refusals = 0;
  for (const [name, call] of Object.entries(CALLS)) {
    for (const odd of ODD) {
      let result;
      try {
        // A call that throws at once and one that rejects are the same here.
        result = await (async () => call(odd))();
      } catch (error) {
        refusals += 1;
        const words = `${name} of ${typeof odd}: ${error?.stack}`;
        assert.ok(error instanceof StatepressError, words);
        assert.ok(codes.includes(error.code) && !["internal", "crashed"].includes(error.code), words);
        assert.ok(error.message.length > 10 && !/undefined is not|Cannot read/.test(error.message), words);
      }
      if (result && ![checkpoint, model, compressed].includes(result)) result.dispose?.();
    }
  }
  assert.ok(refusals > 1000, `${refusals}`);
  // And it still works.
  assert.ok((await evaluating({})).perplexity > 1);
  assert.ok(!existsSync(unsaved));
});

test("options that no call has are refused with what was meant; what another call has may be there", async () => {
  await assert.rejects(checkpoint.load({ backand: "cpu" }), {
    code: "bad-option",
    message: /load has no option 'backand'; it has signal, .*; did you mean 'backend'\?/,
  });
  await assert.rejects(model.evaluate([1, 2, 3], { windows: 2 }), { message: /did you mean 'window'\?/ });
  await assert.rejects(open(DEMO, { tokeniser: "x" }), { message: /did you mean 'tokenizer'\?/ });
  const shared = { window: 2, backend: "cpu", seed: 1 };
  assert.ok((await model.evaluate([1, 2, 3], shared)).tokens > 0);
});

/** What an abort makes of a promise, with the reason of its signal. */
async function aborts(promise, reason) {
  const error = await promise.then(
    () => assert.fail("it came to its end"),
    (thrown) => thrown,
  );
  assert.ok(error instanceof StatepressError && error instanceof Error);
  assert.deepEqual([error.name, error.code], ["AbortError", "aborted"]);
  assert.equal(error.cause, reason);
  assert.equal(JSON.parse(JSON.stringify(error)).code, "aborted");
}

test("a signal that has fired already stops every call that takes one, with its reason", async () => {
  const reason = new Error("mine");
  const signal = AbortSignal.abort(reason);
  const out = join(scratch(), "out.safetensors");
  for (const call of [
    () => open(DEMO, { signal }),
    () => checkpoint.tensor("norm.weight", { signal }),
    () => checkpoint.advise({ signal }),
    () => checkpoint.compress("int8", { signal }),
    () => checkpoint.load({ signal }),
    () => compressed.save(out, { signal }),
    () => compressed.save("blob", { signal }),
    () => compressed.save(new WritableStream(), { signal }),
    () => model.evaluate(text, { signal }),
    () => all(model.generate("The", { signal })),
    () => model.bench({ signal }),
    () => compare(checkpoint, compressed, { text, signal }),
    () => compareByText(checkpoint, compressed, { text, signal }),
  ]) {
    await aborts(call(), reason);
  }
  assert.ok(!existsSync(out));
});

test("a signal that fires in the middle stops it as well, and nothing is left", async () => {
  const stopping = (call) => {
    const controller = new AbortController();
    const reason = { why: "a reason may be anything" };
    const onProgress = () => controller.abort(reason);
    return aborts(call({ signal: controller.signal, onProgress }, controller, reason), reason);
  };
  await stopping((options) => model.evaluate(text, options));
  await stopping((options) => compare(model, compressed, { text, ...options }));
  await stopping((options) => model.bench(options));
  await stopping(async ({ signal }, controller, reason) => {
    for await (const _ of model.generate("The", { maxTokens: 250, signal })) controller.abort(reason);
  });
  const here = scratch();
  await stopping(({ signal }, controller, reason) => {
    const saved = compressed.save(join(here, "out.safetensors"), { signal });
    controller.abort(reason);
    return saved;
  });
  await stopping(({ signal }, controller, reason) => {
    const stream = new WritableStream({ write: () => controller.abort(reason) });
    return compressed.save(stream, { signal });
  });
  assert.deepEqual(readdirSync(here), []);
  // As fetch has it: a signal without a reason has an AbortError for one, a timeout a TimeoutError.
  const controller = new AbortController();
  controller.abort();
  const error = await model.evaluate(text, { signal: controller.signal }).catch((thrown) => thrown);
  assert.deepEqual([error.name, error.cause.name], ["AbortError", "AbortError"]);
  const late = await model.evaluate(text, { signal: AbortSignal.timeout(1) }).catch((thrown) => thrown);
  assert.deepEqual([late.name, late.code, late.cause.name], ["AbortError", "aborted", "TimeoutError"]);
});

test("disposing twice is harmless, and `using` disposes", async () => {
  const opened = await open(DEMO);
  const loaded = await opened.load({ backend: "cpu" });
  for (const it of [loaded, opened]) {
    assert.equal(it[Symbol.dispose](), undefined);
    it.dispose();
    it[Symbol.dispose]();
    assert.equal(await it[Symbol.asyncDispose](), undefined);
    await it[Symbol.asyncDispose]();
  }
  await assert.rejects(loaded.logits([1]), { name: "StatepressError", code: "disposed" });
  await assert.rejects(opened.plan("int8"), { name: "StatepressError", code: "disposed" });
  // Waiting until it is gone is waiting until its files are.
  const produced = await checkpoint.compress("int8");
  await produced[Symbol.asyncDispose]();
  await assert.rejects(produced.load(), { code: "disposed" });
  assert.equal(Object.keys(produced).includes("undefined"), false);
});

test("a tokenizer of one's own is one that can encode and decode", async () => {
  const json = readFileSync(join(DEMO, "tokenizer.json"), "utf8");
  const own = await open(DEMO, { tokenizer: await readTokenizer("own", json) });
  const loaded = await own.load({ backend: "cpu" });
  assert.deepEqual(loaded.encode("The film"), model.encode("The film"));
  for (const it of [loaded, own]) it.dispose();
  await assert.rejects(readTokenizer("own", "{"), { name: "StatepressError", code: "bad-tokenizer" });
  await assert.rejects(open(DEMO, { tokenizer: { encode() {} } }), {
    code: "bad-option",
    message: /encode and decode/,
  });
});

test("targets that make every verdict the same are refused with what is allowed", async () => {
  for (const [option, value, allowed] of [
    ["ratioTarget", 0, "a number above 0"],
    ["ratioTarget", -1, "a number above 0"],
    ["ratioTarget", Number.NaN, "a number above 0"],
    ["lossTarget", -1, "a number from 0 (percent)"],
    ["lossTarget", Number.POSITIVE_INFINITY, "a number from 0 (percent)"],
  ]) {
    await assert.rejects(compare(model, model, { ...PAIR, [option]: value }), { code: "bad-option", option, allowed });
  }
});
