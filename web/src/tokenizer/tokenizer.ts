// Text to token ids and back. Models speak ids only; this is the one place that knows text.
//
// Three file layouts: `tokenizer.json` of Hugging Face, and the two of Itera-Lite (a flat table of words or
// characters). Encoding adds no special tokens.

import { StatepressError } from "../api/errors.js";
import { isRecord } from "../api/record.js";
import { huggingFaceTokenizer } from "./huggingface.js";
import { tableTokenizer } from "./table.js";

/** Text to token ids and back. */
export interface Tokenizer {
  /** The name of the file it was read from. */
  readonly name: string;
  /** One more than the largest id that stands for text; models may have more rows than this. */
  readonly size: number;
  /** The id that every unknown word or character becomes, where the layout has one. */
  readonly unknown?: number;
  /** The ids of a text; no special tokens are added. */
  encode(text: string): Uint32Array;
  /** The text of ids. */
  decode(ids: Iterable<number>): string;
}

/** A tokenizer from the text of its JSON file. */
export function readTokenizer(name: string, json: string): Tokenizer {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (error) {
    throw new StatepressError("bad-tokenizer", `${name} is not JSON: ${(error as Error).message}`, { file: name });
  }
  if (isRecord(value)) {
    if ("token2id" in value || "token_to_id" in value) return tableTokenizer(name, value);
    if ("model" in value) return huggingFaceTokenizer(name, value);
  }
  throw new StatepressError(
    "bad-tokenizer",
    `${name} is no tokenizer: neither "model" (tokenizer.json) nor "token2id" or "token_to_id" (Itera-Lite) is in it`,
    { file: name },
  );
}
