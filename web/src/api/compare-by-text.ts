// Two models whose tokens differ, measured on the same text: how far each is through it, byte by byte.

import { bitsPerByte, checkPair, type TextComparison, type TextEvaluation, tokensDiffer } from "./by-text.js";
import { checkOptions, checkText } from "./check.js";
import type { Checkpoint } from "./checkpoint.js";
import { detect, withBoth, withDetection } from "./compare.js";
import type { Environment } from "./environment.js";
import type { Model } from "./model.js";
import { withOffset } from "./offset.js";
import type { CompareByTextOptions } from "./options.js";
import { withoutMark } from "./text.js";
import type { Evaluation, Progress } from "./types/statepress.js";
import { usualWindow } from "./windows.js";

/** What `compareByText` does. */
export async function compareByText(
  environment: Environment,
  a: Checkpoint | Model,
  b: Checkpoint | Model,
  options: CompareByTextOptions,
): Promise<TextComparison> {
  checkPair("compareByText", a, b);
  checkOptions("compareByText", options);
  checkText("compareByText", options.text);
  return withBoth(a, b, options, async (base, other) => {
    const why = options.why ?? tokensDiffer(a, b) ?? "it was asked for";
    const { limit } = options;
    const given = withoutMark(options.text);
    const whole = base.tokenizer.input(given);
    const { tokens } = limit === undefined ? { tokens: 0 } : await environment.host.call("count", { input: whole });
    // Both read the same bytes to the end: a limit in tokens would stop each of them elsewhere.
    const text = limit !== undefined && tokens > limit ? beginning(given, limit / tokens) : given;
    const window = options.window ?? usualWindow([base.info, other.info]);
    const measure = async (model: Model, which: "a" | "b", offsetAsked: CompareByTextOptions["offset"]) => {
      const { offset: wanted } = withOffset(model.inspection, { offset: offsetAsked });
      const told = options.onProgress;
      const running = {
        signal: options.signal,
        onProgress: told && ((it: Progress) => told({ ...it, stage: `${it.stage} ${which}` })),
      };
      const asked = { window, offset: wanted, ...running };
      if (wanted !== "detect") return model.evaluate(text, { ...asked, workers: options.workers });
      const detected = await detect(environment, model, model.tokenizer.input(text), asked);
      const { offset } = detected;
      return withDetection(await model.evaluate(text, { ...asked, offset, workers: options.workers }), detected);
    };
    // One after the other, so that each has the machine to itself.
    const evaluationA = await measure(base, "a", options.offset);
    const evaluationB = await measure(
      other,
      "b",
      options.offsetB ?? (options.offset === "detect" ? "detect" : undefined),
    );
    return textComparison(why, text, [evaluationA, evaluationB], [base, other]);
  });
}

/** What both evaluations say together. */
function textComparison(
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

/** The first part of a text: that share of it. Characters are not cut. */
function beginning(text: string, share: number): string {
  const end = Math.floor(text.length * share);
  const inCharacter = /[\udc00-\udfff]/.test(text.charAt(end));
  return text.slice(0, inCharacter ? end - 1 : end);
}
