// Searching for the best recipe, and measuring what was produced by it.

import { allocate, type SearchCosts, type SearchOptions, type SearchPoint, search as searchFor } from "statepress";
import { objectionToMeasuring, objectionToSearch, withTextsApart } from "../state/calibration.js";
import { measuringFor } from "../state/damage.js";
import type { Asked, RecipeRun, Wanted } from "../state/state.js";
import { calibrationOf } from "./asked-texts.js";
import type { OpenCheckpoint } from "./open-checkpoint.js";
import { plan } from "./planning.js";
import { promptly } from "./promptly.js";
import { take, watching } from "./working.js";

/** Searches, asks for the recipe that was found, and compares what was produced by it with the original. */
export async function search(opened: OpenCheckpoint, run: number, given: Asked, wanted: Wanted): Promise<void> {
  const { checkpoint, tell } = opened;
  const { target, ...how } = wanted;
  const signal = opened.begin("work");
  let isFound = false;
  try {
    tell({ type: "searching", run, now: performance.now(), calibration: given.calibration, how });
    const calibration = await promptly(signal, calibrationOf(opened, withTextsApart(given), objectionToSearch));
    const searching = searchFor(checkpoint, target, {
      calibration,
      gradients: given.calibration.gradients,
      ...how,
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

/** Measures what the tensors of a run, or of the checkpoint, cost, each rounded alone: what a search begins with, and nothing more of it. */
export async function measureDamage(opened: OpenCheckpoint, id: number, run: RecipeRun | undefined): Promise<void> {
  const { tell, state } = opened;
  const signal = opened.begin("work");
  const { calibration, how } = measuringFor(run, state.asked);
  try {
    tell({ type: "searching", run: id, now: performance.now(), calibration, how });
    const asked = { ...state.asked, calibration };
    const text = await promptly(signal, calibrationOf(opened, asked, objectionToMeasuring));
    const options = { calibration: text, gradients: calibration.gradients, ...how };
    const costs = await promptly(signal, allCosts(opened, id, options, signal));
    const { front } = await allocate(costs, ANY);
    tell({ type: "costsMeasured", run: id, measured: { costs, front } });
    tell({ type: "workEnded" });
  } catch (error) {
    tell({ type: "searchFailed", problem: opened.failed(error) });
  }
}

// A search makes recipes of what it has measured: it is stopped before that.
function allCosts(
  opened: OpenCheckpoint,
  run: number,
  options: Omit<SearchOptions, "costs">,
  signal: AbortSignal,
): Promise<SearchCosts> {
  const { checkpoint, state } = opened;
  const costs = state.search?.measured?.costs;
  if (costs?.unmeasured === 0) return Promise.resolve(costs);
  const stopping = new AbortController();
  signal.addEventListener("abort", () => stopping.abort(), { once: true });
  const draw = drawing(opened, run);
  return new Promise((resolve, reject) => {
    const onCosts = (costs: SearchCosts) => {
      void draw(costs);
      if (costs.unmeasured > 0) return;
      resolve(costs);
      stopping.abort();
    };
    const onProgress = watching(opened, run, signal);
    const searching = searchFor(checkpoint, ANY, { ...options, costs, onCosts, signal: stopping.signal, onProgress });
    searching.then((found) => found.compressed.dispose(), reject);
  });
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
