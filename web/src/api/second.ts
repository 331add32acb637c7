// The same comparison on a second text. A recipe may lean on texts like the one that it was calibrated with: one of
// another kind shows what that costs elsewhere.

import type { Input } from "../worker/protocol.js";
import { shown } from "./check.js";
import { StatepressError } from "./errors.js";
import type { SecondText } from "./options.js";
import { isRecord } from "./record.js";
import type { TokenizerChoice } from "./tokenizers.js";
import type { Comparison, Finding } from "./types/statepress.js";

/** The quality card as numbers: two models on the same tokens and, where one was given, on a second text. */
export interface Compared extends Comparison {
  second?: SecondComparison;
}

/** What two models make of a second text: the same measures, by the same protocol. */
export interface SecondComparison
  extends Pick<Comparison, "kl" | "top1Agreement" | "perplexityChange" | "perplexityChangeStderr"> {
  /** Tokens predicted. */
  tokens: number;
  /** What is to be known of measuring on it, as that it holds what the model was calibrated with. */
  findings: Finding[];
}

/** What was measured of a second text. */
export function secondOf(measured: Comparison): SecondComparison {
  const { a, b, kl, top1Agreement, perplexityChange, perplexityChangeStderr } = measured;
  const all = [...a.findings, ...b.findings].map((it) => ({ ...it, message: `second text: ${it.message}` }));
  const findings = [...new Map(all.map((it) => [`${it.code} ${it.message}`, it])).values()];
  return { tokens: b.tokens, kl, top1Agreement, perplexityChange, perplexityChangeStderr, findings };
}

/** What is read of a second text; refused where that is what is read of the first one. */
export function secondInput(tokenizer: TokenizerChoice, second: SecondText, first: Input, limit?: number): Input {
  const { text, ids } = second;
  const given = text ?? ids;
  if (given === undefined || (text !== undefined && ids !== undefined)) {
    throw new StatepressError("bad-option", `option second is ${fieldsOf(second)}; allowed: one of text and ids`, {
      option: "second",
      allowed: "one of text and ids",
    });
  }
  const input = tokenizer.input(given);
  if (isSame(first, input, limit)) {
    const message = "option second is the text that is compared on already; allowed: another one, best of another kind";
    throw new StatepressError("bad-option", message, { option: "second", allowed: "another text" });
  }
  return input;
}

function fieldsOf(second: unknown): string {
  return isRecord(second) ? `an object with ${Object.keys(second).join(" and ") || "nothing"}` : shown(second);
}

// Of texts the characters are compared, of ids those that are read.
function isSame(first: Input, second: Input, limit = Number.POSITIVE_INFINITY): boolean {
  if ("text" in first && "text" in second) return first.text === second.text;
  if (!("ids" in first && "ids" in second)) return false;
  const [a, b] = [first.ids.subarray(0, limit), second.ids.subarray(0, limit)];
  return a.length === b.length && a.every((id, at) => id === b[at]);
}
