// What is going on, and how long it will take, in words.

import { count, duration } from "../parts/format.js";
import type { Work } from "../state/state.js";

/** Seconds left of the running stage at its pace so far; undefined before there is a pace to speak of. */
export function remaining({ progress, since, now }: Work): number | undefined {
  if (!progress || progress.done <= 0 || progress.done >= progress.total || now - since < 300) return undefined;
  return ((now - since) / 1000 / progress.done) * (progress.total - progress.done);
}

/** Stages of work for people, by what the package calls them. */
const STAGES: Record<string, string> = {
  prepare: "Starting the GPU",
  check: "Checking the GPU against the CPU",
  search: "Measuring what each tensor costs",
  measure: "Measuring what each recipe costs",
  train: "Training",
  validate: "Training: a look at the held-out text",
  prune: "Removing structure",
  compress: "Compressing",
  load: "Loading the models",
  calibrate: "Reading the calibration text",
  gradients: "Taking gradients over the calibration text",
  evaluate: "Measuring",
  "evaluate a": "Measuring the first model",
  "evaluate b": "Measuring the second model",
  compare: "Running both models over the text",
  "compare second": "Running both models over the second text",
};

/** What is being done. */
export function stageOf({ doing, progress }: Work): string {
  if (!progress) return doing === "compare" ? "Loading the models" : "Starting";
  const { stage, done, total, unit, item } = progress;
  const name = doing !== "compare" && stage === "load" ? "Loading the model" : (STAGES[stage] ?? stage);
  // A step that cannot be divided has no amount to be told of.
  if (total <= 1) return name;
  return `${name}: ${count(done)} of ${count(total)} ${unit}${item ? `, ${item}` : ""}`;
}

/** Whether nobody can say how far it is: it has only begun, or ends with something that is not counted. */
export function unknown({ progress }: Work): boolean {
  return progress === undefined || progress.done <= 0 || progress.done >= progress.total;
}

/** Seconds after which silence is told of. */
const PATIENCE = 5;

/** What stands at the end of the progress line at a time: what is left, or how long nothing was heard. */
export function waiting(work: Work, time: number): string {
  const silent = (time - work.now) / 1000;
  if (silent >= PATIENCE) return `${duration(silent)} in this step so far`.replace("about ", "");
  const left = remaining(work);
  return left === undefined ? "" : `${duration(left)} left`;
}
