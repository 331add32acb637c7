// What is pruned of a checkpoint: to make a student that is trained, or before a search.

import { PRUNING, type PruneKind, type StepDraft } from "statepress";
import type { Keeps } from "./state.js";

/** What a model can have less of, in the order in which it goes; by a name for people. Parts of layers go once all others are as narrow as they get. */
export const KINDS: readonly { kind: PruneKind; label: string; about: string }[] = [
  { kind: "layers", label: "layers", about: "whole layers, those without which its predictions change least" },
  {
    kind: "hidden",
    label: "residual stream",
    about: "directions of the residual stream, which every layer reads and adds to",
  },
  { kind: "inner", label: "inner channels", about: "channels inside the blocks of the state space" },
  { kind: "head", label: "heads", about: "heads of the state space" },
  { kind: "attentionHead", label: "attention heads", about: "heads of attention" },
  { kind: "width", label: "network width", about: "channels inside feed-forward networks and experts" },
  { kind: "experts", label: "experts", about: "whole experts" },
  { kind: "state", label: "states", about: "states of every channel" },
  {
    kind: "sublayers",
    label: "parts of layers",
    about: "mixers and feed-forward networks, those without which its predictions change least",
  },
  {
    kind: "vocabulary",
    label: "token table",
    about: "rows of the token table and of the head: those of tokens that the text has most often stay",
  },
];

/** What a student can have less of: a model that has rows for some tokens only cannot be trained. */
export function ofStudents(kinds: readonly PruneKind[]): PruneKind[] {
  return kinds.filter((kind) => kind !== "vocabulary");
}

/** The steps that leave so much: what goes is what is missed least, and the rest is fitted to do without it where it can be. */
export function stepsOf(keeps: Keeps): StepDraft[] {
  return KINDS.flatMap(({ kind }) => {
    const keep = keeps[kind];
    if (keep === undefined || keep >= 1) return [];
    const { by, repair } = PRUNING[kind];
    return [{ prune: { kind, keep, by, repair } }];
  });
}

/** What stays of kinds that there are; others may have been asked for of another checkpoint. */
export function keptOf(keeps: Keeps, kinds: readonly PruneKind[] = []): Keeps {
  return Object.fromEntries(kinds.flatMap((kind) => (keeps[kind] === undefined ? [] : [[kind, keeps[kind]]])));
}

/** The steps before a search: those of the step size, of which few rows do, where there are any, and whatever else goes. */
export function stepsFirst(ofStepSize: readonly StepDraft[], keeps: Keeps): StepDraft[] {
  return [...ofStepSize, ...stepsOf(keeps)];
}

/** What steps prune, as the command line has it: `delta=4,inner=0.75`; nothing where none does. */
export function pruneOption(steps: readonly StepDraft[]): string {
  return steps.flatMap((step) => ("prune" in step ? [`${step.prune.kind}=${step.prune.keep}`] : [])).join(",");
}
