// What the files of a checkpoint are, by their names.

import { StatepressError } from "./errors.js";
import type { Finding } from "./types/statepress.js";

const WEIGHTS = /\.(pt|pth|bin|ckpt|safetensors|gguf)$|\.index\.json$/i;

/** Whether a file of that name holds weights, or says where they are. */
function isWeightsName(name: string): boolean {
  return WEIGHTS.test(name);
}

/** Whether a file of that name is the index of a sharded checkpoint. */
export function isIndexName(name: string): boolean {
  return name.endsWith(".index.json");
}

/** The file that says how a `vocab.json` is used. */
export const TOKENIZER_CONFIG = "tokenizer_config.json";

const SENTENCEPIECE_NAME = /^(tokenizer|spiece|sentencepiece\.bpe)\.model$/;

/** Whether a file of this name is a whole tokenizer by convention. */
export function isWholeTokenizerName(name: string): boolean {
  return name === "tokenizer.json" || (/^tokenizer[-_].*\.json$/.test(name) && name !== TOKENIZER_CONFIG);
}

/** Whether a file of this name is a tokenizer by convention, or one of the two that are one together. */
export function isTokenizerName(name: string): boolean {
  return isWholeTokenizerName(name) || isVocabName(name) || SENTENCEPIECE_NAME.test(name);
}

/** Whether a file of this name is one of the two that are a tokenizer together. */
export function isVocabName(name: string): boolean {
  return name === "vocab.json" || name === "merges.txt";
}

/** Whether one of two tokenizer files takes the place of the other: the two of a pair do not. */
export function replacesTokenizer(name: string, other: string): boolean {
  return isTokenizerName(name) && isTokenizerName(other) && !(isVocabName(name) && isVocabName(other));
}

/**
 * Which of some files that belong together are the weights.
 *
 * @throws StatepressError `bad-input` with the names of the candidates, when there is none or one cannot be told.
 */
export function weightsAmong<T extends { readonly name: string }>(files: readonly T[]): T {
  const [only] = files;
  // A single file is the weights whatever its name: its content decides.
  if (files.length === 1 && only && !isTokenizerName(only.name)) return only;
  const candidates = files.filter((file) => isWeightsName(file.name));
  // A folder of shards has one index that stands for them all, and for the reason why it cannot be opened.
  const index = candidates.filter((file) => isIndexName(file.name));
  if (index.length === 1 && index[0]) return index[0];
  const usual = candidates.filter((file) => file.name === "model.safetensors");
  const chosen = candidates.length === 1 ? candidates[0] : usual.length === 1 ? usual[0] : undefined;
  if (chosen) return chosen;
  const names = candidates.map((file) => file.name);
  const message =
    names.length === 0
      ? `no weights among ${files.length} files: expected a .pt, .pth, .bin or .safetensors file`
      : `several files could be the weights, name one: ${names.join(", ")}`;
  throw new StatepressError("bad-input", message, { files: names });
}

/** What is to be said of the weights among some files that were not taken: nothing, where there are no others. */
export function weightsLeft(files: readonly { readonly name: string }[], taken: { readonly name: string }): Finding[] {
  const left = files.filter(({ name }) => name !== taken.name && isWeightsName(name)).map(({ name }) => name);
  if (left.length === 0) return [];
  const message = `${taken.name} was taken for the weights, not ${left.join(", ")}`;
  return [{ level: "info", code: "several-weights", message }];
}
