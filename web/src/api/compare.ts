// The quality card: two models on the same tokens, by one host, or by workers that share the windows.

import type { Input as Tokens } from "../worker/protocol.js";
import { checkPair } from "./by-text.js";
import { checkOptions } from "./check.js";
import type { Checkpoint } from "./checkpoint.js";
import type { Environment } from "./environment.js";
import { StatepressError } from "./errors.js";
import { Model } from "./model.js";
import { withOffset } from "./offset.js";
import {
  type CompareByTextOptions,
  type CompareOptions,
  type EvaluationProtocol,
  present,
  type Running,
} from "./options.js";
import type { Compared } from "./second.js";
import type { Comparison, Evaluation, Finding, Progress } from "./types/statepress.js";
import { Workers } from "./workers.js";

/** What `compare` does; by workers that are there for other things as well, where they are given. */
export async function compareBy(
  environment: Environment,
  a: Checkpoint | Model,
  b: Checkpoint | Model,
  given: CompareOptions,
  lent?: Workers,
): Promise<Compared> {
  checkPair("compare", a, b);
  checkOptions("compare", given);
  const options = withOffset(a.inspection, given);
  const input = options.text ?? options.ids;
  if (input === undefined) throw new StatepressError("bad-option", "compare needs a text or ids", { option: "text" });
  // The base's tokenizer, unless only the other one has any.
  const { tokenizer } = a.tokenizer.known ? a : b;
  const tokens = tokenizer.input(input);
  // Few compare on a second text: the others do without its code.
  const onSecond = options.second && (await import("./second.js"));
  const second = onSecond && options.second && onSecond.secondInput(tokenizer, options.second, tokens, options.limit);
  const workers = lent ?? new Workers(environment, a.inspection.params + b.inspection.params, options.workers);
  try {
    return await withBoth(a, b, options, async (base, other) => {
      const detected = options.offset === "detect" ? await detect(environment, base, tokens, options) : undefined;
      const offset = detected ? detected.offset : options.offset;
      // The base's offset is that of both: a model that predicts the next token cannot follow another.
      withOffset(b.inspection, { offset: offset ?? base.info.offset });
      const asked = present({ ...options, offset }, "window", "limit", "offset", "ratioTarget", "lossTarget");
      const both = [base.checkpoint, other.checkpoint] as const;
      const team = await workers.forWindows(tokens, options, [base, other]);
      // What was loaded for this alone is only in the way of what the workers load.
      if (team) await Promise.all([base, other].filter((it) => it !== a && it !== b).map((it) => it.released()));
      const on = (input: Tokens, running: Running) =>
        team
          ? team.compare(both, { input, options: asked }, running)
          : environment.host.call("compare", { a: base.handle, b: other.handle, input, options: asked }, running);
      const told = [...workers.findings, ...(team ? [team.told("compared")] : [])];
      const card = await on(tokens, options);
      // Workers load their own, and know nothing of why it is the CPU that computes.
      const [ofA, ofB] = [base, other].map(({ backend: { finding } }) => (team && finding ? [finding] : []));
      const first = withFindings(card, [...told, ...(ofA ?? [])], ofB ?? []);
      const comparison = detected ? { ...first, a: withDetection(first.a, detected) } : first;
      if (!onSecond || second === undefined) return comparison;
      const tell = options.onProgress;
      const onProgress = tell && ((it: Progress) => tell({ ...it, stage: `${it.stage} second` }));
      return { ...comparison, second: onSecond.secondOf(await on(second, { signal: options.signal, onProgress })) };
    });
  } finally {
    if (!lent) await workers.close();
  }
}

function withFindings({ a, b, ...card }: Comparison, ofA: readonly Finding[], ofB: readonly Finding[]): Comparison {
  return {
    ...card,
    a: { ...a, findings: [...a.findings, ...ofA] },
    b: { ...b, findings: [...b.findings, ...ofB] },
  };
}

/** Uses both as models: those that were checkpoints are loaded for it, and given back. */
export async function withBoth<T>(
  a: Checkpoint | Model,
  b: Checkpoint | Model,
  options: CompareByTextOptions | CompareOptions,
  use: (base: Model, other: Model) => Promise<T>,
): Promise<T> {
  const mine: Model[] = [];
  const model = async (it: Checkpoint | Model, backend: CompareOptions["backend"]) => {
    if (it instanceof Model) return it;
    const { signal, onProgress } = options;
    const loaded = await it.load({ signal, onProgress, backend });
    mine.push(loaded);
    return loaded;
  };
  try {
    return await use(await model(a, options.backend), await model(b, options.backendB ?? options.backend));
  } finally {
    for (const loaded of mine) loaded.dispose();
  }
}

/** Tokens on which the prediction offset is looked for: wrong offsets are worse by far than any noise. */
const DETECTION = 4096;

export async function detect(
  environment: Environment,
  base: Model,
  tokens: Tokens,
  options: EvaluationProtocol,
): Promise<Evaluation> {
  const limit = Math.min(options.limit ?? DETECTION, DETECTION);
  const asked = present({ ...options, limit, offset: "detect" }, "window", "limit", "offset");
  return environment.host.call("evaluate", { model: base.handle, input: tokens, options: asked }, options);
}

/** What was found odd about the offset is part of what was measured with it. */
export function withDetection(evaluation: Evaluation, { nllByOffset, findings }: Evaluation): Evaluation {
  const odd = findings.filter((finding) => finding.level === "warning");
  return { ...evaluation, ...(nllByOffset && { nllByOffset }), findings: [...evaluation.findings, ...odd] };
}
