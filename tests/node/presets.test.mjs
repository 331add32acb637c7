// The built-in searches: they stand among the recipes, and compressing by one of them measures and finds.

import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { open, PRESETS, recipes, stepsBefore } from "statepress";
import { cli, fixture, scratch } from "../support/node.mjs";

const folder = scratch();
const SMALL = fixture("fixtures/il_moe.safetensors");
const ids = Uint16Array.from({ length: 2048 }, (_, i) => (i * 37 + ((i * i) % 11)) % 50);
const bin = join(folder, "ids.bin");
writeFileSync(bin, ids);

const LOSSES = { "auto-close": 0.5, "auto-balanced": 2, "auto-small": 8 };

test("they stand among the recipes, with what they are searched for", async () => {
  assert.deepEqual(Object.fromEntries(PRESETS.map(({ name, search }) => [name, search.target.maxLoss])), LOSSES);
  const { json } = await cli(["recipes", "--json"]);
  const searched = json.recipes.filter((it) => "search" in it);
  assert.deepEqual(
    searched.map(({ name, search }) => [name, search]),
    Object.entries(LOSSES).map(([name, maxLoss]) => [name, { target: { maxLoss }, coded: true }]),
  );
  assert.ok(searched.every((it) => !("steps" in it) && it.description.includes(`${it.search.target.maxLoss} %`)));
  // What the library lists as recipes has steps, which can be planned.
  const names = (await recipes()).map(({ name }) => name);
  assert.deepEqual(
    json.recipes.map(({ name }) => name),
    [...names, ...Object.keys(LOSSES)],
  );
  const { stdout } = await cli(["recipes"]);
  for (const name of Object.keys(LOSSES)) assert.match(stdout, new RegExp(`^${name} +found by measuring`, "m"));
  for (const shell of ["bash", "zsh", "fish"]) {
    assert.match((await cli(["completion", shell])).stdout, /auto-close auto-balanced auto-small/);
  }
});

test("compressing by one searches, and reports as a search does", async () => {
  const out = join(folder, "balanced.safetensors");
  const made = await cli([
    ...["compress", SMALL, "-o", out, "--recipe", "auto-balanced"],
    ...["--calibrate-ids", bin, "--json"],
  ]);
  assert.equal(made.code, 0, made.stderr);
  const { recipe, target, predicted, measured, reached, bytes, front, tensorCosts, pruned } = made.json;
  assert.deepEqual(target, { maxLoss: 2 });
  assert.ok(predicted.bytes > 0 && Number.isFinite(predicted.perplexityChange) && measured.tokens > 100);
  assert.equal(reached, measured.perplexityChange <= 2);
  assert.ok(bytes.after < bytes.memory && bytes.ratio > 2, JSON.stringify(bytes));
  assert.ok(front.length > 3 && tensorCosts.length > 3);
  const report = JSON.parse(readFileSync(`${out}.report.json`, "utf8"));
  for (const field of ["recipe", "target", "predicted", "measured", "reached", "bytes", "findings"]) {
    assert.deepEqual(report[field], made.json[field], field);
  }
  // Its step size is a mean over rows, most of which it does without.
  assert.deepEqual(recipe.steps[0].prune.kind, "delta");
  assert.ok(
    pruned[0].places.every(({ after }) => after === 4),
    JSON.stringify(pruned),
  );

  // It is the search that anybody could have asked for, and its recipe an ordinary one.
  const again = join(folder, "again.safetensors");
  const asked = ["--max-loss", "2", "--coded", "--prune", "delta=4", "--calibrate-ids", bin, "--json"];
  const found = await cli(["search", SMALL, "-o", again, ...asked]);
  assert.deepEqual(found.json.recipe, recipe, found.stderr);
  const file = join(folder, "found.json");
  writeFileSync(file, JSON.stringify(recipe));
  const followed = ["compress", SMALL, "-o", again, "--force", "--recipe", file, "--calibrate-ids", bin, "--json"];
  const { json, stderr } = await cli(followed);
  assert.ok(json.bytes.ratio > 2, stderr);

  // As words: what was predicted, and what was measured.
  const said = await cli(["compress", SMALL, "-o", out, "--force", "--recipe", "auto-small", "--calibrate-ids", bin]);
  assert.equal(said.code, 0, said.stderr);
  assert.match(said.stdout, /^predicted loss +[\d.]+ nats a token, perplexity [+-][\d.]+ %$/m);
  assert.match(said.stdout, /^measured loss +[\d.]+ nats a token, perplexity [+-][\d.]+ % on \d+ tokens$/m);
});

test("several files are searched one after the other, into a folder", async () => {
  const two = join(folder, "two.safetensors");
  writeFileSync(two, readFileSync(SMALL));
  const out = join(folder, "many");
  const made = await cli([
    ...["compress", SMALL, two, "-o", `${out}/`, "--recipe", "auto-small"],
    ...["--calibrate-ids", bin, "--json"],
  ]);
  assert.equal(made.code, 0, made.stderr);
  const lines = made.stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  assert.deepEqual(
    lines.map(({ target, input }) => [target.maxLoss, input]),
    [
      [8, SMALL],
      [8, two],
    ],
  );
});

test("without a text, or where only a recipe will do, it is refused with what is needed", async () => {
  const out = join(folder, "never.safetensors");
  for (const [args, code, words] of [
    [
      ["compress", SMALL, "-o", out, "--recipe", "auto-close"],
      2,
      /--recipe auto-close is searched for by measuring, which needs a text for the model to read: --calibrate TEXT or --calibrate-ids BIN/,
    ],
    [["plan", SMALL, "--recipe", "auto-close"], 1, /auto-close is searched for: .* known only after measuring/],
    [["plan", SMALL, "--recipe", "auto-close", "--coded"], 1, /known only after measuring/],
    [["bench", SMALL, "--recipe", "auto-small"], 1, /auto-small is searched for/],
    [["plan", SMALL, "--recipe", "auto-clos"], 1, /did you mean 'auto-close'\?/],
  ]) {
    const { code: exit, stderr } = await cli(args);
    assert.match(stderr, words);
    assert.equal(exit, code);
  }
  assert.ok(!existsSync(out));
  const checkpoint = await open(SMALL);
  await assert.rejects(checkpoint.plan("auto-close"), { code: "bad-recipe", message: /known only after measuring/ });
  await assert.rejects(checkpoint.compress("auto-close"), {
    code: "bad-option",
    message: "auto-close is searched for while the model reads a text: give it as option calibration",
  });
  const short = checkpoint.compress("auto-close", { calibration: ids.slice(0, 9) });
  await assert.rejects(short, { code: "bad-ids" });
  checkpoint.dispose();
});

test("in JavaScript a name is enough: what came of it is in the report", async () => {
  const checkpoint = await open(SMALL);
  const stages = new Set();
  const onProgress = ({ stage }) => stages.add(stage);
  const compressed = await checkpoint.compress("auto-close", { calibration: ids, onProgress });
  for (const stage of ["calibrate", "search", "compress", "compare"]) assert.ok(stages.has(stage), [...stages].join());
  const { target, predicted, measured, reached, recipe, bytes } = compressed.report;
  assert.deepEqual(target, { maxLoss: 0.5 });
  assert.ok(reached === measured.perplexityChange <= 0.5 && predicted.kl >= 0 && bytes.ratio > 1);
  assert.ok(recipe.steps.at(-1).quantize.coded);
  const out = join(folder, "close.safetensors");
  await compressed.save(out);
  assert.equal((await open(out)).inspection.recipe.name, recipe.name);
  const stop = AbortSignal.abort();
  await assert.rejects(checkpoint.compress("auto-close", { calibration: ids, signal: stop }), { code: "aborted" });
  compressed.dispose();
  checkpoint.dispose();
});

test("what comes first is read from the checkpoint: only a step size of many rows has rows to give", async () => {
  const [itera, transformer] = await Promise.all([open(SMALL), open(fixture("families/gpt2"))]);
  const delta = { prune: { kind: "delta", keep: 4, by: "loss", repair: true } };
  assert.deepEqual(stepsBefore(itera.inspection), [delta]);
  assert.deepEqual(stepsBefore(transformer.inspection), []);
  const given = [{ prune: { kind: "width", keep: 0.5 } }];
  assert.deepEqual(stepsBefore(itera.inspection, given), [delta, ...given]);
  const own = [{ prune: { kind: "delta", keep: 2, by: "loss", repair: true } }];
  assert.deepEqual(stepsBefore(itera.inspection, own), own);
  for (const it of [itera, transformer]) it.dispose();
});
