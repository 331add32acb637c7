// Training a student that is made of the checkpoint, and measuring it like whatever else was made of it.

import { distill } from "statepress";
import { objectionToTraining, withTextsApart } from "../state/calibration.js";
import { stepsOf } from "../state/pruning.js";
import type { Asked, LeftTraining, WantedStudent } from "../state/state.js";
import { calibrationOf } from "./asked-texts.js";
import { forgetTraining, keepTraining, keptSnapshot, leftTraining } from "./kept-training.js";
import type { OpenCheckpoint } from "./open-checkpoint.js";
import { promptly } from "./promptly.js";
import { take, watching } from "./working.js";

/** How a training ends before its time, and gives something all the same. */
export class Ending {
  readonly #enough = new AbortController();
  readonly #pause = new AbortController();
  readonly enough = this.#enough.signal;
  readonly pause = this.#pause.signal;

  /** The student is what was best so far. */
  withTheBest(): void {
    this.#enough.abort();
  }

  /** It goes on another time. */
  forNow(): void {
    this.#pause.abort();
  }
}

/** Trains a student, or goes on with the one that was left, and compares it with the original. */
export async function train(
  opened: OpenCheckpoint,
  run: number,
  given: Asked,
  from: { wanted: WantedStudent } | { left: LeftTraining },
  { enough, pause }: Ending,
): Promise<void> {
  const { checkpoint, tell } = opened;
  const signal = opened.begin("work");
  const wanted = "left" in from ? from.left.wanted : from.wanted;
  let isTrained = false;
  let keeping: Promise<void> = Promise.resolve();
  let [step, perplexity] = [0, 0];
  try {
    tell({ type: "training", run, now: performance.now(), wanted });
    tell({ type: "trainingLeft", left: undefined });
    const { keeps, init, minutes, alpha } = wanted;
    const training = distill(checkpoint, {
      ...("left" in from
        ? { resume: await promptly(signal, keptSnapshot()) }
        : {
            student: stepsOf(keeps),
            text: await promptly(signal, calibrationOf(opened, withTextsApart(given), objectionToTraining)),
            ...{ init, minutes, alpha },
          }),
      ...{ signal, enough, pause },
      onProgress: watching(opened, run, signal),
      onPoint: (point) => {
        ({ step, perplexity } = point);
        tell({ type: "trainedUntil", run, point });
      },
      onSnapshot: (snapshot) => {
        const left = { of: identity(opened), wanted, step, perplexity };
        const keep = async () => tell({ type: "trainingKept", run, kept: await keepTraining(left, snapshot) });
        keeping = keeping.then(keep);
      },
    });
    const student = await promptly(signal, training, (late) => late.dispose());
    const recipe = student.report?.recipe;
    if (!recipe) throw new Error("training without a report");
    isTrained = true;
    await keeping;
    await forgetTraining();
    await take(opened, run, student, { asked: withTextsApart({ ...given, recipe }), wanted: undefined }, signal);
  } catch (error) {
    await keeping;
    const failed = opened.failed(error);
    const isPaused = failed.code === "aborted" && pause.aborted && !signal.aborted;
    const problem = isPaused
      ? { ...failed, message: "Paused: it goes on from here, also after this page was closed." }
      : failed;
    tell(isTrained ? { type: "workFailed", run, problem } : { type: "trainingFailed", problem });
    tell({ type: "trainingLeft", left: leftTraining(identity(opened)) });
  }
}

/** Looks for a training of the checkpoint that was left. */
export function findTraining(opened: OpenCheckpoint): void {
  opened.tell({ type: "trainingLeft", left: leftTraining(identity(opened)) });
}

/** Forgets the training that was left. */
export async function dropTraining(opened: OpenCheckpoint): Promise<void> {
  await forgetTraining();
  opened.tell({ type: "trainingLeft", left: undefined });
}

/** What tells a checkpoint from another one; a snapshot of another one would be refused, too. */
function identity({ checkpoint: { inspection }, state: { checkpoint } }: OpenCheckpoint): LeftTraining["of"] {
  return { name: checkpoint?.weights ?? "", bytes: inspection.fileBytes };
}
