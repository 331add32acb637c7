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
  partial: "Partly successful",
  failure: "Not successful",
};

/** The verdict of a comparison. */
export function verdictWords({ verdict, bytes, perplexityChange }: Comparison): VerdictWords {
  const { result, ratioTarget, lossTarget } = verdict;
  const size = `${smaller(bytes.ratio)} (success needs ${ratio(ratioTarget)})`;
  const loss = `perplexity ${signedPercent(perplexityChange, 3)} (success allows ${signedPercent(lossTarget, 0)})`;
  return { title: TITLES[result], reason: `${size}, ${loss}` };
}
