// Whether a tokenizer is one of the model beside it: asked when a checkpoint is opened, before anybody trusts a number.

import type { Host } from "../worker/protocol.js";
import { StatepressError } from "./errors.js";
import type { TokenizerChoice } from "./tokenizers.js";
import type { Finding, Inspection } from "./types/statepress.js";

/** Models have rows for a few tokens more than there are, so that sizes are round: up to this share of them is usual. */
const SPARE = 0.1;

/** From this share on, the tokenizer is another model's. */
const TOO_MANY = 0.5;

/** What is to be said of a tokenizer for a model of that vocabulary. One that cannot be read keeps nothing from opening. */
export async function fit(host: Host, choice: TokenizerChoice, inspection: Inspection): Promise<Finding[]> {
  const warning = (code: string, message: string): Finding => ({ level: "warning", code, message });
  let read: { size: number; unknown?: number } | undefined;
  try {
    read = choice.file ? await host.call("tokenizer", { tokenizer: choice.file }) : choice.made;
  } catch (error) {
    if (!(error instanceof StatepressError && error.code === "bad-tokenizer")) throw error;
    const message = `${error.message}; until another is given, the model takes ids and no text`;
    return [warning("tokenizer-unusable", message)];
  }
  const ids = vocabularyOf(inspection);
  if (!read || ids === undefined || ids <= 0) return [];
  const { size, unknown } = read;
  const name = choice.name ?? "the tokenizer";
  if (size > ids) {
    const message = `${name} has ids up to ${size - 1}, and the model has ${ids} tokens: is it the model's tokenizer?`;
    return [warning("tokenizer-larger", message)];
  }
  const spare = (ids - size) / ids;
  if (spare <= SPARE) return [];
  const message = `${name} has ${size} tokens, and the model ${ids}`;
  // Tables of words are as long as their text had words, whatever the model has room for.
  const usual = unknown !== undefined || spare < TOO_MANY;
  if (usual) return [{ level: "info", code: "tokenizer-smaller", message: `${message}: the others stand for no text` }];
  return [warning("tokenizer-smaller", `${message}: is it the model's tokenizer?`)];
}

/** How many token ids a model takes, also where pruning has left rows for some of them only; undefined where no field says so. */
export function vocabularyOf({ spec }: Pick<Inspection, "spec">): number | undefined {
  const value = (spec["original_vocab_size"] ?? spec["vocab_size"])?.value;
  return typeof value === "number" ? value : undefined;
}
