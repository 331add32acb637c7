// The report as JSON: what `compress` and `compare` print, and what they were about.

import { calibrationFileOf } from "../state/commands.js";
import type { Opened, Run, Source } from "../state/state.js";

/** The report of a run. */
export function reportJson(checkpoint: Opened, run: Run): string {
  const { given, offsets } = checkpoint;
  return JSON.stringify(
    {
      checkpoint: { ...about(checkpoint), given },
      ...(run.other ? { other: about(run.other) } : { compress: run.report }),
      compare: run.comparison ?? run.byText ?? null,
      calibration: calibrationFileOf(run) ?? null,
      text: run.textName ?? null,
      secondText: run.secondName ?? null,
      protocol: { limit: run.asked.limit ?? null, backend: run.asked.backend, backendB: run.asked.backendB },
      offsets: offsets ? { text: offsets.textName, nllByOffset: offsets.evaluation.nllByOffset ?? null } : null,
    },
    null,
    2,
  );
}

// Without its tensors, which are in the file.
function about({ name, inspection }: Source): object {
  const { tensors: _, ...rest } = inspection;
  return { name, ...rest };
}
