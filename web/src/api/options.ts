// The options of the library's calls, and what goes in and out of them.

import type { Tokenizer } from "../tokenizer/tokenizer.js";
import type { BackendName, BackendOptions } from "../worker/wasm.js";
import type { Checkpoint } from "./checkpoint.js";
import type { Format, GgufType, Layout } from "./formats.js";
import type {
  Center,
  ExportReport,
  Fisher,
  GroupOptions,
  Int4Options,
  Int8Options,
  MeasuredRecipe,
  Nf4Options,
  Precision,
  Progress,
  Prune,
  Recipe,
  Recover,
  Rule,
  SearchCosts,
  TableBasis,
  TrainingPoint,
} from "./types/statepress.js";

/** What can be opened: a path to a file or a folder (Node), a file, its bytes, or files that belong together. */
export type Input = string | Blob | Uint8Array | ArrayLike<string | Blob>;

/** A value for a configuration field that a checkpoint does not store. */
export type FieldValue = number | boolean | number[];

/** Options of every long call. */
export interface Running {
  /** Stops the work: the promise is rejected with the code `aborted`. */
  signal?: AbortSignal | undefined;
  /** Told how far the work is, at most once per frame. */
  onProgress?: ((progress: Progress) => void) | undefined;
}

/** Options of `open`. */
export interface OpenOptions {
  /**
   * A tokenizer file (path or File; in Node also a folder), the files of one (`vocab.json` and `merges.txt`), or a
   * tokenizer. Without it one beside the weights is used if there is one, else the one that a GGUF file holds.
   */
  tokenizer?: string | Blob | readonly (string | Blob)[] | Tokenizer | undefined;
  /** Configuration fields that the checkpoint does not say; their origin becomes `given`. */
  set?: Record<string, FieldValue> | undefined;
  /**
   * Where in the file the weights are: the keys to them with dots between, as `ema` or `state_dict.model`; what their keys
   * begin with, as `student`; several that are one model, as `trainable+frozen`; or `bare` for the top level of the file. Found
   * when left out; `inspection.weights` lists what could be taken.
   */
  weights?: string | undefined;
  signal?: AbortSignal | undefined;
}

/** Options of `advise`. */
export interface AdviseOptions extends Running {
  target?: "gpu" | "cpu" | "edge" | undefined;
  /** Perplexity change in percent that may be lost; 3 when left out. */
  maxLoss?: number | undefined;
  /** Bytes that the weights may have. */
  maxSize?: number | undefined;
  /** What was measured of built-in recipes on this checkpoint: it counts before all that is known of others. */
  measured?: readonly MeasuredRecipe[] | undefined;
  /**
   * Measure first, on this text: every recipe that is worth it is carried out in memory. With the target `cpu` or `gpu` each is
   * timed on this device's as well. What was measured is in the answer's `measured`.
   */
  measure?: MeasureOptions | undefined;
  /** What computes while measuring; with a target it is that. */
  backend?: BackendName | undefined;
}

/** What is measured on, and how: as `compare` takes it. */
export interface MeasureOptions extends Omit<EvaluationProtocol, keyof Running> {
  text?: string | undefined;
  ids?: ArrayLike<number> | undefined;
}

/** The name of a built-in recipe or of a built-in search (`PRESETS`), or a recipe. */
export type RecipeInput = string | Recipe | RecipeDraft;

/** A recipe as it is written: what a step leaves out has its default, and is there in the `Recipe` of a report. */
export interface RecipeDraft {
  /** Of the schema: 1. */
  readonly version: number;
  readonly name: string;
  readonly description?: string;
  /** Recipes that come from files are checked when they are used. */
  readonly steps: readonly (StepDraft | object)[];
}

/** A step of a recipe as it is written. */
export type StepDraft =
  | { readonly prune: PruneDraft }
  | { readonly center: Center }
  | { readonly basis: Partial<TableBasis> }
  | { readonly quantize: QuantizeDraft }
  | { readonly recover: RecoverDraft };

/** A prune step as it is written: ranked by `l2`, without repair, in all layers, if it says nothing else. */
export type PruneDraft = Pick<Prune, "kind" | "keep"> & Partial<Prune>;

/** A recover step as it is written: 1000 updates of what no codes stand for, if it says nothing else. */
export type RecoverDraft = Partial<Recover>;

/** A quantize step as it is written: the first rule that matches a tensor's name decides. */
export interface QuantizeDraft extends CodecOptions {
  readonly rules: readonly Rule[];
  /** The precision of what no rule matches. */
  readonly otherwise: Precision;
}

/** Options of `tensor`. */
export interface TensorOptions {
  /** Bins of the histograms, 1 to 1024; 64 when left out. */
  bins?: number | undefined;
  /** Precisions to look at it in; none when left out. */
  precisions?: readonly Precision[] | undefined;
  /** How they are done, as in the quantize step of a recipe. */
  quantize?: CodecOptions | undefined;
  signal?: AbortSignal | undefined;
}

/** How precisions are done. What is left out has its default. */
export interface CodecOptions {
  readonly int8?: Partial<Int8Options>;
  readonly nf4?: Partial<Nf4Options>;
  readonly int4?: Partial<Int4Options>;
  readonly groups?: Partial<GroupOptions>;
}

/** Options of `compress`. */
export interface CompressOptions extends Running {
  /**
   * The path that it will be saved to (Node): what is produced is kept beside that file instead of in the folder of temporary
   * files, so that `save` has nothing to copy.
   */
  beside?: string | undefined;
  /**
   * A text, or ids, that the model reads so that rounding errors can be made up for (GPTQ): like what the model will be
   * used on, and none that it is judged by. 4,096 tokens are enough. The recipe's `gptq` says how, else as usual, whatever
   * its `errorCompensation` says.
   */
  calibration?: string | ArrayLike<number> | undefined;
  /**
   * Take gradients over the calibration text as well, at most 16,384 tokens of it: what is looked up is then rounded for what
   * the loss feels of it, and rows that the loss feels more have smaller steps where codes are entropy-coded. Takes about
   * as long as training on the text once; the module that trains is loaded for it. Or what a call of `gradients` took.
   */
  gradients?: boolean | Fisher | undefined;
  /** What a recipe with a recover step trains on, and how where that is not as usual: the recipe says the rest. */
  recover?: RecoveryOptions | undefined;
  /**
   * How many workers share the rounding that a calibration text is read for: each opens the checkpoint and loads the model by
   * itself. The result is the same, to the byte. From 16 million parameters on as many as the machine has cores, and as have
   * room for their models in 2 GiB, at most 8; of smaller models, one.
   */
  workers?: number | undefined;
}

/** Options of `search`. */
export interface SearchOptions extends Running {
  /**
   * A text, or ids, that the model reads: three quarters of it so that rounding errors can be made up for, and of the last
   * quarter at most 4,096 tokens to judge by. 16,384 tokens are enough; like what the model will be used on.
   */
  calibration: string | ArrayLike<number>;
  /**
   * Measure every tensor once, at about three bits, by GPTQ alone and on 64 tokens of the text instead of four windows, and let
   * the rest follow.
   */
  fast?: boolean | undefined;
  /**
   * Entropy-code what is quantized: sizes are those of the file then, and instead of a number of bits each tensor is given a
   * step between its levels, as far apart as its part in the predictions allows. The token table is centered first, and written
   * in a basis of its own where it is the head as well.
   */
  coded?: boolean | undefined;
  /** Steps of a recipe that come first, such as pruning: the search begins with what they leave. */
  first?: readonly StepDraft[] | undefined;
  /**
   * What an earlier search of this checkpoint has measured by the same text, all of it or a part: only the rest is measured.
   */
  costs?: SearchCosts | undefined;
  /**
   * Told what is measured so far, a few times a second, and all of it at the end: `allocate` makes recipes of it, also
   * where the search is stopped, or its target is out of reach.
   */
  onCosts?: ((costs: SearchCosts) => void) | undefined;
  /** As for `compress`. */
  gradients?: boolean | Fisher | undefined;
  /** As for `compress`. */
  beside?: string | undefined;
  /** As for `compress`: they share measuring what each tensor costs as well. */
  workers?: number | undefined;
}

/** Options of `gradients`. */
export interface GradientsOptions extends Running {
  /** What the model reads, as for `compress`: at most 16,384 tokens of it, evenly spaced. */
  calibration: string | ArrayLike<number>;
}

/** Options of `distill`. */
export interface DistillOptions extends TrainingOptions {
  /** What makes the student of the teacher: steps of a recipe that prune it. */
  student: readonly StepDraft[];
  /** `slice` (the default): the student begins with what its steps leave of the teacher; `fresh`: with numbers drawn anew. */
  init?: "slice" | "fresh" | undefined;
  /**
   * Told after every look at the held-out text what training is then: a snapshot, from which `resume` goes on, in another
   * visit or after a crash, to the very student that it would have become (on the same device). It has the texts, and is about as large as four students.
   */
  onSnapshot?: ((snapshot: Uint8Array<ArrayBuffer>) => void) | undefined;
  /** Ends training when it is aborted, after a last snapshot: the call fails as one that is cancelled does. */
  pause?: AbortSignal | undefined;
}

/** Options of `distill` that go on with a training from its snapshot, as it began. */
export interface ResumeOptions extends Running {
  /** What `onSnapshot` was given, of a training of the same teacher. */
  resume: Uint8Array;
  /** As for a training that begins: told again of the looks before. */
  onPoint?: DistillOptions["onPoint"];
  /** As for a training that begins. */
  sample?: DistillOptions["sample"];
  /** As for a training that begins: it need not be what began. */
  backend?: DistillOptions["backend"];
  /** As for `load`. */
  backendOptions?: DistillOptions["backendOptions"];
  /** As for a training that begins. */
  onSnapshot?: DistillOptions["onSnapshot"];
  /** As for a training that begins. */
  enough?: AbortSignal | undefined;
  /** As for a training that begins. */
  pause?: AbortSignal | undefined;
  /** As for `compress`. */
  beside?: string | undefined;
}

/**
 * Options of `recover`: `alpha` is 1 when left out. The learning rate of codes is then higher the fewer bits they have.
 */
export interface RecoverOptions extends TrainingOptions {
  /**
   * What is trained. `vectors` (the default): what no codes stand for, so that every code stays. `all`: codes too, with the
   * scales that they have, so that packed files keep their size and entropy-coded ones nearly do. Meant for few bits: its
   * learning rate was measured at 1.8 and 1.3 bits a weight.
   */
  weights?: "vectors" | "all" | undefined;
  /**
   * What the codes of the compressed checkpoint were rounded from, where that is not the original but what pruning or training had
   * made of it: codes that are trained begin beside its numbers.
   */
  uncoded?: Checkpoint | undefined;
}

/** Options of the recover step of a recipe: what it does not say itself. */
export type RecoveryOptions = Omit<TrainingOptions, "steps" | "alpha" | "learningRate" | "beside" | keyof Running>;

/** How something is trained. */
export interface TrainingOptions extends Running {
  /** A text, or ids, to train on: like what the model will be used on, and none that it is judged by. */
  text: string | ArrayLike<number>;
  /** Another text, or ids, that judges while training; the last tenth of `text`, at most 8,192 tokens, when left out. */
  heldOut?: string | ArrayLike<number> | undefined;
  /** Updates of the weights; 1000 when left out and `minutes` are as well. */
  steps?: number | undefined;
  /** How long training may take: as many steps as fit. */
  minutes?: number | undefined;
  /** Windows of an update; 2 when left out. */
  batch?: number | undefined;
  /** Tokens of a window; 256, or as many as the model has positions, when left out. */
  window?: number | undefined;
  /** How much the teacher's predictions count, 0 to 1; the text counts the rest. 0.5 when left out. */
  alpha?: number | undefined;
  /** What logits are divided by before teacher and student are compared; 1 when left out. */
  temperature?: number | undefined;
  /** The highest learning rate, which is risen to and then follows a cosine down; 0.001, or 0.003 of fresh numbers, when left out. */
  learningRate?: number | undefined;
  /** Steps in which it rises; 50, or a tenth of all, when left out. */
  warmUp?: number | undefined;
  /** Steps from one look at the held-out text to the next; 100, or a tenth of all, when left out. */
  validateEvery?: number | undefined;
  /** Looks without a better one after which training ends; it goes on to its end when left out. */
  patience?: number | undefined;
  /** What decides the order of windows, and fresh numbers; 0 when left out. */
  seed?: number | undefined;
  /** Told of every look at the held-out text. */
  onPoint?: ((look: TrainingLook) => void) | undefined;
  /**
   * How many tokens it goes on with at every look, behind the first 16 of the held-out text, at most 256: `onPoint` is told them as
   * text, where the tokenizer is known. None when left out.
   */
  sample?: number | undefined;
  /** Ends training when it is aborted: unlike with `signal`, the student is what was best so far. */
  enough?: AbortSignal | undefined;
  /**
   * What trains, as for `load`: with `auto` (the default) a GPU in hardware, if its first gradients are the CPU's; where it fails later, the
   * CPU goes on from the last look, with a finding. A GPU that was asked for ends training when it fails.
   */
  backend?: BackendName | undefined;
  /** As for `load`. */
  backendOptions?: BackendOptions | undefined;
  /** As for `compress`. */
  beside?: string | undefined;
}

/** A look at the held-out text while something is trained. */
export interface TrainingLook extends TrainingPoint {
  /** What it says now where that is asked for: the likeliest text behind a prompt. */
  sample?: { prompt: string; text: string };
}

/** Options of `load`. */
export interface LoadOptions extends Running {
  /**
   * What computes: `webgpu` is an error where it cannot be had; `auto` (the default) takes a GPU where there is one in
   * hardware, and the CPU, with a finding, where there is none or it fails.
   */
  backend?: BackendName | undefined;
  /** How a GPU is used; for tests and experiments. */
  backendOptions?: BackendOptions | undefined;
}

/** The protocol of an evaluation. */
export interface EvaluationProtocol extends Running {
  /** Tokens of a window; when left out the model's longest sequence, at most 2048, or 256 where it sets no limit. */
  window?: number | undefined;
  /** Use only that many tokens from the start. */
  limit?: number | undefined;
  /**
   * Position `t` predicts token `t + offset`; `detect` finds it by trying 0 to 3. A question only of models that have the
   * field `prediction_offset`: all others predict the next token.
   */
  offset?: number | "detect" | undefined;
}

/** How to evaluate a model. */
export interface EvaluateOptions extends EvaluationProtocol {
  /**
   * How many workers share the windows, where the CPU computes: each loads the model, or both that are compared. The numbers are
   * the same, to the last digit. As many as for `compress` when left out, by the parameters of what is loaded.
   */
  workers?: number | undefined;
}

/** A text, or ids, beside the first: exactly one of the two. */
export interface SecondText {
  text?: string | undefined;
  ids?: ArrayLike<number> | undefined;
}

/** What is evaluated on, with the protocol and the targets of the verdict. */
export interface CompareOptions extends EvaluateOptions {
  text?: string | undefined;
  ids?: ArrayLike<number> | undefined;
  /**
   * Measure on this text as well, by the same protocol; `second` of the result has what comes of it. Best one of another kind than
   * the calibration text. The verdict is by the first text.
   */
  second?: SecondText | undefined;
  backend?: LoadOptions["backend"];
  /** What computes the second one, when it is not what computes the first. */
  backendB?: LoadOptions["backend"];
  /** The ratio that counts as success. */
  ratioTarget?: number | undefined;
  /** The perplexity change in percent that is allowed. */
  lossTarget?: number | undefined;
}

/** What both read, and how. */
export interface CompareByTextOptions extends Omit<EvaluateOptions, "limit"> {
  text: string;
  /** Read only so much of the text as makes about that many tokens of the base. */
  limit?: number | undefined;
  /** Why it is compared by text, where the tokens are not the reason: it becomes `why`. */
  why?: string | undefined;
  /** How far ahead the second one predicts: its own when left out; `detect` where `offset` is. */
  offsetB?: EvaluationProtocol["offset"];
  backend?: LoadOptions["backend"];
  /** What computes the second one, when it is not what computes the first. */
  backendB?: LoadOptions["backend"];
}

/** Options of `generate`. */
export interface GenerateOptions {
  /** The most tokens to make; a model that sets a limit to a sequence ends at that, too. */
  maxTokens?: number | undefined;
  /** 0 takes the likeliest token each time. */
  temperature?: number | undefined;
  /** Sample among the k likeliest only. */
  topK?: number | undefined;
  seed?: number | undefined;
  signal?: AbortSignal | undefined;
}

/** One generated token. */
export interface Token {
  id: number;
  /** The text it adds; empty while a character is incomplete, or when there is no tokenizer. */
  text: string;
  /** Its probability under the model, before temperature and top-k. */
  probability: number;
}

/** Where a checkpoint is saved: a path (Node), a file or a folder the user picked, a stream, or a Blob. */
export type SaveTarget = string | WritableFile | WritableFolder | WritableStream<Uint8Array> | "blob";

/** A file that the user picked: a `FileSystemFileHandle`. */
export interface WritableFile {
  createWritable(): Promise<WritableStream>;
}

/** A folder that the user picked: a `FileSystemDirectoryHandle`. */
export interface WritableFolder {
  getFileHandle(name: string, options: { create: true }): Promise<WritableFile>;
}

/** What was written for another tool. */
export interface Written extends ExportReport {
  /** The files of a folder. */
  files?: string[];
}

/** Options of `save`. */
export interface SaveOptions extends Running {
  /**
   * `safetensors` (the default) is our own layout, of what `compress` produced. `plain` is a folder that transformers loads:
   * floats in `model.safetensors`, `config.json`, and the tokenizer. `bitsandbytes` is the same with linear layers as the NF4 or
   * INT8 codes that they are here, `compressed-tensors` with whole numbers of 2 to 8 bits. `gguf` is a file that llama.cpp loads, `onnx` a
   * graph that onnxruntime runs, with whole-number codes and NF4 as they are wherever it has an operator for them. All of them take whatever was opened or produced, and
   * need the module that exports to be fetched.
   */
  format?: Format | undefined;
  /** The type of matrices in `gguf`: ggml's name; the one nearest to what the checkpoint has when left out. */
  ggufType?: GgufType | undefined;
  /**
   * Whose keys the weights have in `plain`: `hf` (the default) is transformers' spelling of them, with the `config.json` that it reads;
   * `original` leaves every key and the configuration as they are in the checkpoint.
   */
  layout?: Layout | undefined;
  /** Told what was written for another tool; of a folder, which files. */
  onExport?: ((written: Written) => void) | undefined;
  /** Replace an existing file at that path. */
  force?: boolean | undefined;
}

/** The fields of `options` that are set: undefined must not reach the Rust side as a value. */
export function present<T extends object>(options: T, ...names: (keyof T)[]): object {
  return Object.fromEntries(names.filter((name) => options[name] !== undefined).map((name) => [name, options[name]]));
}
