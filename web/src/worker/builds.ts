// The three builds of the wasm module, and which of them an engine can run. Imports nothing: the playground's service
// worker, which keeps the one build that will be asked for, is bundled with it.

/** One of the three builds: plain wasm, with SIMD, with relaxed SIMD as well. */
export type Build = "base" | "simd" | "relaxed";

// The smallest modules that hold one instruction of each kind: i8x16.popcnt and i8x16.relaxed_swizzle.
const SIMD = [
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
];
const RELAXED = [
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 15, 1, 13, 0, 65, 1, 253, 15, 65, 2, 253, 15,
  253, 128, 2, 11,
];

/** The best build that this engine can run. */
export function bestBuild(): Build {
  const runs = (bytes: number[]) => WebAssembly.validate(new Uint8Array(bytes));
  if (runs(RELAXED)) return "relaxed";
  return runs(SIMD) ? "simd" : "base";
}
