// Training a student that is made of the checkpoint, and measuring it like whatever else was made of it.

import { distill, StatepressError } from "statepress";
import { objectionToTraining, withTextsApart } from "../state/calibration.js";
import { stepsOf } from "../state/pruning.js";
import type { Asked, LeftTraining, WantedStudent } from "../state/state.js";
import { calibrationOf } from "./asked-texts.js";
import { forgetTraining, keepTraining, keptSnapshot, leftTraining } from "./kept-training.js";
import type { OpenCheckpoint } from "./open-checkpoint.js";
import { promptly } from "./promptly.js";
import { take, watching } from "./working.js";

/** Tokens that a student says at every look: a line or two. */
const SAMPLE = 24;

/**
 * Trains a student, or goes on with the one that was left, and compares it with the original. `enough` ends it with what was best so
 * far, `pause` until another time.
 */
export async function train(
  opened: OpenCheckpoint,
  run: number,
  given: Asked,
  from: { wanted: WantedStudent } | { left: LeftTraining },
  [enough, pause]: [enough: AbortSignal, pause: AbortSignal],
): Promise<void> {
  const { checkpoint, tell } = opened;
  const of = identity(opened);
  const signal = opened.begin("work");
  const wanted = "left" in from ? from.left.wanted : from.wanted;
  let isTrained = false;
  let keeping = Promise.resolve(false);
  let [step, perplexity] = [0, 0];
  try {
    tell({ type: "training", run, now: performance.now(), wanted });
    tell({ type: "trainingLeft", left: undefined });
    const { keeps, init, minutes, alpha, backend } = wanted;
    const training = distill(checkpoint, {
      ...("left" in from
        ? { resume: await promptly(signal, snapshotOf(of)) }
        : {
            student: stepsOf(keeps),
            text: await promptly(signal, calibrationOf(opened, withTextsApart(given), objectionToTraining)),
            ...{ init, minutes, alpha },
          }),
      ...{ backend, signal, enough, pause, sample: SAMPLE },
      onProgress: watching(opened, run, signal),
      onPoint: (point) => {
        ({ step, perplexity } = point);
        tell({ type: "trainedUntil", run, point });
      },
      onSnapshot: (snapshot) => {
        // One that was left before gives way to what has learned something, and nothing comes after the end.
        if (signal.aborted || (step === 0 && !pause.aborted)) return;
        const left = { of, wanted, step, perplexity };
        keeping = keeping.then(async () => {
          const kept = await keepTraining(left, snapshot);
          tell({ type: "trainingKept", run, kept });
          return kept;
        });
      },
    });
    const student = await promptly(signal, training, (late) => late.dispose());
    const recipe = student.report?.recipe;
    if (!recipe) throw new Error("training without a report");
    isTrained = true;
    await take(opened, run, student, { asked: withTextsApart({ ...given, recipe }), wanted: undefined }, signal);
    await keeping;
    await forgetTraining(of);
  } catch (error) {
    const kept = await keeping;
    const failed = opened.failed(error);
    const isPaused = failed.code === "aborted" && pause.aborted && !signal.aborted;
    const problem = isPaused ? { ...failed, message: kept ? PAUSED : NOT_KEPT } : failed;
    tell(isTrained ? { type: "workFailed", run, problem } : { type: "trainingFailed", problem });
    tell({ type: "trainingLeft", left: leftTraining(of) });
  }
}

const PAUSED = "Paused: it goes on from here, also after this page was closed.";
const NOT_KEPT = "Stopped, but this browser could not keep where it was: its storage is full, or closed to pages.";

async function snapshotOf(of: LeftTraining["of"]): Promise<Uint8Array<ArrayBuffer>> {
  const snapshot = await keptSnapshot(of);
  if (snapshot) return snapshot;
  await forgetTraining(of);
  throw new StatepressError("io", "the training that was left is no longer there: the browser has thrown it away");
}

/** Looks for a training of the checkpoint that was left. */
export function findTraining(opened: OpenCheckpoint): void {
  opened.tell({ type: "trainingLeft", left: leftTraining(identity(opened)) });
}

/** Forgets the training that was left. */
export async function dropTraining(opened: OpenCheckpoint): Promise<void> {
  await forgetTraining(identity(opened));
  opened.tell({ type: "trainingLeft", left: undefined });
}

/** What tells a checkpoint from another one; a snapshot of another one would be refused, too. */
function identity({ checkpoint: { inspection }, state: { checkpoint } }: OpenCheckpoint): LeftTraining["of"] {
  return { name: checkpoint?.weights ?? "", bytes: inspection.fileBytes };
}
