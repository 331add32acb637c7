// What the session's tests share: a package that answers when it is told to, and a page without components.

import { vi } from "vitest";
import { vocabularyOf } from "../../api/fit.js";
import { isTokenizerName, replacesTokenizer, TOKENIZER_CONFIG } from "../../api/names.js";
import { decodeText, withoutMark } from "../../api/text.js";
import * as types from "../../api/types/statepress.js";
import { weightsAmong } from "../../api/weights.js";
import type { RunRecord } from "../state/record.js";

/** The package's answers, to be changed by a test; and what was asked of it. */
export const fake = {
  openMilliseconds: 0,
  refusedPlan: "",
  notFinite: false,
  spec: {} as object,
  opened: [] as { files: string[]; set: object; weights: string | undefined; disposed: boolean }[],
  produced: [] as { disposed: boolean }[],
  evaluated: [] as string[],
  texts: [] as { why?: string; offset?: string; offsetB?: string; backendB?: string }[],
  compared: [] as {
    text?: string;
    offset?: string | number;
    backend?: string;
    backendB?: string;
    limit?: number;
    window?: number;
    second?: object;
  }[],
  looked: [] as { block: number }[],
  calibrated: [] as (string | undefined)[],
  /** Whether gradients were asked for, at each compression. */
  gradients: [] as boolean[],
  searched: [] as {
    calibration: string;
    fast: boolean;
    coded: boolean;
    first: object[];
    target: object;
    costs?: object;
  }[],
  /** What a search says of its target. */
  refusedTarget: "",
  /** Which recipes were known to be measured, at each time that advice was asked for. */
  advised: [] as string[][],
  /** Whether measuring what was found fails. */
  unmeasured: false,
};

interface FakeAdvising {
  measure?: object;
  measured?: { recipe: string }[];
  signal?: AbortSignal;
  maxLoss?: number;
}

/** What is remembered, as `Memory` keeps it. */
export const kept = { records: [] as RunRecord[] };

/** Everything as it was. */
export function renew(): void {
  Object.assign(fake, { openMilliseconds: 0, refusedPlan: "", notFinite: false, unmeasured: false, refusedTarget: "" });
  fake.spec = { prediction_offset: { origin: "assumed", value: 1 } };
  for (const list of [
    fake.opened,
    fake.produced,
    fake.evaluated,
    fake.compared,
    fake.texts,
    fake.looked,
    fake.calibrated,
    fake.gradients,
    fake.searched,
    fake.advised,
  ])
    list.length = 0;
  kept.records = [];
  vi.stubGlobal("fetch", async () => new Response("the held-out text"));
}

/** Milliseconds. */
export const wait = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

class StatepressError extends Error {
  constructor(
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

/** The options of a search. */
interface SearchOptions {
  signal: AbortSignal;
  onCosts(costs: object): void;
  onProgress: unknown;
  calibration: string;
  fast: boolean;
  coded: boolean;
  first: object[];
  costs?: object;
}

const recipe = (name: string) => ({ version: 1, name, steps: [] });

// What an evaluation says that has looked for the offset.
const detected = (options: { offset?: string | number }, offset = 1) =>
  options.offset === "detect" ? { offset, nllByOffset: [4, offset, 4, 4] } : { offset };

/** The package. */
export const fakePackage = {
  ...types,
  StatepressError,
  isTokenizerName,
  replacesTokenizer,
  TOKENIZER_CONFIG,
  weightsAmong,
  decodeText,
  withoutMark,
  recipes: async () => ["int8", "nf4", "none"].map(recipe),
  prepare: async () => {},
  open: async (files: File[], { set = {}, weights: path }: { set?: object; weights?: string }) => {
    const about = { files: files.map((file) => file.name), set, weights: path, disposed: false };
    fake.opened.push(about);
    await wait(fake.openMilliseconds);
    if ("refused" in set) throw new StatepressError("bad-option", "refused is no field");
    const weights = files.find((file) => /safetensors|pt$/.test(file.name));
    if (weights?.name.startsWith("broken")) throw new StatepressError("malformed", "no checkpoint");
    if (!weights) throw new StatepressError("bad-input", `no weights among ${files.length} files`);
    const tokenizers = files.filter((file) => isTokenizerName(file.name));
    const several = tokenizers.filter(({ name }) => name.startsWith("tokenizer")).length > 1;
    return {
      inspection: {
        family: "itera-lite",
        params: 10,
        bytes: 40,
        spec: {
          ...fake.spec,
          vocab_size: { origin: "counted", value: weights.name.startsWith("large") ? 8000 : 2000 },
        },
        findings: weights.name.startsWith("mute")
          ? [{ level: "warning", code: "cannot-run", message: "no reader" }]
          : [],
        tensors: [],
      },
      // All but those that say so come with a tokenizer.
      tokenizerName: several
        ? undefined
        : (tokenizers[0]?.name ?? (weights.name.startsWith("bare") ? undefined : "tokenizer.json")),
      weightsName: weights.name,
      dispose() {
        about.disposed = true;
      },
      async plan(asked: { name: string }) {
        await wait(2);
        if (asked.name === fake.refusedPlan) throw new StatepressError("bad-recipe", "refused");
        return { recipe: asked, bytes: { after: 1 }, tensors: [] };
      },
      async advise({ measure, measured = [], signal, maxLoss }: FakeAdvising = {}) {
        fake.advised.push([
          ...measured.map(({ recipe }) => recipe),
          ...(maxLoss === undefined ? [] : [`${maxLoss} %`]),
        ]);
        await wait(10);
        if (measure && fake.unmeasured) throw new StatepressError("evaluation", "nothing to measure");
        if (signal?.aborted) throw new StatepressError("aborted", "stopped on request");
        const known = measure ? [{ recipe: "nf4", loss: 1, kl: 0.01, ratio: 7 }] : measured;
        return { recommended: [{ recipe: "int8" }], avoid: [], techniques: [], findings: [], measured: known };
      },
      async tensor(name: string, options: { precisions?: string[]; quantize?: { nf4: { block: number } } }) {
        await wait(1);
        if (options.precisions && fake.notFinite) throw new StatepressError("bad-tensor", "holds NaN");
        if (options.quantize) fake.looked.push({ block: options.quantize.nf4.block });
        return { name, coded: options.precisions ?? [] };
      },
      async load() {
        return {
          dispose() {},
          async evaluate(text: string, options: { offset?: string }) {
            fake.evaluated.push(text);
            return { tokens: 1, findings: [], ...detected(options, text.includes("odd") ? 3 : 1) };
          },
        };
      },
      async compress(
        asked: object,
        { signal, calibration, gradients }: { signal: AbortSignal; calibration?: string; gradients: boolean },
      ) {
        fake.calibrated.push(calibration);
        fake.gradients.push(gradients);
        await wait(2);
        if (signal.aborted) throw new StatepressError("aborted", "stopped on request");
        const produced = { disposed: false };
        fake.produced.push(produced);
        return {
          report: { recipe: asked, bytes: { before: 40, after: 10, ratio: 4 } },
          save: async () => new Blob(["x"]),
          dispose() {
            produced.disposed = true;
          },
        };
      },
    };
  },
  vocabularyOf,
  tokensDiffer: (...both: { inspection: { spec: { vocab_size: { value: number } } } }[]) => {
    const [a, b] = both.map(({ inspection }) => inspection.spec.vocab_size.value);
    return a === b ? undefined : `${a} and ${b}`;
  },
  async search(_: object, target: object, { signal, onCosts, onProgress: _progress, ...options }: SearchOptions) {
    fake.searched.push({ ...options, target });
    onCosts({ tensors: [], unmeasured: 7 });
    await wait(2);
    if (signal.aborted) throw new StatepressError("aborted", "stopped on request");
    const costs = { tensors: [], unmeasured: 0 };
    onCosts(costs);
    if (fake.refusedTarget) throw new StatepressError("bad-option", fake.refusedTarget);
    const compressed = {
      report: { recipe: {}, bytes: { before: 8, after: 1, ratio: 8 } },
      disposed: false,
      dispose() {},
      save: async () => new Blob(["ab"]),
    };
    const recipe = { version: 1, name: "searched", steps: [] };
    return {
      compressed,
      recipe,
      front: [],
      costs,
      findings: [],
      predicted: {},
      measured: {},
      reached: true,
    };
  },
  async allocate(_: object, { bytes }: { bytes: number }) {
    if (bytes === 0) throw new StatepressError("bad-option", "refused");
    return { recipe: { version: 1, name: `at ${bytes}`, steps: [] }, front: [{ bytes: 1 }] };
  },
  compareByText: async (_a: object, _b: object, options: { offset?: string }) => {
    fake.texts.push(options);
    await wait(2);
    const b = { findings: [], bitsPerByte: 2 };
    return { bitsPerByteChange: 1, a: { ...b, ...detected(options) }, b };
  },
  compare: async (_a: object, _b: object, options: { offset?: string; text: string }) => {
    fake.compared.push(options);
    await wait(2);
    if (fake.unmeasured) throw new StatepressError("evaluation", "nothing to measure");
    const odd = options.text.includes("odd");
    const unclear = { level: "warning", code: "offset-unclear", message: "odd" };
    const findings = odd && options.offset === "detect" ? [unclear] : [];
    const a = { findings, perplexity: 8, ...detected(options, odd ? 3 : 1) };
    return { kl: { mean: 0 }, a, b: { findings: [], perplexity: 9 } };
  },
};

/** A session with a state, as a component would have it. The package must be mocked before this is called. */
export async function page({ hurried = false } = {}) {
  const { Session } = await import("./session.js");
  const { reduce } = await import("../state/reducer.js");
  const { initial } = await import("../state/state.js");
  let state = initial;
  const tell = (event: Parameters<typeof reduce>[1]) => {
    state = reduce(state, event);
  };
  const memory = {
    load: () => [...kept.records],
    add: (record: RunRecord) => kept.records.push(record),
    clear: () => (kept.records = []),
  };
  const session = new Session({ state: () => state, tell }, memory);
  if (!hurried) await session.start();
  return {
    session,
    tell,
    recipe(name: string) {
      const found = state.recipes.find((it) => it.name === name);
      if (!found) throw new Error(`no recipe ${name}`);
      return found;
    },
    get state() {
      return state;
    },
  };
}

/** A file. */
export const file = (name: string, text = "") => new File([text], name);

/** A file that is a recipe. */
export const MINE = file("mine.json", JSON.stringify({ version: 1, name: "mine", steps: [] }));
