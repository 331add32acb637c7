// Decode and prefill of the demo model in every precision, in one run with its rivals.
//
//   node tests/bench/peers.mjs [--build simd|base|relaxed] [--rounds N] [--peers FOLDER]
//
// Rounds go over all variants in turn, so that a busy machine slows all of them; the best round
// counts, and what is to be believed are the ratios. FOLDER holds the rivals: `ort_core.mjs`
// (onnxruntime-web, with exported graphs in PEERS_MODELS/onnx and the package in PEERS_NODE) and
// `run-torch.sh` (PyTorch). Without it only our own precisions are compared with each other.
//
// decode: one token at a time from a state, 250 tokens. prefill: a window of 128 tokens from an
// empty state, logits of the last position. One thread everywhere.

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

const { values: options } = parseArgs({
  options: {
    build: { type: "string", default: "simd" },
    rounds: { type: "string", default: "7" },
    peers: { type: "string" },
    recipes: { type: "string", default: "none,fp16,bf16,int8,int4,nf4,mixed,mixed-aggressive" },
  },
});
const root = fileURLToPath(new URL("../..", import.meta.url));
const WINDOW = 128;
const DECODED = 250;
const ids = pseudoRandomIds(256, 8000);

const wasm = await import(pathToFileURL(join(root, `web/wasm/${options.build}/statepress_wasm.js`)));
wasm.initSync({ module: readFileSync(join(root, `web/wasm/${options.build}/statepress_wasm_bg.wasm`)) });

const demo = readFileSync(join(root, "examples/demo/itera-tiny/model.safetensors"));
const variants = options.recipes.split(",").map(ours);
if (options.peers) {
  for (const precision of ["fp32", "int8", "q4"]) variants.push(await onnxruntime(options.peers, precision));
}
for (let round = 0; round < Number(options.rounds); round++) {
  for (const variant of variants) {
    const decode = await variant.decode();
    const prefill = await variant.prefill();
    variant.best ??= { decode: 0, prefill: 0 };
    variant.best.decode = Math.max(variant.best.decode, decode);
    variant.best.prefill = Math.max(variant.best.prefill, prefill);
  }
}
if (options.peers) variants.push(...torch(options.peers));

const fp32 = variants[0].best;
const rival = best(variants.filter((variant) => variant.name.startsWith("onnxruntime-web")));
console.log(`build ${wasm.build()}, Node ${process.version}, tokens per second, best of ${options.rounds} rounds`);
for (const {
  name,
  best: { decode, prefill },
} of variants) {
  const against = rival
    ? `  x${(decode / rival.decode).toFixed(2)} x${(prefill / rival.prefill).toFixed(2)} of the best rival`
    : "";
  console.log(
    `${name.padEnd(26)} decode ${decode.toFixed(0).padStart(6)} x${(decode / fp32.decode).toFixed(2)}` +
      `  prefill ${prefill.toFixed(0).padStart(6)} x${(prefill / fp32.prefill).toFixed(2)} of our FP32${against}`,
  );
}

/** The demo model after a recipe, in our wasm. */
function ours(recipe) {
  const chunks = [];
  const job = wasm.Checkpoint.open(source(demo)).compress(recipe, {
    write: (bytes) => chunks.push(Buffer.from(bytes)),
  });
  finish(job);
  const model = finish(wasm.Checkpoint.open(source(Buffer.concat(chunks))).load());
  const timed = (tokens, run) => {
    const start = performance.now();
    run();
    return (tokens * 1000) / (performance.now() - start);
  };
  return {
    name: recipe === "none" ? "statepress fp32" : `statepress ${recipe}`,
    decode: () => {
      const generator = model.generate(Uint32Array.of(ids[0], ids[1]), { maxTokens: DECODED + 1 });
      generator.step();
      const rate = timed(DECODED, () => {
        while (generator.step());
      });
      generator.free();
      return rate;
    },
    prefill: () =>
      timed(WINDOW * 10, () => {
        for (let i = 0; i < 10; i++) {
          const generator = model.generate(Uint32Array.from(ids.slice(0, WINDOW)), {});
          generator.prefill();
          generator.free();
        }
      }),
  };
}

function source(bytes) {
  return { size: bytes.length, readAt: (offset, buffer) => buffer.set(bytes.subarray(offset, offset + buffer.length)) };
}

function finish(job) {
  while (job.step());
  return job.finish();
}

async function onnxruntime(folder, precision) {
  const { loadOrt } = await import(pathToFileURL(join(folder, "ort_core.mjs")));
  const packages = join(process.env.PEERS_NODE, "node_modules");
  const ort = await import(pathToFileURL(join(packages, "onnxruntime-web/dist/ort.node.min.mjs")));
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = "error";
  const graph = (kind) => readFileSync(join(process.env.PEERS_MODELS, "onnx", `itera-tiny-${kind}-${precision}.onnx`));
  const peer = await loadOrt(ort, graph("step"), graph("window"), ids, WINDOW, true);
  const rate = ({ tokens, seconds }) => tokens / seconds;
  return {
    name: `onnxruntime-web ${precision}`,
    decode: async () => rate(await peer.decode(DECODED)),
    prefill: async () => rate(await peer.prefill(10)),
  };
}

function torch(folder) {
  const lines = execFileSync(join(folder, "run-torch.sh"), ["--models", "itera-tiny", "--rounds", options.rounds], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"],
  });
  return lines
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line))
    .map(({ precision, decodeTokPerS: decode, prefillTokPerS: prefill }) => ({
      name: `PyTorch ${precision}`,
      best: { decode, prefill },
    }));
}

function best(rivals) {
  if (rivals.length === 0) return undefined;
  const of = (what) => Math.max(...rivals.map((variant) => variant.best[what]));
  return { decode: of("decode"), prefill: of("prefill") };
}

/** The same in every language: a linear congruential generator. */
function pseudoRandomIds(n, vocab) {
  let x = 7n;
  return Array.from({ length: n }, () => {
    x = (x * 1103515245n + 12345n) % 2147483648n;
    return Number((x >> 8n) % BigInt(vocab));
  });
}
