// Advice by what was measured of the checkpoint that is open.

import { measuredOf } from "../state/measured.js";
import { textOf } from "./asked-texts.js";
import type { OpenCheckpoint } from "./open-checkpoint.js";
import { promptly } from "./promptly.js";
import { detected, watching } from "./working.js";

/** Measures every recipe that is worth it on the text that is asked for, and has the advice anew. */
export async function measureAll(opened: OpenCheckpoint, run: number): Promise<void> {
  const { checkpoint, tell, state } = opened;
  const { asked } = state;
  const signal = opened.begin("work");
  try {
    tell({ type: "measuring", run, now: performance.now() });
    const { text } = await promptly(signal, textOf(asked));
    const offset = opened.offsets?.find(text, asked)?.offset ?? detected(checkpoint);
    const measure = { text, limit: asked.limit, window: asked.window, offset };
    const onProgress = watching(opened, run, signal);
    const advising = checkpoint.advise({ measure, backend: asked.backend, signal, onProgress });
    const { measured } = await promptly(signal, advising);
    tell({ type: "measured", checkpoint: opened.id, measured: { run, recipes: measured } });
    await adviseAnew(opened);
  } catch (error) {
    tell({ type: "measureFailed", problem: opened.failed(error) });
  }
}

/** Asks for advice once more, by what was measured and is wished for by now. */
export async function adviseAnew(opened: OpenCheckpoint): Promise<void> {
  const measured = measuredOf(opened.state);
  const advice = await opened.checkpoint.advise({ measured, ...opened.state.wishes });
  const plans = opened.state.checkpoint?.plans ?? {};
  opened.tell({ type: "advised", checkpoint: opened.id, advice, plans });
}
