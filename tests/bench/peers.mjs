// Decode and prefill of models in every precision, beside another build of the same module and beside rivals.
//
//   node tests/bench/peers.mjs [MODEL...] [--build simd|base|relaxed] [--recipes a,b] [--rounds N]
//                              [--against FOLDER] [--peers FOLDER [--rivals a,b]] [--tiny] [--json]
//
// MODEL is a checkpoint or a folder with one (a config.json beside it is used); without any it is the
// demo model. A recipe is a built-in one, or a precision for every matrix. `--against` names a folder with
// another build (`statepress_wasm.js` and its `.wasm`): every precision is measured in both. `--peers` names
// a folder with rivals: see rivals.mjs. `--tiny` runs everything once with a few tokens, to see that it
// runs: its figures mean nothing.
//
// Rounds go over all variants in turn, so that a busy machine slows all of them; the best round
// counts, and what is to be believed are the ratios. One thread everywhere.
//
// decode: one token at a time from a state. prefill: a window of 128 tokens from an empty state,
// logits of the last position.

import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { interleavedRivals, separateRivals } from "./rivals.mjs";
import { loadBuild, ModelFile } from "./variants.mjs";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const RECIPES = "none,fp16,bf16,int8,int6,int5,int4,nf4,int3,lm3,int2,lm2,mixed,mixed-aggressive";

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    build: { type: "string", default: "simd" },
    recipes: { type: "string" },
    rounds: { type: "string" },
    against: { type: "string" },
    peers: { type: "string" },
    rivals: { type: "string" },
    tiny: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
  },
});
const recipes = (options.recipes ?? (options.tiny ? "none,int8" : RECIPES)).split(",");
const rounds = Number(options.rounds ?? (options.tiny ? 1 : 7));
if (!(Number.isInteger(rounds) && rounds > 0))
  throw new Error(`--rounds takes a whole number from 1, not ${options.rounds}`);
const paths = positionals.length > 0 ? positionals : [join(ROOT, "examples/demo/itera-tiny")];

const built = join(ROOT, "web/wasm", options.build);
const ours = await loadBuild(built, "this");
// Sizes are asked of a module that times nothing: in one that has held the model before, its weights lie
// elsewhere in memory, and the same build decoded FP32 a fifth slower than itself.
const sizer = await loadBuild(built, "sizes");
const other = options.against && (await loadBuild(options.against, "other"));
const results = [];
for (const path of paths) results.push(await compare(new ModelFile(path)));

const run = { build: ours.name, against: other && options.against, node: process.version, rounds };
if (options.json) console.log(JSON.stringify({ ...run, models: results }, null, 1));
else for (const result of results) print(result);
// What this build cannot do is a failure; what the other build does not know yet, or a rival that is not here, is not.
if (results.some(({ missing }) => missing.some(({ ours }) => ours))) process.exitCode = 1;

/** One model in every precision, in every build, beside its rivals. */
async function compare(file) {
  const { vocabSize, maxTokens, parameters } = await sizer.look(file);
  const work = sizes(parameters, maxTokens);
  const ids = pseudoRandomIds(256, vocabSize);
  const missing = [];
  const variants = [];
  for (const recipe of recipes) {
    for (const build of other ? [ours, other] : [ours]) {
      try {
        variants.push(await build.variant(file, recipe, ids, work));
      } catch (error) {
        missing.push({ ours: build === ours, name: build.title(recipe), why: String(error.message ?? error) });
      }
    }
  }
  if (options.peers) {
    const { found, absent } = await interleavedRivals(options.peers, options.rivals, file.name, ids, work);
    variants.push(...found);
    missing.push(...absent);
  }
  await measure(variants);
  for (const variant of variants) await variant.release();
  if (options.peers) {
    const { found, absent } = separateRivals(options.peers, options.rivals, file.name, rounds, work);
    variants.push(...found);
    missing.push(...absent);
  }
  return { model: file.name, parameters, ...work, variants: ratios(variants), missing };
}

/** Work of one round, about as long for a large model as for a small one, within its positions. */
// A model without a limit has no `maxTokens`.
function sizes(parameters, maxTokens = Number.POSITIVE_INFINITY) {
  const window = Math.min(options.tiny ? 16 : 128, maxTokens);
  const fitting = (least, most, each) => Math.max(least, Math.min(most, Math.round(2e9 / parameters / each)));
  return {
    decoded: Math.min(options.tiny ? 8 : fitting(16, 250, 1), maxTokens - 3),
    window,
    windows: options.tiny ? 1 : fitting(1, 10, window),
  };
}

async function measure(variants) {
  for (const variant of variants) variant.best = { decode: 0, prefill: 0 };
  for (let round = 0; round < rounds; round++) {
    // There and back: whoever comes first after another's work is not always the same one.
    for (const variant of round % 2 === 0 ? variants : variants.toReversed()) {
      for (const what of ["decode", "prefill"]) {
        const { tokens, seconds } = await variant[what]();
        variant.best[what] = Math.max(variant.best[what], tokens / seconds);
      }
    }
  }
}

/** What is printed: rates, and each against the other build, our first recipe, and the best rival on the web. */
function ratios(variants) {
  const of = (best, base) => base && { decode: best.decode / base.decode, prefill: best.prefill / base.prefill };
  const first = variants.find(({ build }) => build === "this")?.best;
  const web = variants.filter((variant) => variant.web).map(({ best }) => best);
  const rival = web.length > 0 && {
    decode: Math.max(...web.map(({ decode }) => decode)),
    prefill: Math.max(...web.map(({ prefill }) => prefill)),
  };
  return variants.map(({ name, build, recipe, best }) => ({
    name,
    build,
    recipe,
    decode: best.decode,
    prefill: best.prefill,
    ofOther:
      (build === "this" &&
        of(best, variants.find((other) => other.build === "other" && other.recipe === recipe)?.best)) ||
      undefined,
    ofFirst: of(best, first),
    ofRival: of(best, rival) || undefined,
  }));
}

function print({ model, parameters, decoded, window, variants, missing }) {
  console.log(
    `${model}, ${parameters} parameters: build ${run.build}, Node ${run.node}, best of ${rounds} rounds of ` +
      `${decoded} decoded tokens and windows of ${window}; tokens per second, and as a multiple of others`,
  );
  const bases = { first: "ofFirst", "other build": "ofOther", "best rival": "ofRival" };
  const shown = Object.entries(bases).filter(([, key]) => variants.some((variant) => variant[key]));
  const rate = (value) => value.toFixed(value < 100 ? 1 : 0);
  const row = (name, cell) =>
    console.log([name.padEnd(34), ...["decode", "prefill"].flatMap((what) => cell(what))].join(" "));
  row("", (what) => [what.padStart(10), ...shown.map(([title]) => title.padStart(12))]);
  for (const variant of variants) {
    const ratios = (what) =>
      shown.map(([, key]) => (variant[key] ? `x${variant[key][what].toFixed(3)}` : "").padStart(12));
    row(variant.name, (what) => [rate(variant[what]).padStart(10), ...ratios(what)]);
  }
  for (const { name, why } of missing) console.log(`${name.padEnd(34)} not measured: ${why.split("\n")[0]}`);
}

/** The same in every language: a linear congruential generator. */
function pseudoRandomIds(n, vocabSize) {
  let x = 7n;
  return Array.from({ length: n }, () => {
    x = (x * 1103515245n + 12345n) % 2147483648n;
    return Number((x >> 8n) % BigInt(vocabSize));
  });
}
