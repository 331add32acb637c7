// What the library is given, looked at before it is used: JavaScript has no types, and no refusal may be a TypeError.

import type { Tokenizer } from "../tokenizer/tokenizer.js";
import type { BenchOptions } from "../worker/protocol.js";
import { StatepressError } from "./errors.js";
import { didYouMean } from "./near.js";
import type {
  AdviseOptions,
  CompareByTextOptions,
  CompareOptions,
  CompressOptions,
  DistillOptions,
  EvaluateOptions,
  GenerateOptions,
  GradientsOptions,
  LoadOptions,
  OpenOptions,
  RecoverOptions,
  RecoveryOptions,
  ResumeOptions,
  Running,
  SaveOptions,
  SearchOptions,
  TensorOptions,
  TrainingOptions,
} from "./options.js";
import { isRecord } from "./record.js";

/** How an option is looked at; `later` is looked at where it is understood. */
type Kind =
  | "signal"
  | "function"
  | "flag"
  | "number"
  | "ratio"
  | "loss"
  | "offset"
  | "word"
  | "object"
  | "gradients"
  | "later";

/** Every option of a call: one that is added to its type does not compile without a line here. */
type Kinds<T extends object> = { readonly [K in keyof Required<T>]: Kind };

const RUNNING: Kinds<Running> = { signal: "signal", onProgress: "function" };

const EVALUATE: Kinds<EvaluateOptions> = {
  ...RUNNING,
  window: "number",
  limit: "number",
  offset: "offset",
  workers: "number",
};

const COMPARE: Kinds<CompareOptions> = {
  ...EVALUATE,
  text: "later",
  ids: "later",
  second: "object",
  backend: "word",
  backendB: "word",
  ratioTarget: "ratio",
  lossTarget: "loss",
};

const RECOVERY: Kinds<RecoveryOptions> = {
  text: "later",
  heldOut: "later",
  minutes: "number",
  batch: "number",
  window: "number",
  temperature: "number",
  warmUp: "number",
  validateEvery: "number",
  patience: "number",
  seed: "number",
  onPoint: "function",
  sample: "number",
  enough: "signal",
  backend: "word",
  backendOptions: "object",
};

const TRAINING: Kinds<TrainingOptions> = {
  ...RUNNING,
  ...RECOVERY,
  steps: "number",
  alpha: "number",
  learningRate: "number",
  beside: "word",
};

/** The options of every call. */
interface Calls {
  open: OpenOptions;
  tensor: TensorOptions;
  advise: AdviseOptions;
  compress: CompressOptions;
  search: SearchOptions;
  gradients: GradientsOptions;
  distill: DistillOptions & ResumeOptions;
  recover: RecoverOptions;
  recovery: RecoveryOptions;
  save: SaveOptions;
  load: LoadOptions;
  generate: GenerateOptions;
  evaluate: EvaluateOptions;
  bench: BenchOptions & Running;
  compare: CompareOptions;
  compareByText: CompareByTextOptions;
}

const CALLS: { readonly [C in keyof Calls]: Kinds<Calls[C]> } = {
  open: { tokenizer: "later", set: "later", weights: "word", signal: "signal" },
  tensor: { bins: "number", precisions: "later", quantize: "later", signal: "signal" },
  advise: {
    ...RUNNING,
    target: "later",
    maxLoss: "number",
    maxSize: "number",
    measured: "later",
    measure: "object",
    backend: "word",
  },
  compress: {
    ...RUNNING,
    beside: "word",
    calibration: "later",
    gradients: "gradients",
    recover: "object",
    workers: "number",
  },
  search: {
    ...RUNNING,
    calibration: "later",
    gradients: "gradients",
    fast: "flag",
    coded: "flag",
    first: "later",
    beside: "word",
    workers: "number",
    costs: "object",
    onCosts: "function",
  },
  gradients: { ...RUNNING, calibration: "later" },
  distill: {
    ...TRAINING,
    student: "later",
    init: "word",
    onSnapshot: "function",
    pause: "signal",
    resume: "later",
  },
  recover: { ...TRAINING, weights: "word", uncoded: "object" },
  recovery: RECOVERY,
  save: { ...RUNNING, format: "later", ggufType: "word", layout: "word", onExport: "function", force: "flag" },
  load: { ...RUNNING, backend: "word", backendOptions: "object" },
  generate: { maxTokens: "number", temperature: "number", topK: "number", seed: "number", signal: "signal" },
  evaluate: EVALUATE,
  bench: { ...RUNNING, prefillTokens: "number", decodeTokens: "number", repeats: "number", explain: "flag" },
  compare: COMPARE,
  compareByText: { ...EVALUATE, text: "later", why: "word", offsetB: "offset", backend: "word", backendB: "word" },
};

// One object of options is often given to several calls: what another call has is no mistake.
const ANYWHERE: ReadonlySet<string> = new Set(Object.values(CALLS).flatMap((kinds) => Object.keys(kinds)));

/**
 * Refuses what are no options, names that no call has, and values that would fail in the middle of the work. With `elsewhere`, which
 * says where other options are said, names that only other calls have as well.
 */
export function checkOptions(call: keyof Calls, options: unknown, elsewhere?: string): void {
  if (typeof options !== "object" || options === null || Array.isArray(options)) {
    throw new StatepressError("bad-option", `${call} takes its options as an object, not ${shown(options)}`);
  }
  const kinds: Readonly<Record<string, Kind>> = CALLS[call];
  for (const [name, value] of Object.entries(options)) {
    const kind = Object.hasOwn(kinds, name) ? kinds[name] : undefined;
    if (kind === undefined && (elsewhere !== undefined || !ANYWHERE.has(name))) {
      const allowed = Object.keys(kinds);
      const rest = elsewhere === undefined ? "" : `: ${elsewhere}`;
      const message = `${call} has no option '${name}'; it has ${allowed.join(", ")}${rest}${didYouMean(name, allowed)}`;
      throw new StatepressError("bad-option", message, { option: name, allowed });
    }
    const wanted = kind === undefined || value === undefined ? undefined : wantedInstead(kind, value);
    if (wanted === undefined) continue;
    throw new StatepressError("bad-option", `option ${name} is ${shown(value)}; allowed: ${wanted}`, {
      option: name,
      allowed: wanted,
    });
  }
}

function wantedInstead(kind: Kind, value: unknown): string | undefined {
  switch (kind) {
    case "signal":
      return isSignal(value) ? undefined : "an AbortSignal";
    case "function":
      return typeof value === "function" ? undefined : "a function";
    case "flag":
      return typeof value === "boolean" ? undefined : "true, false";
    case "number":
      return typeof value === "number" ? undefined : "a number";
    // By what is not one of these every verdict would be the same.
    case "ratio":
      return Number.isFinite(value) && (value as number) > 0 ? undefined : "a number above 0";
    case "loss":
      return Number.isFinite(value) && (value as number) >= 0 ? undefined : "a number from 0 (percent)";
    case "offset":
      return typeof value === "number" || value === "detect" ? undefined : 'a number, or "detect"';
    case "word":
      return typeof value === "string" ? undefined : "a word";
    case "object":
      return typeof value === "object" && value !== null ? undefined : "an object";
    case "gradients":
      return typeof value === "boolean" || isFisher(value) ? undefined : "true, false, or what gradients() took";
    case "later":
      return undefined;
  }
}

function isFisher(value: unknown): boolean {
  return (
    isRecord(value) &&
    typeof value["tokens"] === "number" &&
    isListLike(value["lookedUp"]) &&
    isListLike(value["outputs"])
  );
}

// Signals of another frame or of a polyfill are no instances of ours.
function isSignal(value: unknown): boolean {
  return (
    typeof value === "object" &&
    value !== null &&
    "aborted" in value &&
    "addEventListener" in value &&
    typeof value.addEventListener === "function"
  );
}

/** Any value as it is shown in a message: short, and never a failure of its own. */
export function shown(value: unknown): string {
  if (value === null || value === undefined) return `${value}`;
  if (typeof value === "string") return JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}…` : value);
  if (typeof value === "function") return "a function";
  if (typeof value !== "object") return String(value);
  if (Array.isArray(value)) return "a list";
  try {
    const name: unknown = value.constructor?.name;
    return typeof name === "string" && name !== "Object" && name !== "" ? `a ${name}` : "an object";
  } catch {
    return "an object";
  }
}

/** Whether something has a length and elements, as arrays and typed arrays do. */
export function isListLike(value: unknown): value is ArrayLike<unknown> {
  if (typeof value !== "object" || value === null) return false;
  const { length } = value as { length?: unknown };
  return Number.isSafeInteger(length) && (length as number) >= 0;
}

/** Refuses what is no text. */
export function checkText(what: string, value: unknown): asserts value is string {
  if (typeof value !== "string") throw new StatepressError("bad-input", `${what} takes a text, not ${shown(value)}`);
}

/** Refuses what cannot be opened. */
export function checkInput(input: unknown): void {
  const allowed = "a path (Node), a File or Blob, a Uint8Array, or a list of files that belong together";
  const refuse = (what: string) => new StatepressError("bad-input", `cannot open ${what}: give ${allowed}`);
  if (isFileLike(input)) {
    if (input === "") throw refuse("a path that is empty");
    return;
  }
  if (input instanceof Uint8Array) return;
  if (!isListLike(input) || ArrayBuffer.isView(input)) throw refuse(shown(input));
  const odd = Array.from(input).find((it) => !isFileLike(it) || it === "");
  if (odd !== undefined || Array.from(input).includes(undefined)) throw refuse(`a list that holds ${shown(odd)}`);
}

function isFileLike(value: unknown): boolean {
  return typeof value === "string" || value instanceof Blob;
}

/** Whether something does what a tokenizer does. */
export function isTokenizer(value: unknown): value is Tokenizer {
  if (typeof value !== "object" || value === null || value instanceof Blob) return false;
  const { encode, decode } = value as Partial<Tokenizer>;
  return typeof encode === "function" && typeof decode === "function";
}

/** Refuses what is neither a tokenizer nor the files of one. */
export function checkTokenizer(given: unknown): void {
  if (given === undefined || isTokenizer(given) || (isFileLike(given) && given !== "")) return;
  if (Array.isArray(given) && given.length > 0 && given.every((it) => isFileLike(it) && it !== "")) return;
  const allowed = "a file of a tokenizer, the files of one, or an object that can encode and decode";
  throw new StatepressError("bad-option", `option tokenizer is ${shown(given)}; allowed: ${allowed}`, {
    option: "tokenizer",
    allowed,
  });
}

/** Refuses what are no values of configuration fields. */
export function checkFields(set: unknown): void {
  if (set === undefined) return;
  const allowed = "an object whose fields are numbers, true, false or lists of numbers";
  const refuse = (what: string) =>
    new StatepressError("bad-option", `option set ${what}; allowed: ${allowed}`, { option: "set", allowed });
  if (typeof set !== "object" || set === null || Array.isArray(set)) throw refuse(`is ${shown(set)}`);
  const single = (value: unknown) => typeof value === "number" || typeof value === "boolean";
  for (const [name, value] of Object.entries(set)) {
    const numbers = Array.isArray(value) && value.every((it) => typeof it === "number");
    if (!single(value) && !numbers) throw refuse(`${name} is ${shown(value)}`);
  }
}

/** Refuses what has not these fields with numbers. */
export function checkNumbers(call: string, value: unknown, ...fields: string[]): void {
  const numbers: Record<string, unknown> = isRecord(value) ? value : {};
  const odd = fields.find((field) => typeof numbers[field] !== "number");
  if (odd === undefined) return;
  throw new StatepressError("bad-input", `${call} needs the number ${odd}, and ${shown(value)} has none`);
}

/** Refuses what is no list of files, by their names. */
export function checkFiles(files: unknown): void {
  if (isListLike(files) && !ArrayBuffer.isView(files) && Array.from(files).every(isNamed)) return;
  throw new StatepressError("bad-input", `files are a list of objects with a name, not ${shown(files)}`);
}

function isNamed(file: unknown): boolean {
  return typeof file === "object" && file !== null && "name" in file && typeof file.name === "string";
}
