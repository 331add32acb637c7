// What two models said, compared.

import type { Side, Trial } from "./state.js";

/** The first token, from 0, in which the two differ; undefined while they agree. */
export function firstDifference({ sides: [a, b] }: Trial): number | undefined {
  const both = Math.min(a.tokens.length, b.tokens.length);
  for (let at = 0; at < both; at++) if (a.tokens[at]?.id !== b.tokens[at]?.id) return at;
  return undefined;
}

/** A token as it is shown. */
export interface Spoken {
  at: number;
  text: string;
  probability: number;
}

/** Tokens with a key for each. */
export function spoken(tokens: Side["tokens"]): Spoken[] {
  return tokens.map(({ text, probability }, at) => ({ at, text, probability }));
}
