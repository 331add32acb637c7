// What the library asks of the host that holds checkpoints and models, in a worker or in the same thread.
//
// Weights never cross: checkpoints and models are numbers here, files are handles, produced files are Blobs or paths.

import type {
  Advice,
  Comparison,
  CompressReport,
  Evaluation,
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
  TrainingPoint,
} from "../api/types/statepress.js";
import type {
  AdapterInfo,
  BackendInfo,
  BackendName,
  BackendOptions,
  Build,
  DistillReport,
  Explained,
  Exported,
  ModelInfo,
  SharedWindow,
  ShareReport,
} from "./wasm.js";

/** Bytes somewhere: in a page a Blob, in Node a path or memory. */
export type Data = Blob | Uint8Array | { path: string };

/** The bytes of a checkpoint: one file, or shards with the text of their index where there is one. */
export type WeightsData = Data | { shards: { name: string; data: Data }[]; index?: { name: string; text: string } };

/** The text of a tokenizer file; of a `vocab.json` those beside it as well. */
export interface TokenizerFile {
  name: string;
  json: string;
  merges?: string;
  config?: string;
}

/** Names a checkpoint or a model that the host holds. */
export type Handle = number;

/** What is put through a model: ids, or a text for the host to encode. */
export type Input = { ids: Uint32Array } | { text: string; tokenizer: TokenizerFile };

/** One of so many shares of some work, counted from 0. */
export interface Share {
  index: number;
  count: number;
}

/** A file that was produced, which whoever asked for it has to discard, and what is to be told of it. */
export interface Made<T> {
  report: T;
  data: Data;
}

/** A recipe with what it is followed by. */
interface Calibrated {
  checkpoint: Handle;
  recipe: object | string;
  calibration: Input;
  fisher?: Fisher;
}

/** A model and what it reads. */
export interface Evaluated {
  model: Handle;
  input: Input;
  options: object;
}

/** Two models and what both read. */
export interface Pair {
  a: Handle;
  b: Handle;
  input: Input;
  options: object;
}

/** What each request takes and answers. */
export interface Requests {
  open: [
    {
      data: WeightsData;
      config?: string;
      set?: Record<string, number | boolean | number[]>;
      /** Where in a file the weights are, where the user says so. */
      weights?: string;
      /** Whether it is a file that was produced for this checkpoint alone: it is deleted with it. */
      produced?: boolean;
    },
    { checkpoint: Handle; inspection: Inspection },
  ];
  /** What a GGUF file says of its vocabulary: the text of a JSON object. */
  vocabulary: [{ checkpoint: Handle }, { text: string | undefined }];
  tensor: [{ checkpoint: Handle; name: string; options: object }, TensorView];
  advise: [{ checkpoint: Handle; options: object }, Advice];
  plan: [{ checkpoint: Handle; recipe: object | string }, Plan];
  compress: [
    {
      checkpoint: Handle;
      recipe: object | string;
      /** The file beside which the produced one is kept, where that is known to be on its way. */
      beside?: string;
      /** What the model reads, so that rounding errors can be made up for. */
      calibration?: Input;
      /** What its gradients say of it, where they were taken. */
      fisher?: Fisher;
    },
    { checkpoint: Handle; inspection: Inspection; report: CompressReport; data: Data },
  ];
  /** Rounds a share of what `compress` would; only a host of the module that shares work can. */
  compressShare: [Calibrated & { share: Share }, Made<ShareReport>];
  /** Writes what all shares are together: what `compress` would; likewise. */
  compressJoined: [Calibrated & { shares: Made<ShareReport>[]; beside?: string }, Made<CompressReport>];
  /** Whether what the first steps of a recipe leave is kept for the next one that begins alike. */
  keepFirstSteps: [{ checkpoint: Handle; whether: boolean }, undefined];
  /** Three quarters of a calibration text, which are read, and of the last one what judges. Refuses a target that is none. */
  searchTexts: [
    { calibration: Input; target: SearchTarget },
    { read: Uint32Array; judged: Uint32Array; findings: Finding[] },
  ];
  /** The steps that a search begins with: those of a recipe, and what an entropy coder wants before. */
  searchSteps: [{ checkpoint: Handle; first: object; coded: boolean }, SearchSteps];
  /** What each tensor costs. */
  searchCosts: [
    /** What is known from an earlier call is not measured again. */
    {
      checkpoint: Handle;
      read: Uint32Array;
      judged: Uint32Array;
      fast: boolean;
      coded: boolean;
      known: TensorCosts[];
      fisher?: Fisher;
      /** Only a share of what is not known; only a host of the module that shares work can. */
      share?: Share;
    },
    SearchCosts,
  ];
  /**
   * The ids that are trained on, and those that judge: held out at the end of the same text where none are given. Refuses a backend
   * that cannot be had, before anything is done for the training.
   */
  trainingTexts: [
    { text: Input; heldOut?: Input; backend?: BackendName; backendOptions?: BackendOptions },
    { ids: Uint32Array; heldOut: Uint32Array; findings: Finding[] },
  ];
  /** What a training run that was written down is of; only a host of the module that trains can. */
  trainingSnapshot: [{ snapshot: Uint8Array }, { student: string; at: number; ids: Uint32Array; heldOut: Uint32Array }];
  /**
   * Trains a checkpoint as the student of another; likewise. Its codes were rounded from `uncoded`, or the original. `about` says
   * what makes the student, to snapshots.
   */
  distill: [
    {
      student: Handle;
      original: Handle;
      uncoded?: Handle;
      ids: Uint32Array;
      heldOut: Uint32Array;
      options: object & { init?: string };
      beside?: string;
      about?: string;
      /** Behind how many ids of the held-out text the student goes on at every look, and for how many. */
      sample?: { prompt: number; count: number };
      /** What it goes on from, which has its texts and options. */
      resume?: Uint8Array;
      /** What trains; `auto` when left out. */
      backend?: BackendName;
      backendOptions?: BackendOptions;
    },
    { report: DistillReport; data: Data },
  ];
  /** What the loss feels inside a model while it reads; only a host of the module that trains can. */
  gradients: [{ checkpoint: Handle; input: Input }, Fisher];
  /** Writes a checkpoint for another tool; only a host of the module that exports can. What it produced has to be discarded. */
  export: [{ checkpoint: Handle; options: object }, Exported & { data: Data }];
  /** Refuses what could not be exported, before anything is written. */
  exportable: [{ checkpoint: Handle; options: object }, undefined];
  /** Deletes what an export has produced. */
  discard: [{ data: Data }, undefined];
  allocate: [{ costs: SearchCosts; target: SearchTarget }, SearchResult];
  /** The recipe to try for a target after those that were tried. */
  nextTry: [{ costs: SearchCosts; target: SearchTarget; tried: readonly SearchTry[] }, SearchNext];
  load: [
    { checkpoint: Handle; backend: BackendName; backendOptions?: BackendOptions },
    { model: Handle; info: ModelInfo; backend: BackendInfo },
  ];
  /** Reads a tokenizer: how many ids it has, and the one of all that is unknown where its layout has one. */
  tokenizer: [{ tokenizer: TokenizerFile }, { size: number; unknown?: number }];
  /** How many tokens an input is. */
  count: [{ input: Input }, { tokens: number }];
  evaluate: [Evaluated, Evaluation];
  /** Evaluates on a share of the windows; only a host of the module that shares work can. */
  evaluateShare: [Evaluated & { share: Share }, SharedWindow[]];
  /** What `evaluate` would give, of all shares; likewise. */
  evaluateJoined: [Evaluated & { shares: SharedWindow[][] }, Evaluation];
  compare: [Pair, Comparison];
  /** Compares on a share of the windows; likewise. */
  compareShare: [Pair & { share: Share }, SharedWindow[]];
  /** The card of all shares: what `compare` would give; likewise. */
  compareJoined: [Pair & { shares: SharedWindow[][] }, Comparison];
  generate: [{ model: Handle; ids: Uint32Array; options: object }, Generation];
  logits: [{ model: Handle; ids: Uint32Array }, Float32Array];
  bench: [{ model: Handle; options: BenchOptions }, BenchResult];
  recipes: [Record<never, never>, Recipe[]];
  /** Loads what reads tokenizers, before there is one. */
  prepare: [Record<never, never>, undefined];
  /** For tests: loses the GPU that a model is on. */
  lose: [{ model: Handle }, undefined];
  release: [{ handle: Handle }, undefined];
}

/** How a generation went. */
export interface Generation {
  /** While the prompt was taken in, and while tokens were made. */
  tokensPerSecond: { prefill: number; decode: number };
  /** Why it ended: `max-tokens`, or `context-full` at the model's longest sequence. */
  stop: string;
  /** What computed. */
  backend: string;
  findings: Finding[];
}

/** How a model is timed. */
export interface BenchOptions {
  /** Tokens of the prompt; the model's longest sequence less what is decoded when left out. */
  prefillTokens?: number | undefined;
  /** Tokens made one at a time. */
  decodeTokens?: number | undefined;
  /** How often; the median is reported. */
  repeats?: number | undefined;
  /** Say what a decoded token costs on the GPU. */
  explain?: boolean | undefined;
}

/** How fast a model is: medians. */
export interface BenchResult {
  prefillTokensPerSecond: number;
  decodeTokensPerSecond: number;
  prefillTokens: number;
  decodeTokens: number;
  repeats: number;
  backend: string;
  /** The GPU that computed. */
  adapter?: AdapterInfo;
  /** What a decoded token costs on the GPU, when asked for. */
  explain?: Explained[];
  build: Build;
}

/** What goes on beside a request. */
export interface Context {
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: Progress) => void) | undefined;
  onTokens?: ((tokens: GeneratedToken[]) => void) | undefined;
  onCosts?: ((costs: SearchCosts) => void) | undefined;
  onPoint?: ((point: Look) => void) | undefined;
  onSnapshot?: ((snapshot: Uint8Array<ArrayBuffer>) => void) | undefined;
  /** Ends training early: what was best so far is kept. */
  enough?: AbortSignal | undefined;
  /** Ends training after a snapshot, from which it goes on another time. */
  pause?: AbortSignal | undefined;
}

/** A look at the held-out text, and the ids that the student goes on with behind its beginning, where that is asked for. */
export interface Look extends TrainingPoint {
  said?: Uint32Array;
}

/** What a caller wants to be told of beside the answer. */
export interface Told {
  progress: boolean;
  costs: boolean;
  points: boolean;
  snapshots: boolean;
}

/** Whoever holds the checkpoints and models. */
export interface Host {
  call<K extends keyof Requests>(name: K, request: Requests[K][0], context?: Context): Promise<Requests[K][1]>;
}

/** How a call is ended before its time. */
export type Stop = "abort" | "enough" | "pause";

/** Page to worker. */
export type ToWorker =
  | { type: "start"; build: string | undefined; firstHandle: Handle }
  | { type: "call"; id: number; name: keyof Requests; request: unknown; told: Told }
  | { type: Stop; id: number };

/** Worker to page. */
export type FromWorker =
  | { type: "answer"; id: number; answer: unknown }
  | { type: "error"; id: number; error: { code: string; message: string; facts: Record<string, unknown> } }
  | { type: "progress"; id: number; progress: Progress }
  | { type: "tokens"; id: number; tokens: GeneratedToken[] }
  | { type: "costs"; id: number; costs: SearchCosts }
  | { type: "point"; id: number; point: Look }
  | { type: "snapshot"; id: number; snapshot: Uint8Array<ArrayBuffer> };
