// The student that is made of a checkpoint before it is trained.

import { PRUNING, type PruneKind, type StepDraft } from "statepress";
import type { WantedStudent } from "./state.js";

/** What a student can have less of, the most telling first; by a name for people. */
export const KINDS: readonly { kind: PruneKind; label: string; about: string }[] = [
  { kind: "layers", label: "layers", about: "whole layers, those without which its predictions change least" },
  {
    kind: "sublayers",
    label: "parts of layers",
    about: "mixers and feed-forward networks, those without which its predictions change least",
  },
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
];

/** The steps that make the student: what goes is what is missed least, and the rest is fitted to do without it where it can be. */
export function stepsOf({ keeps }: Pick<WantedStudent, "keeps">): StepDraft[] {
  return KINDS.flatMap(({ kind }) => {
    const keep = keeps[kind];
    if (keep === undefined || keep >= 1) return [];
    const { by, repair } = PRUNING[kind];
    return [{ prune: { kind, keep, by, repair } }];
  });
}
