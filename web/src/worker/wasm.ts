// The wasm module as TypeScript sees it, the choice among its three builds, and how it is loaded.
//
// The classes are handles to memory of the module: free() gives it back; jobs are consumed by finish().

import { StatepressError } from "../api/errors.js";
import type {
  Advice,
  Comparison,
  CompressReport,
  Evaluation,
  ExportReport,
  Finding,
  Fisher,
  GeneratedToken,
  Inspection,
  Plan,
  Progress,
  Recipe,
  SearchCosts,
  SearchNext,
  SearchResult,
  SearchSteps,
  SearchTarget,
  SearchTry,
  TensorCosts,
  TensorView,
  Training,
  TrainingPoint,
} from "../api/types/statepress.js";
import { type Build, bestBuild } from "./builds.js";

export type { Build };

/** Random access to the bytes of a file. Short reads are errors. */
export interface Source {
  /** Of a shard: what it is called. */
  name?: string;
  size: number;
  readAt(offset: number, buffer: Uint8Array): void;
}

/** Where produced bytes go, in order. The bytes are only valid during the call. */
export interface Sink {
  write(bytes: Uint8Array): void;
}

/** What is there at once, or has to be waited for: on the CPU it is there. */
export type Later<T> = T | Promise<T>;

/** Work in steps: undefined says that nothing is left and finish() may be asked. Steps do not overlap. */
export interface Job<T> {
  step(): Later<Progress | undefined>;
  finish(): T;
  free(): void;
}

/** Costs being measured. */
export interface WasmCosts extends Job<SearchCosts> {
  /** Those that are there. */
  costs(): SearchCosts;
}

/** What training did, and what was written of it. */
export type DistillReport = CompressReport & { training: Training };

/** What came of a share of the rounding; for whoever joins the shares. */
export type ShareReport = { peakMemory: number };

/** What came of a window; for whoever joins the shares. */
export type SharedWindow = { window: number };

/** What was written for another tool, and the text of a `config.json` that goes beside it. */
export interface Exported {
  report: ExportReport;
  config?: string;
}

/** A training run that was written down. */
export interface WasmSnapshot {
  /** What makes the student, in the words of whoever trained it. */
  student(): string;
  /** Updates that were done. */
  readonly at: number;
  ids(): Uint32Array;
  heldOut(): Uint32Array;
  free(): void;
}

/** Training, which tells of its looks at the held-out text. */
export interface WasmDistill extends Job<DistillReport> {
  /** Goes to where a run was that was written down, before the first step; takes the snapshot with it. */
  goOn(snapshot: WasmSnapshot): Later<void>;
  /** The run as it is now; nothing once training is over. */
  snapshot(student: string): Later<Uint8Array<ArrayBuffer> | undefined>;
  /** The looks from the `from`th on. */
  curve(from: number): TrainingPoint[];
  /** The ids that the student goes on with behind a prompt, as it is now. */
  sample(prompt: Uint32Array, count: number): Later<Uint32Array>;
  /** Ends the training before its last step: the steps that follow write what was best so far. */
  stop(): Later<void>;
}

/** What a model is once it is in memory. */
export interface ModelInfo {
  /** Bytes of weights, scales and tables in memory. */
  bytes: number;
  /** Bytes of the file they came from. */
  fileBytes: number;
  vocabSize: number;
  /** The longest sequence; undefined where the model sets no limit. */
  maxTokens?: number | undefined;
  /** Position `t` predicts token `t + offset`. */
  offset: number;
  findings: Finding[];
}

/** What may be asked for. */
export type BackendName = "auto" | "cpu" | "webgpu";

/** How a GPU is used; for tests and experiments. */
export interface BackendOptions {
  /** Use subgroup operations where the adapter has them. */
  subgroups?: boolean;
  /** Multiply INT8 weights in packed integers where the adapter can. */
  packedDot?: boolean;
  /** Run small blocks op by op, as large ones are. */
  opByOp?: boolean;
  /** Let `auto` have a software adapter, too. */
  software?: boolean;
  /** Pretend that no buffer can be larger than this. */
  maxBuffer?: number;
}

/** A GPU. */
export interface AdapterInfo {
  name: string;
  /** How it is reached: `webgpu` in pages and in Node. */
  api: string;
  /** What it offers beyond what every adapter does. */
  features: string[];
  /** Whether it is a program on the CPU. */
  software: boolean;
  /** The most bytes of one buffer. */
  maxBuffer: number;
}

/** What computes, and why. */
export interface BackendInfo {
  name: "cpu" | "webgpu";
  reason: string;
  adapter?: AdapterInfo;
  /** What a report should say of the choice. */
  finding?: Finding;
}

/** A backend that was chosen and checked. */
export interface WasmBackend {
  info(): BackendInfo;
  /** Gives the GPU up, as a driver that is reset does. */
  lose(): void;
  /** Has burn open the GPU as well, if it is one; only in the module that trains. */
  readyToTrain?(): Later<void>;
  free(): void;
}

/** What a kernel costs in one decoded token. */
export interface Explained {
  kernel: string;
  /** Of its matrices. */
  precisions: string;
  dispatches: number;
  /** Bytes of weights that are read: chosen experts only, and one row of a table. */
  weights: number;
  /** Bytes of activations and state that are read and written. */
  activations: number;
}

/** An opened checkpoint: its headers. */
export interface WasmCheckpoint {
  inspection(): Inspection;
  /** Of a GGUF file what it says of its vocabulary, under the file's keys: the text of a JSON object. */
  vocabulary(): string | undefined;
  tensor(name: string, options: object): TensorView;
  advise(options: object): Advice;
  plan(recipe: object | string): Plan;
  /** Whether what the first steps of a recipe leave is kept for the next one that begins alike. */
  keepFirstSteps(whether: boolean): void;
  compress(recipe: object | string, sink: Sink): Job<CompressReport>;
  /** Rounding errors are made up for by what the checkpoint's model computes when it reads `ids`. */
  compressCalibrated(
    recipe: object | string,
    sink: Sink,
    model: WasmModel,
    ids: Uint32Array,
    fisher: Fisher | undefined,
  ): Job<CompressReport>;
  /** Rounds one of `count` shares of the tensors; only in the module that shares work. */
  compressShare?(
    recipe: object | string,
    sink: Sink,
    model: WasmModel,
    ids: Uint32Array,
    fisher: Fisher | undefined,
    index: number,
    count: number,
  ): Job<ShareReport>;
  /** Writes what all shares are together: what `compressCalibrated` would; likewise. */
  compressJoined?(
    recipe: object | string,
    sink: Sink,
    model: WasmModel,
    ids: Uint32Array,
    fisher: Fisher | undefined,
    parts: Source[],
    reports: ShareReport[],
  ): Job<CompressReport>;
  /** `searchCosts` of one of `count` shares of the tensors, and of those that are known; likewise. */
  searchCostsShare?(
    model: WasmModel,
    read: Uint32Array,
    judged: Uint32Array,
    fast: boolean,
    coded: boolean,
    known: TensorCosts[],
    fisher: Fisher | undefined,
    index: number,
    count: number,
  ): WasmCosts;
  /** The steps that a search begins with: those of a recipe, and what an entropy coder wants before. */
  searchSteps(first: object, coded: boolean): SearchSteps;
  /** What rounding each tensor alone costs the model that reads one text and is judged by another; `known` begins it. */
  searchCosts(
    model: WasmModel,
    read: Uint32Array,
    judged: Uint32Array,
    fast: boolean,
    coded: boolean,
    known: TensorCosts[],
    fisher: Fisher | undefined,
  ): WasmCosts;
  load(backend: WasmBackend): Job<WasmModel>;
  /** Writes it for another tool; only in the module that exports. */
  export?(options: object, sink: Sink): Job<Exported>;
  /**
   * Trains it as the student of the checkpoint `original`, whose model is `teacher`; codes, if it has any, were rounded from
   * `uncoded`. Only in the module that trains.
   */
  distill?(
    teacher: WasmModel,
    original: WasmCheckpoint,
    uncoded: WasmCheckpoint,
    ids: Uint32Array,
    heldOut: Uint32Array,
    options: object,
    backend: WasmBackend,
    sink: Sink,
  ): WasmDistill;
  /** The training that a snapshot is of, which began with this checkpoint; likewise. */
  resume?(
    teacher: WasmModel,
    original: WasmCheckpoint,
    uncoded: WasmCheckpoint,
    snapshot: WasmSnapshot,
    options: object,
    backend: WasmBackend,
    sink: Sink,
  ): WasmDistill;
  /** What the loss feels of it while it reads; only of the module that trains. */
  gradients?(ids: Uint32Array): Job<Fisher>;
  free(): void;
}

/** A model in memory. */
export interface WasmModel {
  info(): ModelInfo;
  evaluate(ids: Uint32Array, options: object): Job<Evaluation>;
  /** `evaluate` of one of `count` shares of the windows; only in the module that shares work. */
  evaluateShare?(ids: Uint32Array, options: object, index: number, count: number): Job<SharedWindow[]>;
  /** What `evaluate` gives, by all shares; likewise. */
  evaluateJoined?(ids: Uint32Array, options: object, shares: SharedWindow[][]): Job<Evaluation>;
  compare(other: WasmModel, ids: Uint32Array, options: object): Job<Comparison>;
  /** `compare` of one of `count` shares of the windows; likewise. */
  compareShare?(other: WasmModel, ids: Uint32Array, options: object, index: number, count: number): Job<SharedWindow[]>;
  /** What `compare` gives, by all shares; likewise. */
  compareJoined?(other: WasmModel, ids: Uint32Array, options: object, shares: SharedWindow[][]): Job<Comparison>;
  generate(ids: Uint32Array, options: object): WasmGenerator;
  logits(ids: Uint32Array): Later<Float32Array>;
  /** Undefined on the CPU. */
  explain(): Explained[] | undefined;
  free(): void;
}

/** Several tokens a step, after the prompt was taken in. */
export interface WasmGenerator {
  prefill(): Later<void>;
  /** At least one and at most `count`; none at the end. */
  step(count: number): Later<GeneratedToken[]>;
  /** Why generation ended; undefined before. */
  stop(): string | undefined;
  free(): void;
}

/** What a build exports. */
export interface Wasm {
  Checkpoint: {
    open(
      source: Source,
      options: { config?: string; set?: Record<string, number | boolean | number[]>; weights?: string },
    ): WasmCheckpoint;
    openShards(
      sources: Source[],
      options: {
        index?: { name: string; text: string };
        config?: string;
        set?: Record<string, number | boolean | number[]>;
        weights?: string;
      },
    ): WasmCheckpoint;
  };
  Backend: {
    choose(wanted: BackendName, options: BackendOptions & { absent?: string }): Later<WasmBackend>;
  };
  /** Only in the module that trains. */
  TrainingSnapshot?: { open(bytes: Uint8Array): WasmSnapshot };
  recipes(): Recipe[];
  /** The recipe for a target, by what each tensor costs. */
  allocate(costs: SearchCosts, target: SearchTarget): SearchResult;
  /** The recipe to try for a target after those that were tried, by what was measured of them. */
  nextTry(costs: SearchCosts, target: SearchTarget, tried: readonly SearchTry[]): SearchNext;
  /** Of a calibration text what is read, and what judges. Refuses a target that is none, or two. */
  searchTexts(ids: Uint32Array, target: SearchTarget): [read: Uint32Array, judged: Uint32Array];
  build(): Build;
}

/** The glue of wasm-bindgen: `default` instantiates. */
interface Glue extends Wasm {
  default(options: { module_or_path: URL | ArrayBufferView | ArrayBuffer }): Promise<{
    /** What is to run before everything else; in the module that trains. */
    __wasm_call_ctors?(): void;
  }>;
}

/**
 * A build; or a module with more, which nobody loads who has no use for it: `distill` trains, `extra` exports and shares work.
 */
export type ModuleName = Build | "distill" | "extra";

/** A module by name, or the best build when none is named. */
export function chooseModule(name: string | undefined): ModuleName {
  if (name === undefined || name === "" || name === "auto") return bestBuild();
  if (name === "distill" || name === "extra") {
    if (bestBuild() !== "base") return name;
    throw new StatepressError(
      "unsupported",
      "training, exports and workers need an engine with WebAssembly SIMD, which this one has not",
    );
  }
  if (name === "base" || name === "simd" || name === "relaxed") return name;
  throw new StatepressError("bad-option", `build is ${JSON.stringify(name)}; allowed: auto, base, simd, relaxed`, {
    option: "build",
    allowed: ["auto", "base", "simd", "relaxed"],
  });
}

/** Loads a module; `read` fetches its bytes where fetch() cannot. */
export async function loadWasm(
  build: ModuleName,
  read?: (url: URL) => Promise<ArrayBufferView | ArrayBuffer>,
): Promise<Wasm> {
  const url = new URL(`../../wasm/${build}/statepress_wasm_bg.wasm`, import.meta.url);
  try {
    const glue = (await glueOf(build)) as unknown as Glue;
    const module = await glue.default({ module_or_path: read ? await read(url) : url });
    module.__wasm_call_ctors?.();
    return glue;
  } catch (error) {
    const does = { distill: "trains", extra: "exports and shares work", base: "", simd: "", relaxed: "" }[build];
    const what = does
      ? `the module that ${does}, which is fetched when it is first asked for, cannot be loaded (is there a network?)`
      : `the ${build} build of the wasm module cannot be loaded`;
    throw new StatepressError("unsupported", `${what}: ${(error as Error).message}`, { build }, error);
  }
}

// Spelled out, so that bundlers see what is loaded.
function glueOf(build: ModuleName): Promise<unknown> {
  switch (build) {
    case "base":
      return import("../../wasm/base/statepress_wasm.js");
    case "simd":
      return import("../../wasm/simd/statepress_wasm.js");
    case "relaxed":
      return import("../../wasm/relaxed/statepress_wasm.js");
    case "distill":
      return import("../../wasm/distill/statepress_wasm.js");
    case "extra":
      return import("../../wasm/extra/statepress_wasm.js");
  }
}
