// The report as JSON: what `compress` and `compare` print, and what they were about.

import type { Opened, Run } from "../state/state.js";

/** The report of a run. */
export function reportJson(checkpoint: Opened, run: Run): string {
  const { name, inspection, given, offsets } = checkpoint;
  const { tensors: _, ...about } = inspection;
  return JSON.stringify(
    {
      checkpoint: { name, ...about, given },
      compress: run.report,
      compare: run.comparison ?? null,
      text: run.textName ?? null,
      protocol: { limit: run.asked.limit ?? null, backend: run.asked.backend, backendB: run.asked.backendB },
      offsets: offsets ? { text: offsets.textName, nllByOffset: offsets.evaluation.nllByOffset ?? null } : null,
    },
    null,
    2,
  );
}
