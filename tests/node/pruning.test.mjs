// Pruning as a user does it: a recipe with prune steps, in the library and on the command line, to a smaller model that is
// opened again and writes on.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { compare, open, vocabularyOf } from "statepress";
import { cli, DEMO, HELDOUT, scratch } from "../support/node.mjs";

const folder = scratch();
const lines = readFileSync(HELDOUT, "utf8").split("\n");
const half = Math.floor(lines.length / 2);
const [read, judged] = [lines.slice(0, half).join("\n"), lines.slice(half).join("\n")];
const few = join(folder, "few.txt");
writeFileSync(few, read.slice(0, 8_000));

// A fourth of the windows that are usual: a test need not be as good.
const prune = (kind, keep, more = {}) => ({ prune: { kind, keep, by: "loss", repair: true, windows: 16, ...more } });
const quantize = { quantize: { rules: [{ match: "role:norm", precision: "fp16" }], otherwise: "int8" } };
const recipe = {
  version: 1,
  name: "narrow",
  steps: [prune("delta", 4), prune("width", 0.5), prune("inner", 0.8, { layers: [1, 2, 3] }), quantize],
};

test("a recipe prunes and quantizes; what it leaves opens again and writes on", async () => {
  const base = await open(DEMO);
  const planned = await base.plan(recipe);
  assert.deepEqual(
    planned.pruned.map(({ step }) => step.kind),
    ["delta", "width", "inner"],
  );
  assert.ok(planned.findings.some(({ code }) => code === "needs-calibration"));
  await assert.rejects(base.compress(recipe), { code: "bad-option", message: /calibration is not given/ });

  const stages = new Set();
  const onProgress = ({ stage }) => stages.add(stage);
  const smaller = await base.compress(recipe, { calibration: read.slice(0, 24_000), onProgress });
  assert.ok(stages.has("prune") && stages.has("compress"), [...stages].join());
  const { report } = smaller;
  // A text makes up for errors of rounding, too, which changes no size.
  assert.deepEqual(report.bytes, planned.bytes);
  const [delta, width, inner] = report.pruned;
  assert.equal(delta.paramsAfter, width.paramsBefore);
  assert.equal(inner.paramsAfter, smaller.inspection.params);
  assert.ok(base.inspection.params / smaller.inspection.params > 1.25);
  assert.deepEqual(
    inner.places.map((place) => [place.layer, place.before, place.after, place.removed.length]),
    [1, 2, 3].map((layer) => [layer, 256, 204, 52]),
  );
  assert.ok(inner.places.every(({ error }) => error > 0 && error < 0.2));
  assert.deepEqual(smaller.inspection.spec["ssm_inner_size"].value, [256, 204, 204, 204]);

  const path = join(folder, "smaller.safetensors");
  await smaller.save(path);
  const again = await open(path, { tokenizer: join(DEMO, "tokenizer.json") });
  const model = await again.load({ backend: "cpu" });
  const ids = [];
  for await (const token of model.generate("The", { maxTokens: 8, temperature: 0 })) ids.push(token.id);
  assert.equal(ids.length, 8);
  const card = await compare(base, again, { text: judged, limit: 2048, backend: "cpu" });
  assert.ok(card.kl.mean < 0.02, `${card.kl.mean}`);
  assert.ok(card.bytes.ratio > 4.5, `${card.bytes.ratio}`);
  model.dispose();
  for (const checkpoint of [base, smaller, again]) checkpoint.dispose();
});

test("the command line takes the same recipe, and short ones of its own", async () => {
  const [file, out] = ["narrow.json", "narrow.safetensors"].map((name) => join(folder, name));
  writeFileSync(file, JSON.stringify({ ...recipe, steps: [prune("width", 0.5), quantize] }));
  const by = ["--recipe", file, "--calibrate", few, "--json"];
  const said = await cli(["compress", DEMO, "-o", out, ...by]);
  assert.equal(said.code, 0, said.stderr);
  assert.equal(said.json.pruned[0].places.length, 10);
  const smaller = await cli(["inspect", out, "--json"]);
  assert.equal(smaller.json.params, said.json.pruned[0].paramsAfter);

  const short = ["--recipe", "int8", "--prune", "inner=0.75,width=20", "--force"];
  const plain = await cli(["compress", DEMO, "-o", out, ...short]);
  assert.equal(plain.code, 0, plain.stderr);
  assert.match(plain.stdout, /pruned +inner: 192 of 256 left in each of 4, 1,902,880 -> 1,733,408 parameters/);
  assert.match(plain.stdout, /pruned +width: 20 of 64 left in each of 10/);
  const calibrated = await cli(["compress", DEMO, "-o", out, ...short, "--calibrate", few, "--json"]);
  assert.equal(calibrated.code, 0, calibrated.stderr);
  assert.deepEqual(calibrated.json.recipe.steps[0].prune, {
    kind: "inner",
    keep: 0.75,
    by: "loss",
    repair: true,
    windows: 32,
  });
  const planned = await cli(["plan", DEMO, "--recipe", "int8", "--prune", "inner=0.75,width=20", "--json"]);
  assert.equal(planned.json.bytes.after, calibrated.json.bytes.after);
});

test("parts of layers and rows of the table go, and texts are read and written as before", async () => {
  const out = join(folder, "fewer.safetensors");
  const asked = ["--recipe", "int8", "--prune", "sublayers=0.875,vocabulary=0.5", "--calibrate", few, "--json"];
  const said = await cli(["compress", DEMO, "-o", out, ...asked]);
  assert.equal(said.code, 0, said.stderr);
  const [parts, rows] = said.json.pruned;
  assert.deepEqual([parts.step.by, rows.step.by], ["loss", "usage"]);
  assert.equal(parts.places[0].removed.length, 1);
  assert.equal(rows.places[0].removed.length, 4000);
  const told = said.json.findings.find(({ code }) => code === "fewer-ids");
  assert.match(told.message, /^4000 ids have a row; the others are read as token 1, which is assumed/);

  const [base, fewer] = await Promise.all([open(DEMO), open(out, { tokenizer: join(DEMO, "tokenizer.json") })]);
  const { spec, tensors, params } = fewer.inspection;
  assert.deepEqual([spec["vocab_size"].value, spec["original_vocab_size"].value], [4000, 8000]);
  assert.equal(vocabularyOf(fewer.inspection), vocabularyOf(base.inspection));
  assert.equal(params, rows.paramsAfter);
  assert.equal(tensors.find(({ name }) => name === "embedding.ids").shape[0], 4000);
  const gone = Object.keys(spec["pruned_tensors"].value);
  assert.deepEqual(gone.toSorted(), parts.places[0].tensors.toSorted());
  // The same tokenizer, and numbers that can be compared; unless it is the text that it was fitted to.
  await assert.rejects(compare(base, fewer, { text: read.slice(0, 8_000), backend: "cpu" }), { code: "bad-ids" });
  const card = await compare(base, fewer, { text: read.slice(8_000, 16_000), backend: "cpu" });
  assert.ok(card.perplexityChange > 0 && card.perplexityChange < 200, `${card.perplexityChange}`);
  const model = await fewer.load({ backend: "cpu" });
  assert.equal(model.info.vocabSize, 8000);
  const removed = new Set(rows.places[0].removed);
  let text = "";
  for await (const token of model.generate("The", { maxTokens: 8, temperature: 0 })) {
    assert.ok(!removed.has(token.id), `${token.id}`);
    text += token.text ?? "";
  }
  assert.ok(text.trim().length > 0);
  model.dispose();
  for (const checkpoint of [base, fewer]) checkpoint.dispose();
});

test("what cannot be pruned is refused by name", async () => {
  const out = join(folder, "never.safetensors");
  const refused = async (code, prune, expected, ...more) => {
    const said = await cli(["compress", DEMO, "-o", out, "--recipe", "int8", "--prune", prune, ...more]);
    assert.equal(said.code, code, said.stderr);
    assert.match(said.stderr, expected);
  };
  await refused(2, "inner", /--prune takes what is removed and what stays, inner=0.75,width=0.5, not 'inner'/);
  await refused(
    2,
    "sublayer=0.5",
    /--prune takes one of inner, state, .*, hidden, layers, sublayers, vocabulary, not 'sublayer'/,
  );
  await refused(2, "layers=0.5", /--prune layers needs a text for the model to read: --calibrate TEXT/);
  await refused(1, "inner=0", /prune.keep is 0; allowed: above 0 and at most 1/);
  await refused(
    1,
    "head=0.5",
    /the model has no heads of a state space; it has inner, state, width, experts, delta, hidden/,
  );
  await refused(2, "delta=4", /--prune delta needs a text for the model to read: --calibrate TEXT/);
  await refused(2, "hidden=0.5", /--prune hidden needs a text for the model to read: --calibrate TEXT/);
  await refused(2, "inner=0x10", /not 'inner=0x10'/);
  await refused(1, "experts=0.25", /at least 2, through so many goes every token/);
});
