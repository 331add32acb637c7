// Generating: tokens one after the other, on whichever backend holds the model.

import { throwIfAborted } from "../api/errors.js";
import type { GeneratedToken } from "../api/types/statepress.js";
import { Batch, Pace, release } from "./jobs.js";
import type { PlacedModel } from "./placed.js";
import type { Platform } from "./platform.js";
import type { Context, Generation } from "./protocol.js";

/** Continues a prompt, and tells of tokens as they come, a few at a time. */
export async function generate(
  placed: PlacedModel,
  ids: Uint32Array,
  options: { maxTokens?: number },
  context: Context,
  breathe: Platform["breathe"],
): Promise<Generation> {
  const made: number[] = [];
  let prefill = 0;
  let decode = 0;
  const stop = await placed.use(async (model) => {
    // On a second backend: what was made on the first is part of the prompt.
    const prompt = Uint32Array.from([...ids, ...made]);
    const left = options.maxTokens === undefined ? {} : { maxTokens: options.maxTokens - made.length };
    const generator = model.generate(prompt, { ...options, ...left });
    try {
      const start = performance.now();
      await generator.prefill();
      prefill = performance.now() - start;
      const pace = new Pace(breathe);
      const batch = new Batch();
      let tokens: GeneratedToken[] = [];
      for (;;) {
        const before = performance.now();
        const some = await generator.step(batch.count);
        if (some.length === 0) break;
        const took = performance.now() - before;
        batch.took(took);
        decode += took;
        for (const token of some) made.push(token.id);
        tokens.push(...some);
        if (pace.due) {
          context.onTokens?.(tokens);
          tokens = [];
          await pace.rest();
          throwIfAborted(context.signal);
        }
      }
      if (tokens.length > 0) context.onTokens?.(tokens);
      return generator.stop() ?? "";
    } finally {
      release(generator);
    }
  });
  const tokensPerSecond = { prefill: (1000 * ids.length) / prefill, decode: (1000 * made.length) / decode || 0 };
  return { tokensPerSecond, stop, backend: placed.backend.name, findings: placed.findings };
}
