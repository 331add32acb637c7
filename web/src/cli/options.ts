// Every option of the command line, once: help, reading, did-you-mean and shell completion are made from this table.

import { formats, GGUF_TYPES, LAYOUTS } from "../api/formats.js";
import { PRECISIONS, PRUNE_KINDS } from "../api/types/statepress.js";
import { MOST_WORKERS } from "../api/workers.js";

/** One option. */
export interface Option {
  /** What follows it; a flag when left out. */
  value?: string;
  short?: string;
  /** It may be given several times. */
  many?: boolean;
  help: string;
  /** The only values there are. */
  allowed?: readonly string[];
  /** Several of `allowed`, with commas between them. */
  list?: boolean;
  /** What a shell offers as its value, where `allowed` does not say. */
  offers?: "file" | "recipe";
  /** `-` is standard input. */
  stdin?: boolean;
  /** Its value may be empty. */
  empty?: boolean;
  /** Its value is a number of this range. */
  number?: Range;
}

/** Numbers that an option may have. */
export interface Range {
  /** The least one. */
  from?: number;
  /** All are larger than this. */
  above?: number;
  /** The largest one. */
  to?: number;
  /** Only whole ones. */
  whole?: boolean;
  /** A word that may stand in the place of a number. */
  or?: string;
}

/** What the library takes as a count. */
const MOST = 2 ** 32 - 1;

const BACKENDS = ["auto", "cpu", "webgpu"] as const;

export const OPTIONS = {
  json: { help: "print one JSON object on stdout and nothing else there" },
  quiet: { help: "no progress and no findings on stderr" },
  help: { short: "h", help: "print this" },
  build: { value: "NAME", allowed: ["auto", "base", "simd", "relaxed"], help: "wasm build (default auto)" },
  set: { value: "FIELD=VALUE", many: true, help: "fill a configuration field that the checkpoint does not say" },
  weights: {
    value: "PATH",
    help: "where in the file the weights are: ema, state_dict.model, a prefix of keys, a+b, or bare for the top (inspect lists what could be taken)",
  },
  "weights-b": { value: "PATH", help: "where in OTHER the weights are" },
  tokenizer: {
    value: "FILE",
    offers: "file",
    help: "tokenizer file or folder, when none (or several) lie beside the weights",
  },
  "tokenizer-b": { value: "FILE", offers: "file", help: "tokenizer file or folder of OTHER, if not that of BASE" },
  tensor: { value: "NAME", help: "look closely at that tensor, and read it" },
  precision: {
    value: "P,Q",
    allowed: PRECISIONS,
    list: true,
    help: "with --tensor: what these make of it",
  },
  bins: {
    value: "N",
    number: { from: 1, to: 1024, whole: true },
    help: "with --tensor: bins of the histograms, 1 to 1024 (default 64)",
  },
  target: { value: "NAME", allowed: ["gpu", "cpu", "edge"], help: "where it will run" },
  "max-loss": {
    value: "PERCENT",
    number: { from: 0 },
    help: "perplexity change that may be lost (advise: 3 when left out)",
  },
  "max-size": {
    value: "BYTES",
    number: { from: 1, to: Number.MAX_SAFE_INTEGER, whole: true },
    help: "bytes that the weights may have",
  },
  measure: {
    value: "FILE",
    offers: "file",
    stdin: true,
    help: "measure every recipe on this UTF-8 text first, and its speed with --target cpu or gpu",
  },
  "measure-ids": {
    value: "BIN",
    offers: "file",
    stdin: true,
    help: "the same as little-endian token ids, without a tokenizer",
  },
  recipe: {
    value: "R",
    offers: "recipe",
    stdin: true,
    help: "name of a built-in recipe, or a JSON file; those named auto-... are searched for: compress --calibrate",
  },
  calibrate: {
    value: "FILE",
    offers: "file",
    stdin: true,
    help: "UTF-8 text that the model reads so that rounding errors can be made up for; not the one it is judged by",
  },
  "calibrate-ids": {
    value: "BIN",
    offers: "file",
    stdin: true,
    help: "the same as little-endian token ids, without a tokenizer",
  },
  prune: {
    value: "KIND=KEEP,...",
    help: `remove structure first: ${PRUNE_KINDS.join(", ")}; the share or how many stay`,
  },
  center: {
    help: "move the mean row of the token table to a bias first: it predicts the same, and codes that are entropy-coded get smaller",
  },
  basis: {
    help: "write the rows of the token table in a basis of its own first, as a calibration text says: the same predictions, smaller once entropy-coded",
  },
  gradients: {
    help: "round by what the loss feels as well: gradients over the calibration text, as long as training on it once",
  },
  workers: {
    value: "N",
    number: { from: 1, to: MOST_WORKERS, whole: true },
    help: "workers that share what a calibration text is read for, or the windows of what is evaluated or compared, each with models of its own: the same file, and the same numbers (default: as the machine and the size of the models suggest)",
  },
  compensate: {
    help: "make up for rounding errors (GPTQ) whatever the recipe says, as a calibration text implies of most recipes",
  },
  budget: { value: "SIZE", help: "8x: an eighth of the bytes; a number above 1000: bytes of weights and scales" },
  "max-kl": { value: "NATS", number: { above: 0 }, help: "divergence that may be lost, in nats a token" },
  fast: { help: "measure each tensor once, at about three bits, on 64 tokens of the text instead of four windows" },
  "recipe-out": { value: "FILE", offers: "file", help: "where the recipe that was found goes" },
  coded: { help: "store codes entropy-coded, whatever the recipe says: a smaller file of the same numbers" },
  "skip-existing": {
    help: "leave what is there and as its record says, make the rest: the same command again does what is missing",
  },
  shard: { value: "I/N", help: "only part I of N parts of the manifest, counted from 0: every N-th file" },
  "shard-env": {
    value: "VAR[/N]",
    help: "I is in that environment variable; without /N it is the number of the one file to compress, from 0",
  },
  compare: { value: "FILE", offers: "file", help: "UTF-8 text on which every result is compared with its original" },
  "compare-ids": { value: "BIN", offers: "file", help: "the same as little-endian token ids, without a tokenizer" },
  "max-memory": {
    value: "BYTES",
    number: { from: 1, to: Number.MAX_SAFE_INTEGER, whole: true },
    help: "stop with an error where the process takes more memory than that; looked at between tensors",
  },
  output: { value: "OUT", short: "o", offers: "file", help: "the file, or the folder, to write; - is stdout" },
  report: { value: "FILE", offers: "file", help: "where the report goes (default OUT.report.json)" },
  force: { help: "replace files that exist" },
  format: {
    value: "F",
    allowed: formats,
    help: "safetensors: our own layout (default); plain: a folder for transformers, of floats; bitsandbytes: the same with NF4 or INT8 codes; compressed-tensors: the same with whole numbers of 2 to 8 bits; gguf: a file for llama.cpp; onnx: a graph for onnxruntime",
  },
  "gguf-type": {
    value: "TYPE",
    allowed: GGUF_TYPES,
    help: "with --format gguf: the type of matrices (default: nearest to what the recipe leaves)",
  },
  layout: {
    value: "KEYS",
    allowed: LAYOUTS,
    help: "with --format plain: whose keys the weights have: hf, those of transformers (default), or original, every key and config.json as in the checkpoint",
  },
  text: { value: "FILE", offers: "file", stdin: true, help: "UTF-8 text to evaluate on; distill: to train on" },
  ids: { value: "BIN", offers: "file", stdin: true, help: "the same as little-endian token ids" },
  student: {
    value: "KIND=KEEP",
    many: true,
    help: "what the student has less of than the teacher, as for --prune: inner=0.5",
  },
  init: {
    value: "HOW",
    allowed: ["slice", "fresh"],
    help: "the student begins with what is left of the teacher (default), or with numbers drawn anew",
  },
  "held-out": {
    value: "FILE",
    offers: "file",
    stdin: true,
    help: "UTF-8 text that judges (default: the end of the text)",
  },
  "held-out-ids": { value: "BIN", offers: "file", stdin: true, help: "the same as little-endian token ids" },
  snapshot: {
    value: "FILE",
    offers: "file",
    help: "after every look at the held-out text, where training is then: --resume FILE goes on from there after a crash or Ctrl-C",
  },
  resume: {
    value: "FILE",
    offers: "file",
    help: "go on with the training that was written to FILE, as it began: with its student, texts and options",
  },
  recover: {
    value: "FILE",
    offers: "file",
    stdin: true,
    help: "UTF-8 text to train on once the file is compressed, so that it predicts as the original does",
  },
  "recover-ids": { value: "BIN", offers: "file", stdin: true, help: "the same as little-endian token ids" },
  "recover-weights": {
    value: "WHICH",
    allowed: ["vectors", "all"],
    help: "norms, biases and dynamics alone, so that every code stays (default), or codes too, which heals more",
  },
  steps: {
    value: "N",
    number: { from: 1, to: MOST, whole: true },
    help: "updates of the weights (default 1000)",
  },
  minutes: { value: "M", number: { above: 0, to: 1e6 }, help: "how long training may take: as many steps as fit" },
  batch: { value: "N", number: { from: 1, to: 65536, whole: true }, help: "windows of an update (default 2)" },
  alpha: {
    value: "A",
    number: { from: 0, to: 1 },
    help: "how much the predictions of the teacher, or of the original, count; the text counts the rest (default 0.5, with --recover 1)",
  },
  "learning-rate": {
    value: "R",
    number: { above: 0, to: 1 },
    help: "the highest one (default 0.001; 0.003 with --init fresh)",
  },
  patience: {
    value: "N",
    number: { from: 1, to: MOST, whole: true },
    help: "looks at the held-out text without a better one after which training ends",
  },
  "second-text": {
    value: "FILE",
    offers: "file",
    stdin: true,
    help: "a UTF-8 text of another kind to compare on as well",
  },
  "second-ids": { value: "BIN", offers: "file", stdin: true, help: "the same as little-endian token ids" },
  "ids-type": {
    value: "TYPE",
    allowed: ["u16", "u32"],
    help: "width of the ids (default: u16 when the vocabulary fits)",
  },
  window: {
    value: "N",
    number: { from: 1, to: MOST, whole: true },
    help: "tokens of a window (default: the model's longest sequence, at most 2048; else 256)",
  },
  limit: {
    value: "TOKENS",
    number: { from: 1, to: MOST, whole: true },
    help: "use only that many tokens from the start",
  },
  offset: {
    value: "N",
    number: { from: 0, to: MOST, whole: true, or: "detect" },
    help: "position t predicts token t + N, if that is a question; detect tries 0 to 3",
  },
  backend: { value: "NAME", allowed: BACKENDS, help: "what computes (default auto)" },
  "backend-b": { value: "NAME", allowed: BACKENDS, help: "what computes B, if not what computes A" },
  explain: { help: "say what a decoded token costs on the GPU, kernel by kernel" },
  "ratio-target": { value: "X", number: { above: 0 }, help: "ratio that counts as success" },
  "loss-target": { value: "PERCENT", number: { from: 0 }, help: "perplexity change that is allowed" },
  check: { help: "exit with 3 unless the verdict is success" },
  prompt: { value: "TEXT", stdin: true, empty: true, help: "the text to continue" },
  "prompt-ids": { value: "1,2,3", stdin: true, help: "token ids to continue, without a tokenizer" },
  "max-tokens": { value: "N", number: { from: 0, to: MOST, whole: true }, help: "tokens to make" },
  temperature: {
    value: "T",
    number: { from: 0, to: 1e6 },
    help: "0 takes the likeliest token each time; distill: what logits are divided by (default 1)",
  },
  "top-k": { value: "K", number: { from: 1, to: MOST, whole: true }, help: "sample among the K likeliest" },
  seed: { value: "S", number: { from: 0, to: Number.MAX_SAFE_INTEGER, whole: true }, help: "same seed, same text" },
  repeats: {
    value: "N",
    number: { from: 1, to: 2 ** 20, whole: true },
    help: "timed runs; the median is reported (default 5)",
  },
  port: {
    value: "N",
    number: { from: 0, to: 65535, whole: true },
    help: "port on the loopback interface (default 8080, or any free one with 0)",
  },
} as const satisfies Record<string, Option>;

/** The name of an option. */
export type OptionName = keyof typeof OPTIONS;

/** The values of an option that has a closed list of them. */
export type Allowed<N extends OptionName> = (typeof OPTIONS)[N] extends { allowed: readonly (infer T)[] } ? T : never;

/** An option of the table. */
export function option(name: OptionName): Option {
  return OPTIONS[name];
}

/** Options that every command takes. */
export const COMMON: readonly OptionName[] = ["json", "quiet", "help"];

/** Options that say what compress makes of a checkpoint. */
export const MAKING: readonly OptionName[] = [
  ...(["recipe", "prune", "center", "basis", "calibrate", "calibrate-ids", "ids-type", "compensate"] as const),
  ...([
    "gradients",
    "coded",
    "recover",
    "recover-ids",
    "recover-weights",
    "steps",
    "alpha",
    "format",
    "gguf-type",
    "layout",
  ] as const),
];

/** Options that say how a model is measured. */
export const MEASURING: readonly OptionName[] = ["ids-type", "window", "limit", "offset", "backend"];
