// What two models said, as it is shown.

import { firstDifference } from "./difference.js";
import type { Side, Trial } from "./state.js";

/** The first token, from 0, in which the two differ; undefined while they agree. */
export function partingOf({ sides: [a, b], busy, problem }: Trial): number | undefined {
  return firstDifference(a.tokens, b.tokens, !busy && !problem);
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

/** One place of both continuations. */
export interface Place {
  at: number;
  original: Spoken | undefined;
  compressed: Spoken | undefined;
}

/** Both continuations, place by place. */
export function places({ sides: [a, b] }: Trial): Place[] {
  const [original, compressed] = [spoken(a.tokens), spoken(b.tokens)];
  const longer = original.length > compressed.length ? original : compressed;
  return longer.map((_, at) => ({ at, original: original[at], compressed: compressed[at] }));
}
