// What each tensor costs, told of while it is measured.

import type { SearchCosts } from "../api/types/statepress.js";
import type { Job, WasmCosts } from "./wasm.js";

/** Milliseconds between two times: of a model of many tensors costs are no small message. */
const TELLING = 250;

/** The same job, which tells of the costs that are there: now and then, and at its end, also where that comes early. */
export function telling(job: WasmCosts, onCosts: (costs: SearchCosts) => void): Job<SearchCosts> {
  let told = performance.now();
  return {
    async step() {
      const progress = await job.step();
      const isOne = progress?.stage === "search" && progress.item !== undefined;
      if (isOne && performance.now() - told >= TELLING) {
        onCosts(job.costs());
        told = performance.now();
      }
      return progress;
    },
    finish() {
      const costs = job.finish();
      onCosts(costs);
      return costs;
    },
    free() {
      onCosts(job.costs());
      job.free();
    },
  };
}
