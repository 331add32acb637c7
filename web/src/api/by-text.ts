// Two models whose tokens are not the same: no probability of the one stands beside one of the other. What can be set
// side by side is the text that both have read, byte by byte.

import type { ModelInfo } from "../worker/wasm.js";
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

/** What both evaluations say together. */
export function textComparison(
  why: string,
  text: string,
  [evaluationA, evaluationB]: [Evaluation, Evaluation],
  [modelA, modelB]: [Model, Model],
): TextComparison {
  const textBytes = new TextEncoder().encode(text).length;
  const [a, b] = [onText(evaluationA, textBytes), onText(evaluationB, textBytes)];
  return {
    why,
    a,
    b,
    bytes: {
      a: modelA.info.bytes,
      b: modelB.info.bytes,
      ratio: modelA.info.bytes / Math.max(modelB.info.bytes, 1),
      fileA: modelA.info.fileBytes,
      fileB: modelB.info.fileBytes,
    },
    textBytes,
    bitsPerByteChange: 100 * (b.bitsPerByte / a.bitsPerByte - 1),
  };
}

function onText(evaluation: Evaluation, textBytes: number): TextEvaluation {
  const { windows, window, dropped, tokensPerSecond } = evaluation;
  return {
    ...evaluation,
    bitsPerByte: bitsPerByte(evaluation, textBytes),
    bytesPerSecond: (tokensPerSecond * textBytes) / (windows * window + dropped),
  };
}

/** The window of models that set no limit to a sequence. */
const UNLIMITED_WINDOW = 256;

/** The widest window that is taken unasked: what perplexities of models with long contexts are usually quoted for. */
const LARGEST_WINDOW = 2048;

/**
 * The window, in tokens, that both models are read in where none is asked for: the shorter of their longest sequences, as
 * the comparison token by token takes it.
 */
export function usualWindow(...models: Pick<ModelInfo, "maxTokens">[]): number {
  const most = Math.min(...models.map(({ maxTokens }) => maxTokens ?? Number.POSITIVE_INFINITY));
  return most === Number.POSITIVE_INFINITY ? UNLIMITED_WINDOW : Math.min(most, LARGEST_WINDOW);
}

/** The first part of a text: that share of it. Characters are not cut. */
export function beginning(text: string, share: number): string {
  const end = Math.floor(text.length * share);
  const inCharacter = /[\udc00-\udfff]/.test(text.charAt(end));
  return text.slice(0, inCharacter ? end - 1 : end);
}
