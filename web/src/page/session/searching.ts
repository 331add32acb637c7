// Searching for the best recipe, and measuring what was produced by it.

import { allocate, type SearchCosts, type SearchPoint, search as searchFor } from "statepress";
import { objectionToSearch, withTextsApart } from "../state/calibration.js";
import type { Asked, Wanted } from "../state/state.js";
import { calibrationOf } from "./asked-texts.js";
import type { OpenCheckpoint } from "./open-checkpoint.js";
import { plan } from "./planning.js";
import { promptly } from "./promptly.js";
import { take, watching } from "./working.js";

/** Searches, asks for the recipe that was found, and compares what was produced by it with the original. */
export async function search(opened: OpenCheckpoint, run: number, given: Asked, wanted: Wanted): Promise<void> {
  const { checkpoint, tell } = opened;
  const { target, fast } = wanted;
  const signal = opened.begin("work");
  let isFound = false;
  try {
    tell({ type: "searching", run, now: performance.now(), wanted });
    const calibration = await promptly(signal, calibrationOf(opened, withTextsApart(given), objectionToSearch));
    const searching = searchFor(checkpoint, target, {
      calibration,
      gradients: given.calibration.gradients,
      fast,
      coded: wanted.coded,
      first: wanted.first,
      costs: opened.state.search?.measured?.costs,
      onCosts: drawing(opened, run),
      signal,
      onProgress: watching(opened, run, signal),
    });
    const result = await promptly(signal, searching, (late) => late.compressed.dispose());
    const { compressed, costs, front, ...found } = result;
    const { recipe } = found;
    const bytes = compressed.report?.bytes;
    if (!bytes) throw new Error("a search without a report");
    isFound = true;
    tell({ type: "costsMeasured", run, measured: { costs, front } });
    tell({ type: "asked", change: { recipe } });
    tell({ type: "found", run, found: { ...found, bytes } });
    await plan(opened, recipe);
    await take(opened, run, compressed, { asked: withTextsApart({ ...given, recipe }), wanted }, signal);
  } catch (error) {
    const problem = opened.failed(error);
    tell(isFound ? { type: "workFailed", run, problem } : { type: "searchFailed", problem });
  }
}

/** A size that every recipe fits. */
const ANY = { bytes: Number.MAX_SAFE_INTEGER };

/** How many times as long as a front takes the next one is waited for: the worker that makes it is measuring, too. */
const REST = 3;

// Tells of the front by the costs so far: of those that come while it is worked out, by the last.
function drawing(opened: OpenCheckpoint, run: number): (costs: SearchCosts) => Promise<void> {
  let next: SearchCosts | undefined;
  let busy = false;
  return async (costs) => {
    next = costs;
    if (busy) return;
    busy = true;
    while (next) {
      const costs: SearchCosts = next;
      next = undefined;
      const began = performance.now();
      try {
        const { front } = await allocate(costs, ANY);
        // It is over, and has told of all that there is.
        if (!opened.state.search?.found) opened.tell({ type: "costsMeasured", run, measured: { costs, front } });
      } catch (error) {
        opened.failed(error);
      }
      await new Promise((rested) => setTimeout(rested, REST * (performance.now() - began)));
    }
    busy = false;
  };
}

/** Asks for the recipe of another size on the way that the search went. */
export async function takePoint(opened: OpenCheckpoint, { bytes }: SearchPoint): Promise<void> {
  const { search, asked } = opened.state;
  if (!search?.measured) return;
  try {
    const { recipe } = await allocate(search.measured.costs, { bytes });
    opened.tell({ type: "asked", change: { recipe }, edit: "front" });
    await plan(opened, recipe);
  } catch (error) {
    opened.tell({ type: "planFailed", recipe: asked.recipe, problem: opened.failed(error) });
  }
}
