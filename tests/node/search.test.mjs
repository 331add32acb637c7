// The search for the best recipe, as a user runs it: a target, a text, and a file that was measured.

import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { open, StatepressError, search } from "statepress";
import { Checkpoint } from "../../web/dist/api/checkpoint.js";
import { search as searchWith } from "../../web/dist/api/search.js";
import { cli, fixture, scratch } from "../support/node.mjs";

const folder = scratch();
const SMALL = fixture("fixtures/il_moe.safetensors");
const ids = Uint16Array.from({ length: 2048 }, (_, i) => (i * 37 + ((i * i) % 11)) % 50);
const bin = join(folder, "ids.bin");
writeFileSync(bin, ids);

test("a size is kept, and what was measured stands beside what was predicted", async () => {
  const [out, recipe] = [join(folder, "small.safetensors"), join(folder, "found.json")];
  const args = ["search", SMALL, "-o", out, "--budget", "6x", "--calibrate-ids", bin, "--recipe-out", recipe, "--json"];
  const said = await cli(args);
  assert.equal(said.code, 0, said.stderr);
  const { bytes, predicted, measured, front, reached, tensorCosts } = said.json;
  assert.ok(bytes.ratio >= 6 && reached, `${bytes.ratio}`);
  assert.equal(bytes.after, predicted.bytes);
  assert.ok(measured.kl >= 0 && Number.isFinite(measured.perplexityChange), JSON.stringify(measured));
  assert.ok(front.length > 3 && front.every(({ ratio, kl }, i) => i === 0 || (ratio < front[i - 1].ratio && kl >= 0)));
  assert.ok(tensorCosts.every(({ tensor, choices }) => tensor && choices.length > 0));
  assert.deepEqual(JSON.parse(readFileSync(recipe, "utf8")), said.json.recipe);
  const report = JSON.parse(readFileSync(`${out}.report.json`, "utf8"));
  assert.deepEqual([report.target, report.predicted, report.measured], [{ ratio: 6 }, predicted, measured]);

  // The recipe is an ordinary one: whoever has the text makes the same sizes of it.
  const again = join(folder, "again.safetensors");
  const made = await cli(["compress", SMALL, "-o", again, "--recipe", recipe, "--calibrate-ids", bin, "--json"]);
  assert.equal(made.code, 0, made.stderr);
  assert.equal(made.json.bytes.after, bytes.after);

  const checkpoint = await open(SMALL);
  const seen = new Set();
  const onProgress = ({ stage }) => seen.add(stage);
  const found = await search(checkpoint, { ratio: 6 }, { calibration: ids, onProgress });
  assert.deepEqual(found.recipe, said.json.recipe, "the library finds the same");
  for (const stage of ["calibrate", "search", "compress", "compare"]) assert.ok(seen.has(stage), [...seen].join());
  // Also where nothing is found, what was measured is told, and by it other targets are searched for at once.
  const told = [];
  const asked = { calibration: ids, fast: true, onCosts: (costs) => told.push(costs) };
  await assert.rejects(search(checkpoint, { ratio: 1e4 }, asked), { code: "bad-option", message: /up to/ });
  const costs = told.at(-1);
  assert.equal(costs.unmeasured, 0);
  const known = { ...asked, costs };
  seen.clear();
  const close = await search(checkpoint, { maxKl: 4 * measured.kl }, { ...known, onProgress });
  assert.ok(!seen.has("search") && seen.has("compress"), [...seen].join());
  assert.ok(!close.reached || close.measured.kl <= 4 * measured.kl, `${close.measured.kl}`);
  const part = { ...costs, tensors: costs.tensors.slice(0, -1), unmeasured: 1 };
  const resumed = await search(checkpoint, { ratio: 6 }, { ...asked, costs: part });
  assert.deepEqual(resumed.costs.tensors.at(-1), costs.tensors.at(-1), "the rest is measured");
  assert.deepEqual([resumed.costs.tensors.length, resumed.costs.unmeasured], [costs.tensors.length, 0]);
  resumed.compressed.dispose();
  // One that is stopped has told of all that is there. A fast one may be through before anybody is told of its first tensor.
  const stop = new AbortController();
  const stopping = ({ stage, item }) => stage === "search" && item !== undefined && stop.abort();
  const stopped = search(
    checkpoint,
    { ratio: 6 },
    { ...asked, fast: false, signal: stop.signal, onProgress: stopping },
  );
  await assert.rejects(stopped, { code: "aborted" });
  const { tensors, unmeasured } = told.at(-1);
  assert.ok(tensors.length > 0 && unmeasured > 0, `${tensors.length} and ${unmeasured}`);
  const others = { ...costs, tensors: [{ ...costs.tensors[0], tensor: "of.another" }] };
  await assert.rejects(search(checkpoint, { ratio: 6 }, { ...asked, costs: others }), {
    code: "bad-option",
    message: /option costs is of of\.another/,
  });
  // For a coded file steps are measured, which are no numbers of bits.
  await assert.rejects(search(checkpoint, { ratio: 6 }, { ...known, coded: true }), {
    code: "bad-option",
    message: /option costs is of a search with other options/,
  });
  const first = [{ prune: { kind: "width", keep: 0.5 } }];
  const coded = await search(checkpoint, { ratio: 6 }, { ...asked, coded: true, first });
  assert.deepEqual(
    coded.recipe.steps.flatMap((step) => Object.keys(step)),
    ["prune", "center", "quantize"],
  );
  assert.deepEqual(
    coded.findings.filter(({ code }) => code === "no-basis").map(({ tensor }) => tensor),
    ["lm_head.weight"],
  );
  const { rules } = coded.recipe.steps.at(-1).quantize;
  assert.ok(rules.filter(({ precision, step }) => precision === "int8" && step > 0).length > 3, JSON.stringify(rules));
  assert.equal(coded.compressed.report.pruned.length, 1, "one recipe does both");
  const { after, memory, ratio } = coded.compressed.report.bytes;
  assert.ok(coded.reached && ratio >= 6 && after < memory, JSON.stringify({ after, memory, ratio }));
  // At the end of the front nothing closer is left to be tried: what there is, is the result.
  const least = close.front.at(-1).kl * 1.001;
  const last = await search(checkpoint, { maxKl: least }, known);
  assert.equal(last.reached, last.measured.kl <= least);
  last.compressed.dispose();
  for (const it of [found.compressed, close.compressed, coded.compressed, checkpoint]) it.dispose();
});

test("a table that is the head is written in a basis of its own for the entropy coder, and costs can be given back", async () => {
  const checkpoint = await open(fixture("fixtures/il_moe.tied.safetensors"));
  const told = [];
  const asked = { calibration: ids, coded: true, fast: true };
  const found = await search(checkpoint, { ratio: 6 }, { ...asked, onCosts: (costs) => told.push(costs) });
  assert.deepEqual(
    found.recipe.steps.flatMap((step) => Object.keys(step)),
    ["center", "basis", "quantize"],
  );
  const { inspection, report } = found.compressed;
  const basis = inspection.tensors.find(({ role }) => role === "basis");
  assert.deepEqual([basis.name, basis.shape], ["embedding.basis", [17, 16]]);
  assert.ok(report.findings.some(({ code, tensor }) => code === "own-basis" && tensor === "embedding.weight"));
  assert.ok(found.reached && found.measured.kl >= 0);
  const again = await search(checkpoint, { ratio: 5 }, { ...asked, costs: told.at(-1) });
  assert.ok(again.reached);
  for (const it of [found.compressed, again.compressed, checkpoint]) it.dispose();
});

test("what is no target, or out of reach, is refused before anything is written", async () => {
  const out = join(folder, "never.safetensors");
  const searched = (...options) => cli(["search", SMALL, "-o", out, "--calibrate-ids", bin, ...options]);
  for (const [options, code, why] of [
    [[], 2, /one of --budget, --max-loss and --max-kl is needed/],
    [["--budget", "8x", "--max-kl", "1"], 2, /one of --budget, --max-loss and --max-kl is needed/],
    [["--budget", "1x"], 2, /--budget takes a ratio above 1 \(8x\) or bytes, not '1x'/],
    [["--budget", "much"], 2, /--budget takes a ratio above 1/],
    [["--max-loss", "0"], 2, /--max-loss takes a number above 0, not '0'/],
    [["--budget", "6x", "--recipe-out", out], 2, /--recipe-out and --output name the same file/],
    [["--budget", "6x", "--recipe-out", `${out}.report.json`], 2, /--recipe-out and --report name the same file/],
    [["--budget", "6x", "--recipe-out", SMALL, "--force"], 1, /cannot be written: it is read as/],
    [["--budget", "6x", "--recipe-out", folder, "--force"], 1, /it is a folder; name a file in it/],
    [["--budget", "900x", "--fast"], 1, /option target is 900x; allowed: up to \d+\.\d\dx, from \d+ bytes on/],
    [
      ["--budget", "900x", "--fast", "--coded"],
      1,
      /option target is 900x; allowed: up to \d+\.\d\dx, from \d+ bytes on/,
    ],
    [["--max-kl", "1e-30", "--fast"], 1, /option target is a divergence of [\d.]+; allowed: from [\d.]+ on/],
  ]) {
    const { code: exit, stderr } = await searched(...options);
    assert.equal(exit, code, `${options}: ${stderr}`);
    assert.match(stderr, why);
  }
  const textless = await cli(["search", SMALL, "-o", out, "--budget", "6x"]);
  assert.equal(textless.code, 2);
  assert.match(textless.stderr, /a text for the model to read is needed/);
  assert.ok(!existsSync(out));

  const checkpoint = await open(SMALL);
  await assert.rejects(search(checkpoint, {}, { calibration: ids }), { code: "bad-option", message: /one of ratio/ });
  for (const [first, message] of [
    [
      [{ quantize: { rules: [], otherwise: "int8" } }],
      /option first is with a quantize step; allowed: a list of steps/,
    ],
    [{}, /option first is \[object Object\]/],
    [null, /option first is null/],
  ]) {
    await assert.rejects(search(checkpoint, { ratio: 6 }, { calibration: ids, first }), {
      code: "bad-option",
      message,
    });
  }
  await assert.rejects(search(checkpoint, { size: 3 }, { calibration: ids }), { code: "bad-option", message: /size/ });
  const stop = AbortSignal.abort();
  await assert.rejects(search(checkpoint, { ratio: 6 }, { calibration: ids, signal: stop }), { code: "aborted" });
  checkpoint.dispose();
});

/** A search that is told what to try, by name, and which was the best so far; what is left in memory at its end. */
async function led(answers) {
  const asked = [];
  const kept = new Set();
  const keeps = [];
  const measured = { once: 9, twice: 4, thrice: 6 };
  const sizes = { once: 10, twice: 20, thrice: 30 };
  const host = {
    async call(name, { tried, whether, b }) {
      if (name === "keepFirstSteps") return void keeps.push(whether);
      if (name === "searchSteps") return { first: { steps: [] }, readsText: false, findings: [] };
      if (name === "searchTexts") return { read: [], judged: [], findings: [] };
      if (name === "searchCosts") return { window: 4 };
      if (name === "compare") {
        const perplexityChange = measured[b];
        if (perplexityChange === undefined) throw new StatepressError("aborted", `${b} was not compared`);
        return { kl: { mean: 1 }, perplexityChange, a: { findings: [] }, b: { tokens: 1, findings: [] } };
      }
      asked.push(tried.map(({ bytes, kl, perplexityChange }) => [bytes, kl, perplexityChange]));
      const { next, ...answer } = answers[tried.length] ?? {};
      if (answer.best === undefined && !next) throw new StatepressError("bad-option", "out of reach");
      return { ...answer, ...(next && { next: { recipe: { name: next, steps: [] }, chosen: {}, front: [] } }) };
    },
  };
  // What is compared has to be a checkpoint, though nothing of this one is ever asked.
  const like = (name, own) => ({
    __proto__: Checkpoint.prototype,
    handle: name,
    inspection: { params: 1, family: "some", spec: {} },
    tokenizer: { known: true, input: (ids) => ({ ids }) },
    load: async () => ({ backend: { name: "cpu" }, checkpoint: {}, handle: name, info: { offset: 1 }, dispose() {} }),
    ...own,
  });
  const checkpoint = like("original", {
    async compressBy({ name }) {
      if (name === "nothing") throw new StatepressError("bad-recipe", "nothing was compressed");
      kept.add(name);
      const report = { bytes: { after: sizes[name], memory: 1 } };
      return like(name, {
        name,
        report,
        reporting(more) {
          return { ...this, report: { ...report, ...more } };
        },
        dispose: () => kept.delete(name),
      });
    },
  });
  const target = { maxLoss: 4 };
  const found = await searchWith({ host }, checkpoint, {}, target, {}).catch((error) => error);
  assert.deepEqual(keeps, [true, false], "what first steps leave is kept while it searches");
  if (!(found instanceof Error)) assert.deepEqual(found.compressed.report.target, target);
  return { found, asked, kept: [...kept] };
}

test("what is tried is told as it was measured, and of all that was made only the best is left in memory", async () => {
  const answers = [
    { next: "once" },
    { best: 0, next: "twice" },
    { best: 1, next: "thrice" },
    { best: 1, reached: true },
  ];
  const { found, asked, kept } = await led(answers);
  const [once, twice, thrice] = [
    [10, 1, 9],
    [20, 1, 4],
    [30, 1, 6],
  ];
  assert.deepEqual(asked, [[], [once], [once, twice], [once, twice, thrice]]);
  assert.deepEqual(kept, ["twice"]);
  assert.deepEqual([found.compressed.name, found.recipe.name, found.reached], ["twice", "twice", true]);
  assert.equal(found.measured.perplexityChange, 4);

  // What is refused in the end leaves nothing.
  const refused = await led([{ next: "once" }, { best: 0, next: "twice" }]);
  assert.equal(refused.found.message, "out of reach");
  assert.deepEqual([refused.asked.length, refused.kept], [3, []]);
  // Nor does what fails on the way.
  for (const [next, message] of [
    ["nothing", "nothing was compressed"],
    ["incomparable", "incomparable was not compared"],
  ]) {
    const failed = await led([{ next: "once" }, { best: 0, next }]);
    assert.deepEqual([failed.found.message, failed.asked.length, failed.kept], [message, 2, []]);
  }
});

test("what is odd about the text is told, and coding reaches sizes that packing does not", async () => {
  const options = { tokenizer: fixture("itera-lite/tokenizer_2000.json") };
  const checkpoint = await open(fixture("itera-lite/itera_lite_micro_distilled.pt"), options);
  const story = Array.from({ length: 3000 }, (_, i) => `once upon a time ${i % 7 === 0 ? "zyx" : "there was a fox"} `);
  const calibration = story.join("");
  const found = await search(checkpoint, { ratio: 5 }, { calibration, fast: true });
  const said = (code) => found.findings.find((it) => it.code === code);
  assert.match(said("unknown-tokens").message, /^\d+ of \d+ tokens .* are unknown to tokenizer_2000\.json/);
  // It says the same all over, so that what judges was read before.
  assert.equal(said("calibration-text").level, "warning");
  found.compressed.dispose();

  // What no packed recipe reaches, a coded one may: the smallest file there is, and nothing smaller.
  const bytes = found.front[0].bytes - 1;
  const dense = await search(checkpoint, { bytes }, { calibration, fast: true, coded: true });
  assert.ok(dense.reached && dense.compressed.report.bytes.after <= bytes);
  dense.compressed.dispose();
  const short = search(checkpoint, { ratio: 5 }, { calibration: story.slice(0, 3).join(""), fast: true });
  await assert.rejects(short, { code: "bad-ids", message: /has \d+ tokens, fewer than .* at least \d+ tokens/ });
  checkpoint.dispose();
});
