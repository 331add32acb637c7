// Times a model: prefill and decode apart, a warm-up first, medians of several runs, fixed pseudo-random ids.

import { badOption, throwIfAborted } from "../api/errors.js";
import type { BenchOptions, BenchResult, Context } from "./protocol.js";
import type { WasmModel } from "./wasm.js";

/** The most tokens of a sequence that is timed, prompt and decoded ones together. */
const TOKENS = 256;

/** The most of anything that may be asked for: no machine would come to the end of more. */
const MOST = 1 << 20;

/** Tokens decoded per step: what a GPU makes of one submission. */
const BATCH = 32;

/** How fast a model is. */
export async function bench(
  model: WasmModel,
  options: BenchOptions,
  context: Context,
  breathe: () => Promise<void>,
): Promise<Omit<BenchResult, "build" | "backend">> {
  const { vocabSize, maxTokens } = model.info();
  const longest = Math.min(maxTokens ?? TOKENS, TOKENS);
  const decodeTokens = options.decodeTokens ?? Math.max(1, Math.floor(longest / 4));
  const prefillTokens = options.prefillTokens ?? Math.max(2, longest - decodeTokens);
  const repeats = options.repeats ?? 5;
  for (const [option, value] of Object.entries({ decodeTokens, prefillTokens, repeats })) {
    if (!Number.isInteger(value) || value < 1 || value > MOST) {
      const allowed = `a whole number from 1 to ${MOST}`;
      throw badOption(option, value, allowed);
    }
  }
  const ids = pseudoRandom(prefillTokens, vocabSize);
  const prefill: number[] = [];
  const decode: number[] = [];
  // Run 0 warms up and is not counted.
  for (let round = 0; round <= repeats; round++) {
    throwIfAborted(context.signal);
    const generator = model.generate(ids, { maxTokens: decodeTokens + 1, seed: 1 });
    try {
      const start = performance.now();
      await generator.prefill();
      const middle = performance.now();
      let made = 0;
      while (made < decodeTokens) {
        const tokens = await generator.step(Math.min(BATCH, decodeTokens - made));
        if (tokens.length === 0) break;
        made += tokens.length;
      }
      const end = performance.now();
      if (round > 0) {
        prefill.push((1000 * prefillTokens) / (middle - start));
        if (made > 0) decode.push((1000 * made) / (end - middle));
      }
    } finally {
      generator.free();
    }
    context.onProgress?.({ stage: "bench", done: round, total: repeats, unit: "runs" });
    await breathe();
  }
  return {
    prefillTokensPerSecond: median(prefill),
    decodeTokensPerSecond: median(decode),
    prefillTokens,
    decodeTokens,
    repeats,
  };
}

function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? 0;
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? 0)) / 2;
}

// A linear congruential generator (Numerical Recipes): the same ids on every machine.
function pseudoRandom(count: number, below: number): Uint32Array {
  let state = 1;
  return Uint32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  });
}
