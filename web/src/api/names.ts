// What the files of a checkpoint are, by their names.

import { strangerByName } from "../tokenizer/strangers.js";

/** The file that says how a `vocab.json` is used. */
export const TOKENIZER_CONFIG = "tokenizer_config.json";

/** Whether a file of this name is a whole tokenizer by convention. */
export function isWholeTokenizerName(name: string): boolean {
  return name === "tokenizer.json" || (/^tokenizer[-_].*\.json$/.test(name) && name !== TOKENIZER_CONFIG);
}

/** Whether a file of this name is a tokenizer by convention, or one of the two that are one together. */
export function isTokenizerName(name: string): boolean {
  return isWholeTokenizerName(name) || isVocabName(name) || strangerByName(name) !== undefined;
}

/** Whether a file of this name is one of the two that are a tokenizer together. */
export function isVocabName(name: string): boolean {
  return name === "vocab.json" || name === "merges.txt";
}

/** Whether one of two tokenizer files takes the place of the other: the two of a pair do not. */
export function replacesTokenizer(name: string, other: string): boolean {
  return isTokenizerName(name) && isTokenizerName(other) && !(isVocabName(name) && isVocabName(other));
}
