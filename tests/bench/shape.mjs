// Writes a Mamba of random weights in any shape, for benchmarks of sizes that nobody wants to download.
//
// node tests/bench/shape.mjs OUT.safetensors [--hidden 768] [--layers 24] [--vocab 50280] [--sparse]
//
// With --sparse all numbers are zero and take no room on disks that can have holes in files: for what only depends on sizes.
// The shape is that of Mamba-130M where nothing else is said: states of 16 numbers, twice the width inside, FP32. Matrices
// are drawn so that what they put out is of the size of what enters; states decay and step as a fresh Mamba's do (Gu and Dao 2023, 3.6).

import { closeSync, ftruncateSync, openSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    hidden: { type: "string", default: "768" },
    layers: { type: "string", default: "24" },
    vocab: { type: "string", default: "50280" },
    sparse: { type: "boolean", default: false },
  },
});
const [out] = positionals;
const [hidden, layers, vocab] = [values.hidden, values.layers, values.vocab].map(Number);
const isWhole = [hidden, layers, vocab].every(Number.isInteger);
if (!out || !isWhole || hidden < 16 || vocab < 16 || layers < 1) {
  throw new Error(
    "give a file, 16 or more of --hidden and --vocab, and a layer or more: OUT [--hidden N] [--layers N] [--vocab N]",
  );
}
const [inner, states, rank, taps] = [2 * hidden, 16, Math.ceil(hidden / 16), 4];

// Uniform in [-1, 1), the same in every run (xorshift32).
let seed = 0x9e3779b9;
function uniform() {
  seed ^= seed << 13;
  seed ^= seed >>> 17;
  seed ^= seed << 5;
  return (seed >>> 0) / 2 ** 31 - 1;
}

const drawn = (scale) => () => scale * uniform();
const matrix = (name, rows, columns, scale = Math.sqrt(3 / columns)) => [name, [rows, columns], drawn(scale)];
// softplus(bias) between 0.001 and 0.1, evenly in its logarithm.
const stepBias = () => Math.log(Math.expm1(10 ** (uniform() - 2)));

const tensors = [
  matrix("backbone.embeddings.weight", vocab, hidden, 0.05),
  ["backbone.norm_f.weight", [hidden], () => 1],
];
for (let layer = 0; layer < layers; layer++) {
  const name = (rest) => `backbone.layers.${layer}.${rest}`;
  tensors.push(
    [name("norm.weight"), [hidden], () => 1],
    matrix(name("mixer.in_proj.weight"), 2 * inner, hidden),
    [name("mixer.conv1d.weight"), [inner, 1, taps], drawn(1 / Math.sqrt(taps))],
    [name("mixer.conv1d.bias"), [inner], drawn(0.1)],
    matrix(name("mixer.x_proj.weight"), rank + 2 * states, inner),
    matrix(name("mixer.dt_proj.weight"), inner, rank, 1 / Math.sqrt(rank)),
    [name("mixer.dt_proj.bias"), [inner], stepBias],
    [name("mixer.A_log"), [inner, states], (at) => Math.log(1 + (at % states))],
    [name("mixer.D"), [inner], () => 1],
    matrix(name("mixer.out_proj.weight"), hidden, inner),
  );
}

const header = {};
let end = 0;
for (const [name, shape] of tensors) {
  const bytes = 4 * shape.reduce((a, b) => a * b);
  header[name] = { dtype: "F32", shape, data_offsets: [end, end + bytes] };
  end += bytes;
}
const json = Buffer.from(JSON.stringify(header));
const padded = Buffer.alloc(8 + Math.ceil(json.length / 8) * 8, " ");
padded.writeBigUInt64LE(BigInt(padded.length - 8), 0);
json.copy(padded, 8);
const file = openSync(out, "wx");
writeFileSync(file, padded);
if (values.sparse) ftruncateSync(file, padded.length + end);
for (const [, shape, draw] of values.sparse ? [] : tensors) {
  const numbers = Float32Array.from({ length: shape.reduce((a, b) => a * b) }, (_, at) => draw(at));
  writeFileSync(file, new Uint8Array(numbers.buffer));
}
closeSync(file);
console.log(`${out}: ${(end / 4 / 1e6).toFixed(1)} million parameters, ${(end / 1e6).toFixed(1)} MB`);
