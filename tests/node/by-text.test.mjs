// What a comparison by text asks of each of the two models, before any of them computes.

import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import { Model } from "statepress";
import { CLI } from "../support/node.mjs";

// The library without its worker: models of sizes that no fixture has.
const { library } = await import(pathToFileURL(join(CLI, "../../api/library.js")));

const AHEAD = { prediction_offset: { value: 1, origin: "assumed" } };

/** The options of each request that evaluates, by the model it is about. */
async function requests(sides, options) {
  const asked = [];
  const host = {
    async call(name, { model, options }) {
      assert.equal(name, "evaluate");
      asked.push([model, options]);
      const found = options.offset === "detect" ? { offset: model + 1, nllByOffset: [2, 1] } : {};
      return { nll: 1, windows: 1, window: options.window, dropped: 0, tokensPerSecond: 1, findings: [], ...found };
    },
  };
  const models = sides.map(({ maxTokens, spec = {} }, n) => {
    const tokenizer = { input: (text) => ({ text }), known: true };
    const info = { maxTokens, offset: 1, bytes: 1, fileBytes: 1 };
    return new Model(
      { host },
      { model: n + 1, info, backend: {} },
      { tokenizer, inspection: { family: "some", spec, params: 0 } },
    );
  });
  await library({ host }).compareByText(...models, { text: "words", why: "they do", ...options });
  return asked;
}

const windows = async (...limits) =>
  (await requests(limits.map((maxTokens) => ({ maxTokens })))).map(([, { window }]) => window);

test("the window is the shorter of the longest sequences, at most 2048, and 256 where neither sets a limit", async () => {
  assert.deepEqual(await windows(512, 384), [384, 384]);
  assert.deepEqual(await windows(undefined, undefined), [256, 256]);
  assert.deepEqual(await windows(undefined, 128), [128, 128]);
  assert.deepEqual(await windows(1024, undefined), [1024, 1024]);
  assert.deepEqual(await windows(131072, 2048), [2048, 2048]);
  assert.deepEqual(await windows(undefined, 131072), [2048, 2048]);
  const asked = await requests([{}, { maxTokens: 512 }], { window: 64 });
  assert.deepEqual(
    asked.map(([, { window }]) => window),
    [64, 64],
  );
});

test("the offset is looked for in the model of which it is a question, first or second", async () => {
  const offsets = async (sides, options) => (await requests(sides, options)).map(([n, { offset }]) => [n, offset]);
  const [ahead, next] = [{ spec: AHEAD }, {}];
  assert.deepEqual(await offsets([next, ahead], { offset: "detect" }), [
    [1, undefined],
    [2, "detect"],
    [2, 3],
  ]);
  assert.deepEqual(await offsets([ahead, next], { offset: "detect" }), [
    [1, "detect"],
    [1, 2],
    [2, undefined],
  ]);
  const own = [
    [1, 2],
    [2, undefined],
  ];
  assert.deepEqual(await offsets([ahead, next], { offset: 2 }), own);
  const refusal = { code: "bad-option", message: /offset is 2: some predicts the next token/ };
  await assert.rejects(offsets([ahead, next], { offset: 2, offsetB: 2 }), refusal);
  await assert.rejects(offsets([next, ahead], { offset: 2 }), refusal);
});
