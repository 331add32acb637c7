// How far ahead a model predicts is asked of the families alone that have the field: the others predict the next token.

import assert from "node:assert/strict";
import { test } from "node:test";
import { compare, Model, open } from "statepress";
import { fixture } from "../support/node.mjs";

/** A model of which the host tells what it was asked. */
function asked(family, spec) {
  const requests = [];
  const host = {
    async call(name, request) {
      requests.push([name, request.options]);
      return { findings: [] };
    },
  };
  const tokenizer = { input: (ids) => ({ ids }), known: true };
  return {
    model: new Model(
      { host },
      { model: 1, info: {}, backend: {} },
      { tokenizer, inspection: { family, spec, params: 0 } },
    ),
    requests,
  };
}

test("of a family without the field nothing is looked for", async () => {
  const { model, requests } = asked("mamba", {});
  for (const offset of [undefined, 1, "detect"]) await model.evaluate([1, 2], { limit: 2, offset });
  assert.deepEqual(requests, Array(3).fill(["evaluate", { limit: 2 }]));
  for (const offset of [0, 2]) {
    const refusal = { code: "bad-option", message: /offset is [02]: mamba predicts the next token; allowed: 1/ };
    await assert.rejects(model.evaluate([1, 2], { offset }), refusal);
    await assert.rejects(compare(model, model, { ids: [1, 2], offset }), refusal);
  }
});

test("of two models each is asked by itself, and one that predicts the next token follows no other offset", async () => {
  const { model: next } = asked("mamba", {});
  const { model: ahead } = asked("itera-lite", { prediction_offset: { value: 2, origin: "given" } });
  const refusal = { code: "bad-option", message: /offset is 2: mamba predicts the next token/ };
  for (const pair of [
    [next, ahead],
    [ahead, next],
  ]) {
    await assert.rejects(compare(...pair, { ids: [1, 2], offset: 2 }), refusal);
  }
});

test("of a family with the field everything that is asked for is", async () => {
  const { model, requests } = asked("itera-lite", { prediction_offset: { value: 1, origin: "assumed" } });
  for (const offset of [1, 2, "detect"]) await model.evaluate([1, 2], { offset });
  assert.deepEqual(
    requests.map(([, { offset }]) => offset),
    [1, 2, "detect"],
  );
  for (const file of ["il_moe.safetensors", "tf.zip.pt"]) {
    const checkpoint = await open(fixture(`fixtures/${file}`));
    assert.ok(checkpoint.inspection.spec.prediction_offset, file);
    checkpoint.dispose();
  }
});
