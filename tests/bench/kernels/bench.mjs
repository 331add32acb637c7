// Multiply-adds per second of every product, nanoseconds per number of every op, and entropy-coded codes per second;
// one thread, in Node.
//
//   node tests/bench/kernels/bench.mjs simd|base|relaxed [PATTERN]
//
// Builds the module first. PATTERN selects lines ("512x128 int8", "silu"). Each figure is the best of
// many short runs: on a shared machine the fastest is the least disturbed. Node 20 needs
// --experimental-wasm-relaxed-simd for `relaxed`.

import { execFileSync } from "node:child_process";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const [build = "simd", pattern = ""] = process.argv.slice(2);
const features = { base: "", simd: "+simd128", relaxed: "+simd128,+relaxed-simd" }[build];
if (features === undefined) throw new Error(`no build is named ${build}; there are base, simd and relaxed`);

const target = join(here, "../../../target/bench-kernels", build);
const script = `
  . "${join(here, "../../../pkg-scripts/common.sh")}"
  use_wasm_toolchain
  cd "${here}"
  export CARGO_TARGET_DIR="${target}" RUSTFLAGS="${features && `-Ctarget-feature=${features}`}"
  cargo build --quiet --release --target "$WASM_TARGET"
  wasm-bindgen --target nodejs --out-dir "${target}/node" \\
    "${target}/$WASM_TARGET/release/statepress_bench_kernels.wasm"`;
execFileSync("bash", ["-c", script], { stdio: "inherit" });
const { Coded, Product, op } = createRequire(import.meta.url)(`${target}/node/statepress_bench_kernels.js`);

/** Seconds of one run: the best of many batches in about `budget` milliseconds. */
function best(run, budget = 400) {
  const time = (times) => {
    const start = performance.now();
    run(times);
    return (performance.now() - start) / 1e3;
  };
  let times = 1;
  while (time(times) < 0.005) times *= 2;
  let found = Infinity;
  for (const end = performance.now() + budget; performance.now() < end; ) found = Math.min(found, time(times) / times);
  return found;
}

const selected = (line) => line.match(pattern);
const matrices = [
  [8000, 128],
  [512, 128],
  [128, 256],
  [256, 256],
  [64, 128],
  [8, 256],
  [256, 8],
];
for (const [rows, cols, n] of [
  ...matrices.map((shape) => [...shape, 1]),
  [8000, 128, 16],
  [512, 128, 128],
  [256, 256, 128],
]) {
  for (const encoding of ["fp32", "fp16", "bf16", "int8", "int4", "nf4"]) {
    const line = `${rows}x${cols}${n > 1 ? ` x ${n} tokens` : ""} ${encoding}`;
    const product = selected(line) && Product.create(encoding, rows, cols, n);
    if (!product) continue;
    const seconds = best((times) => product.run(times));
    console.log(line.padEnd(32), ((rows * cols * n) / seconds / 1e9).toFixed(1), "GMAC/s");
    product.free();
  }
}
for (const [bits, deviation] of [
  ["2.5", 1.37],
  ["4", 3.87],
  ["7", 31],
]) {
  for (const spread of [false, true]) {
    const line = `coded ${bits} bits${spread ? ", many classes" : ""}`;
    if (!selected(line)) continue;
    const [rows, cols] = [8000, 128];
    const coded = Coded.create(rows, cols, deviation, spread);
    const seconds = best((times) => {
      if (!coded.run(times)) throw new Error(`${line}: not decoded`);
    });
    console.log(line.padEnd(32), ((rows * cols) / seconds / 1e6).toFixed(0), "Mcodes/s");
    coded.free();
  }
}
const N = 8192;
for (const name of [
  "silu",
  "gelu",
  "silu_gate",
  "softplus_mean",
  "skip",
  "conv1d",
  "layer_norm",
  "log_sum_exp",
  "argmax",
  "compare",
]) {
  if (selected(name)) console.log(name.padEnd(32), ((best((times) => op(name, N, times)) / N) * 1e9).toFixed(2), "ns");
}
