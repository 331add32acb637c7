// Measuring for advice: every recipe that is worth it is carried out in memory and judged on a text; it is timed as well,
// where this device can stand for the one that is asked about.

import { checkOptions } from "./check.js";
import type { Checkpoint } from "./checkpoint.js";
import type { Environment } from "./environment.js";
import { StatepressError } from "./errors.js";
import { library } from "./library.js";
import type { Model } from "./model.js";
import type { AdviseOptions, MeasureOptions, Running } from "./options.js";
import type { MeasuredRecipe, MeasureOffer } from "./types/statepress.js";

/** What this device can stand for, by what computes. */
const BACKENDS = { cpu: "cpu", gpu: "webgpu", edge: undefined } as const;

/** Timed runs of each: the order of recipes needs no third digit. */
const REPEATS = 3;

/** What each of the recipes loses on a text, and how fast it is where a target asks for that. */
export async function measure(
  environment: Environment,
  checkpoint: Checkpoint,
  { recipes, tokens }: Pick<MeasureOffer, "recipes" | "tokens">,
  options: AdviseOptions & { measure: MeasureOptions },
): Promise<MeasuredRecipe[]> {
  checkOptions("compare", options.measure);
  const { target, signal, onProgress } = options;
  const { text, ids, limit = tokens, window, offset } = options.measure;
  if (text === undefined && ids === undefined) {
    throw new StatepressError("bad-option", "measure needs a text or ids", { option: "measure" });
  }
  const timedOn = target && BACKENDS[target];
  const backend = options.backend ?? timedOn;
  if (timedOn !== undefined && backend !== timedOn) {
    const facts = { option: "backend", value: backend, allowed: timedOn };
    throw new StatepressError(
      "bad-option",
      `option backend is ${backend}; allowed: ${timedOn}, by target ${target}`,
      facts,
    );
  }
  const { compare } = library(environment);
  const base = await checkpoint.load({ backend, signal, onProgress });
  try {
    const measured: MeasuredRecipe[] = [];
    if (timedOn) measured.push({ recipe: "none", loss: 0, kl: 0, ratio: 1, ...(await timed(base, signal)) });
    for (const [at, recipe] of recipes.entries()) {
      const running: Running = {
        signal,
        // Judging takes nearly all of the time: only that is counted.
        onProgress:
          onProgress &&
          (({ stage, done, total }) => {
            const part = stage === "compare" ? done / total : 0;
            const all = { done: Math.round((at + part) * limit), total: recipes.length * limit };
            onProgress({ stage: "measure", ...all, unit: "tokens", item: recipe });
          }),
      };
      const compressed = await checkpoint.compress(recipe, running);
      try {
        const model = await compressed.load({ backend, ...running });
        try {
          const card = await compare(base, model, { text, ids, limit, window, offset, ...running });
          const { b, kl, bytes, perplexityChange: loss, perplexityChangeStderr: stderr } = card;
          const speed = timedOn ? await timed(model, signal) : {};
          measured.push({ recipe, loss, stderr, kl: kl.mean, ratio: bytes.ratio, tokens: b.tokens, ...speed });
        } finally {
          model.dispose();
        }
      } finally {
        compressed.dispose();
      }
    }
    return measured;
  } finally {
    base.dispose();
  }
}

async function timed(model: Model, signal: AbortSignal | undefined) {
  const { decodeTokensPerSecond: tokensPerSecond, backend } = await model.bench({ repeats: REPEATS, signal });
  return { tokensPerSecond, backend };
}
