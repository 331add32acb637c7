// The search for the best recipe: costs are measured, bits are spent, and the result is carried out and measured.

import type { Host, Input } from "../worker/protocol.js";
import type { Checkpoint } from "./checkpoint.js";
import type { CompareOptions, SearchOptions } from "./options.js";
import type { Comparison, Recipe, SearchCosts, SearchPoint, SearchTarget } from "./types/statepress.js";

/** What a search found, carried out. */
export interface Found {
  /** The compressed checkpoint. */
  compressed: Checkpoint;
  /** An ordinary recipe that anybody can follow again. */
  recipe: Recipe;
  /** What the sum of single costs says of it. */
  predicted: SearchPoint;
  /** What was measured of it on the part of the calibration text that it was not fitted to. */
  measured: { kl: number; perplexityChange: number; tokens: number };
  /** Whether the target is reached by what was measured; sizes always are. */
  reached: boolean;
  /** Every recipe on the way from the smallest to the closest. */
  front: SearchPoint[];
  /** What each tensor costs alone, at every precision. */
  costs: SearchCosts;
}

/** How often a recipe is made closer where its measurement misses what may be lost. */
const TRIES = 3;

/** What the library lends. */
interface Lent {
  host: Host;
  compare: (a: Checkpoint, b: Checkpoint, options: CompareOptions) => Promise<Comparison>;
}

export async function search(
  { host, compare }: Lent,
  checkpoint: Checkpoint,
  input: Input,
  target: SearchTarget,
  options: SearchOptions,
): Promise<Found> {
  const { fast = false, signal, onProgress, beside } = options;
  const request = { checkpoint: checkpoint.handle, calibration: input, fast, target };
  const { costs, read, judged } = await host.call("searchCosts", request, options);
  let wanted = target;
  for (let tries = 1; ; tries++) {
    const { recipe, chosen, front } = await host.call("allocate", { costs, target: wanted });
    const compressed = await checkpoint.compress(recipe, { calibration: read, beside, signal, onProgress });
    try {
      const how = { ids: judged, window: costs.window, backend: "cpu" as const, signal, onProgress };
      const card = await compare(checkpoint, compressed, how);
      const measured = {
        kl: card.kl.mean,
        perplexityChange: card.perplexityChange,
        tokens: card.b.tokens,
      };
      const over = excess(target, measured);
      if (over <= 1 || tries === TRIES) {
        return { compressed, recipe, predicted: chosen, measured, reached: over <= 1, front, costs };
      }
      wanted = closer(wanted, over);
    } catch (error) {
      compressed.dispose();
      throw error;
    }
    compressed.dispose();
  }
}

// How many times too much was lost; sizes are exact.
function excess({ maxKl, maxLoss }: SearchTarget, measured: Found["measured"]): number {
  if (maxKl !== undefined) return measured.kl / maxKl;
  if (maxLoss !== undefined) return measured.perplexityChange / maxLoss;
  return 0;
}

// A little more than in proportion, so that the next try does not miss by a hair.
function closer(target: SearchTarget, over: number): SearchTarget {
  const by = 0.97 / over;
  return Object.fromEntries(Object.entries(target).map(([name, value]) => [name, value * by]));
}
