// The verdict of a comparison in words: what was wanted, and what came out.

import type { Comparison } from "statepress";
import { ratio, signedPercent, smaller } from "../../parts/format.js";

/** A verdict, for people. */
export interface VerdictWords {
  title: string;
  reason: string;
}

const TITLES: Record<Comparison["verdict"]["result"], string> = {
  success: "Success",
  partial: "Partial",
  failure: "Failure",
};

/** The verdict of a comparison. */
export function verdictWords({ verdict: { result, compression, degradation } }: Comparison): VerdictWords {
  const size = `${smaller(compression.value)} (success needs ${ratio(compression.limit)})`;
  const loss = `perplexity ${signedPercent(degradation.value, 3)} (success allows ${signedPercent(degradation.limit, 0)})`;
  return { title: TITLES[result], reason: `${size}, ${loss}` };
}
