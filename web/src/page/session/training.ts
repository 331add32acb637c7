// Training a student that is made of the checkpoint, and measuring it like whatever else was made of it.

import { distill } from "statepress";
import { objectionToTraining, withTextsApart } from "../state/calibration.js";
import type { Asked, WantedStudent } from "../state/state.js";
import { KINDS, stepsOf } from "../state/student.js";
import { calibrationOf } from "./asked-texts.js";
import type { OpenCheckpoint } from "./open-checkpoint.js";
import { promptly } from "./promptly.js";
import { take, watching } from "./working.js";

/** Says what students can be made of the checkpoint, and what the one comes to that is wanted now. */
export async function offerStudents(opened: OpenCheckpoint, wanted: WantedStudent): Promise<void> {
  const { checkpoint, id, tell } = opened;
  const kinds = opened.state.students?.kinds ?? (await kindsOf(opened));
  const steps = stepsOf(wanted);
  if (steps.length === 0) {
    tell({ type: "studentsOffered", checkpoint: id, students: { kinds, planned: undefined, problem: undefined } });
    return;
  }
  try {
    const { pruned, bytes } = await checkpoint.plan({ version: 1, name: "student", steps });
    const params = pruned?.at(-1)?.paramsAfter ?? checkpoint.inspection.params;
    const planned = { params, bytes: bytes.after };
    tell({ type: "studentsOffered", checkpoint: id, students: { kinds, planned, problem: undefined } });
  } catch (error) {
    const problem = opened.failed(error);
    tell({ type: "studentsOffered", checkpoint: id, students: { kinds, planned: undefined, problem } });
  }
}

// What a checkpoint has no structure of cannot be planned.
async function kindsOf({ checkpoint }: OpenCheckpoint) {
  const tried = KINDS.map(async ({ kind }) => {
    const steps = stepsOf({ keeps: { [kind]: 0.5 } });
    const planned = await checkpoint.plan({ version: 1, name: "student", steps }).catch(() => undefined);
    return planned ? [kind] : [];
  });
  return (await Promise.all(tried)).flat();
}

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
      student: stepsOf(wanted),
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
