// What can be pruned of the checkpoint, for a student or before a search, and what that leaves: arithmetic on the headers.

import type { StepDraft } from "statepress";
import { KINDS, stepsOf } from "../state/pruning.js";
import type { Pruning } from "../state/state.js";
import type { OpenCheckpoint } from "./open-checkpoint.js";

/** Says what structure the checkpoint has, and what is left of it by the steps that are wanted now. */
export async function planPruning(opened: OpenCheckpoint, of: "students" | "first", steps: StepDraft[]): Promise<void> {
  const { checkpoint, id, tell, state } = opened;
  const kinds = (state.students ?? state.first)?.kinds ?? (await kindsOf(opened));
  const told = (rest: Partial<Pruning>) => {
    tell({
      type: "pruningPlanned",
      checkpoint: id,
      of,
      pruning: { kinds, planned: undefined, problem: undefined, ...rest },
    });
  };
  if (steps.length === 0) return told({});
  try {
    const { pruned, bytes } = await checkpoint.plan({ version: 1, name: "pruned", steps });
    const params = pruned?.at(-1)?.paramsAfter ?? checkpoint.inspection.params;
    told({ planned: { params, bytes: bytes.after } });
  } catch (error) {
    told({ problem: opened.failed(error) });
  }
}

// What a checkpoint has no structure of cannot be planned.
async function kindsOf({ checkpoint }: OpenCheckpoint) {
  const tried = KINDS.map(async ({ kind }) => {
    const steps = stepsOf({ [kind]: 0.5 });
    const planned = await checkpoint.plan({ version: 1, name: "pruned", steps }).catch(() => undefined);
    return planned ? [kind] : [];
  });
  return (await Promise.all(tried)).flat();
}
