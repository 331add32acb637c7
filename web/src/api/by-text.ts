// Two models whose tokens are not the same: no probability of the one stands beside one of the other. What can be set
// side by side is the text that both have read, byte by byte.

import { checkNumbers, shown } from "./check.js";
import { Checkpoint } from "./checkpoint.js";
import { StatepressError } from "./errors.js";
import { vocabularyOf } from "./fit.js";
import { Model } from "./model.js";
import type { Comparison, Evaluation } from "./types/statepress.js";

/** One of the two, on the text. */
export interface TextEvaluation extends Evaluation {
  /** See `bitsPerByte`. */
  bitsPerByte: number;
  /** Bytes of text put in over wall time. */
  bytesPerSecond: number;
}

/** Two models on the same text, each in its own tokens (`compareByText`). `a` is the base. */
export interface TextComparison {
  /** Why KL divergence and top-1 agreement are not defined. */
  why: string;
  a: TextEvaluation;
  b: TextEvaluation;
  /** Sizes, as in `Comparison`. */
  bytes: Comparison["bytes"];
  /** UTF-8 bytes of the text that both have read. */
  textBytes: number;
  /** Percent; positive is worse. */
  bitsPerByteChange: number;
}

/**
 * Bits that a model needs for a byte of text, which can be compared across tokenizers as perplexity cannot: its negative
 * log-likelihoods over the text, summed, over ln 2 and over the UTF-8 bytes of the text. Tokens that nothing predicted (the
 * first of each window, a last window that is not full) count as the mean of the others, as in "The Pile" (Gao et al.
 * 2020, section 3.1); so the evaluation must be of the whole text.
 */
export function bitsPerByte(evaluation: Evaluation, textBytes: number): number {
  checkNumbers("bitsPerByte", evaluation, "nll", "windows", "window", "dropped");
  const { nll, windows, window, dropped } = evaluation;
  return (nll * (windows * window + dropped)) / Math.LN2 / textBytes;
}

/** Why the tokens of two models are not the same, in words; undefined where they are, as far as their files tell. */
export function tokensDiffer(a: Checkpoint | Model, b: Checkpoint | Model): string | undefined {
  checkPair("tokensDiffer", a, b);
  const [vocabularyA, vocabularyB] = [idsOf(a), idsOf(b)];
  if (vocabularyA !== undefined && vocabularyB !== undefined && vocabularyA !== vocabularyB) {
    return `the vocabularies differ: ${vocabularyA} and ${vocabularyB} tokens`;
  }
  // A checkpoint without a tokenizer is read with the other's, which is all that can be done.
  if (!a.tokenizer.known || !b.tokenizer.known || a.tokenizer.same(b.tokenizer)) return undefined;
  return `the tokenizers differ: ${a.tokenizer.name} of the one and ${b.tokenizer.name} of the other cut a text differently`;
}

/** Refuses what are not two checkpoints or models. */
export function checkPair(call: string, a: unknown, b: unknown): void {
  for (const it of [a, b]) {
    if (it instanceof Checkpoint || it instanceof Model) continue;
    throw new StatepressError("bad-input", `${call} takes two checkpoints or models, and one is ${shown(it)}`);
  }
}

function idsOf(it: Checkpoint | Model): number | undefined {
  return it instanceof Model ? it.info.vocabSize : vocabularyOf(it.inspection);
}
