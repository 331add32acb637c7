// Whether two files are one tokenizer: asked before two models are measured on the same tokens.

import { isRecord } from "../api/record.js";
import { type Beside, fromVocab } from "./pair.js";

/** The texts of a tokenizer's files. */
interface Texts extends Beside {
  json: string;
}

/**
 * Whether what makes tokens is the same in both. With `byTokens` only the tokens and their ids are looked at: weights that hold
 * their vocabulary say no more of it that could be compared.
 */
export function isSame(a: Texts, b: Texts, byTokens: boolean): boolean {
  const of = byTokens ? tokens : makings;
  return of(a) === of(b);
}

/** Of a `tokenizer.json` what says how a text is cut; how batches are padded does not. */
const MAKINGS = ["normalizer", "pre_tokenizer", "model", "decoder", "added_tokens"];

// Files of one tokenizer differ by white space and padding. What cannot be read is itself.
function makings(texts: Texts): string {
  const made = parsed(texts);
  if (!made) return JSON.stringify([texts.json, texts.merges, texts.config]);
  return JSON.stringify("model" in made ? MAKINGS.map((name) => made[name] ?? null) : made);
}

// By their ids: added tokens are among the others in one file, and apart in another.
function tokens(texts: Texts): string {
  const { model, added_tokens: added } = parsed(texts) ?? {};
  if (!isRecord(model) || !isRecord(model["vocab"])) return makings(texts);
  const ids = new Map(Object.entries(model["vocab"]));
  for (const it of Array.isArray(added) ? added : []) {
    if (isRecord(it) && !ids.has(`${it["content"]}`)) ids.set(`${it["content"]}`, it["id"]);
  }
  return JSON.stringify([...ids].sort(([, a], [, b]) => Number(a) - Number(b)));
}

function parsed({ json, ...beside }: Texts): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(json);
    if (isRecord(value)) return beside.merges === undefined ? value : fromVocab(value, beside);
  } catch {
    // Whoever reads it says why.
  }
  return undefined;
}
