// Searching for the best recipe, and measuring what was produced by it.

import { allocate, type SearchPoint, search as searchFor } from "statepress";
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
  let found = false;
  try {
    tell({ type: "searching", run, now: performance.now() });
    const calibration = await promptly(signal, calibrationOf(opened, withTextsApart(given), objectionToSearch));
    const onProgress = watching(opened, run, signal);
    const searching = searchFor(checkpoint, target, { calibration, fast, signal, onProgress });
    const { compressed, ...result } = await promptly(signal, searching, (late) => late.compressed.dispose());
    found = true;
    const { recipe } = result;
    tell({ type: "asked", change: { recipe } });
    tell({ type: "found", search: result });
    await plan(opened, recipe);
    await take(opened, run, compressed, { asked: withTextsApart({ ...given, recipe }), wanted }, signal);
  } catch (error) {
    const problem = opened.failed(error);
    tell(found ? { type: "workFailed", run, problem } : { type: "searchFailed", problem });
  }
}

/** Asks for the recipe of another size on the way that the search went. */
export async function takePoint(opened: OpenCheckpoint, { bytes }: SearchPoint): Promise<void> {
  const { search, asked } = opened.state;
  if (!search) return;
  try {
    const { recipe } = await allocate(search.costs, { bytes });
    opened.tell({ type: "asked", change: { recipe }, edit: "front" });
    await plan(opened, recipe);
  } catch (error) {
    opened.tell({ type: "planFailed", recipe: asked.recipe, problem: opened.failed(error) });
  }
}
