// How it is said where two continuations part.

import type { Token } from "statepress";
import { percent } from "../parts/format.js";
import { firstDifference } from "../state/difference.js";

/** One sentence about it. */
export function difference(original: readonly Token[], compressed: readonly Token[]): string {
  const at = firstDifference(original, compressed);
  if (at === undefined) return `Both say the same, all ${original.length} tokens of it.`;
  const before = at === 0 ? "They part at the first token" : `The same for ${at} ${at === 1 ? "token" : "tokens"}`;
  return `${before}: then the original ${says(original[at])}, the compressed one ${says(compressed[at])}.`;
}

/** The probability of a token as its tooltip. */
export function likelihood(token: Token): string {
  return `${percent(token.probability, 1)} likely`;
}

function says(token: Token | undefined): string {
  if (!token) return "ends";
  return `says ${visible(token.text)} (${likelihood(token)})`;
}

function visible(text: string): string {
  if (text === "") return "part of a character";
  if (text.trim() !== "") return `“${text.trim()}”`;
  return text.includes("\n") ? "a line break" : "a space";
}
