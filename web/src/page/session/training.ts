// Training a student that is made of the checkpoint, and measuring it like whatever else was made of it.

import { distill } from "statepress";
import { objectionToTraining, withTextsApart } from "../state/calibration.js";
import { stepsOf } from "../state/pruning.js";
import type { Asked, WantedStudent } from "../state/state.js";
import { calibrationOf } from "./asked-texts.js";
import type { OpenCheckpoint } from "./open-checkpoint.js";
import { promptly } from "./promptly.js";
import { take, watching } from "./working.js";

/** Trains a student, and compares it with the original. Aborting `enough` keeps what is best by then. */
export async function train(
  opened: OpenCheckpoint,
  run: number,
  given: Asked,
  wanted: WantedStudent,
  enough: AbortSignal,
): Promise<void> {
  const { checkpoint, tell } = opened;
  const signal = opened.begin("work");
  let isTrained = false;
  try {
    tell({ type: "training", run, now: performance.now(), wanted });
    const text = await promptly(signal, calibrationOf(opened, withTextsApart(given), objectionToTraining));
    const { init, minutes, alpha } = wanted;
    const training = distill(checkpoint, {
      student: stepsOf(wanted.keeps),
      text,
      init,
      minutes,
      alpha,
      signal,
      enough,
      onProgress: watching(opened, run, signal),
      onPoint: (point) => tell({ type: "trainedUntil", run, point }),
    });
    const student = await promptly(signal, training, (late) => late.dispose());
    const recipe = student.report?.recipe;
    if (!recipe) throw new Error("training without a report");
    isTrained = true;
    await take(opened, run, student, { asked: withTextsApart({ ...given, recipe }), wanted: undefined }, signal);
  } catch (error) {
    const problem = opened.failed(error);
    tell(isTrained ? { type: "workFailed", run, problem } : { type: "trainingFailed", problem });
  }
}
