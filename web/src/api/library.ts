// The library over an environment: open, compare, compareByText, search, gradients, distill, recover, allocate, recipes, prepare.

import type { WeightsData } from "../worker/protocol.js";
import type { TextComparison } from "./by-text.js";
import { checkFields, checkInput, checkOptions, checkTokenizer, isTokenizer } from "./check.js";
import { Checkpoint } from "./checkpoint.js";
import type { Environment } from "./environment.js";
import { throwIfAborted } from "./errors.js";
import { fit } from "./fit.js";
import { type CheckpointFiles, sortFiles } from "./gather.js";
import type { Model } from "./model.js";
import type {
  CompareByTextOptions,
  CompareOptions,
  DistillOptions,
  GradientsOptions,
  Input,
  OpenOptions,
  RecoverOptions,
  ResumeOptions,
  SearchOptions,
} from "./options.js";
import type { Found } from "./search.js";
import type { Compared } from "./second.js";
import { TokenizerChoice, tokenizerCode } from "./tokenizers.js";
import type { Fisher, Recipe, SearchCosts, SearchResult, SearchTarget } from "./types/statepress.js";

/** What a page and Node share. */
export interface Library {
  /** Opens a checkpoint: reads its headers and says what it is. */
  open(input: Input, options?: OpenOptions): Promise<Checkpoint>;
  /** The quality card: both on the same tokens, and on a second text where one is given. `a` is the base. */
  compare(a: Checkpoint | Model, b: Checkpoint | Model, options: CompareOptions): Promise<Compared>;
  /**
   * Two models whose tokens differ (see `tokensDiffer`) on the same text, each in its own: bits per byte of text, speed
   * and size. KL divergence and top-1 agreement are not defined then, and perplexities are of unlike tokens.
   */
  compareByText(a: Checkpoint | Model, b: Checkpoint | Model, options: CompareByTextOptions): Promise<TextComparison>;
  /**
   * The best recipe under a target, carried out and measured: `{ ratio: 8 }`, `{ bytes: 1e6 }`, `{ maxKl: 0.01 }` (nats a
   * token) or `{ maxLoss: 2 }` (perplexity change in percent).
   */
  search(checkpoint: Checkpoint, target: SearchTarget, options: SearchOptions): Promise<Found>;
  /**
   * Takes what gradients say of a checkpoint while it reads a text, for `compress` and `search` to round it by: taken once, it can
   * be given to as many as one likes.
   */
  gradients(checkpoint: Checkpoint, options: GradientsOptions): Promise<Fisher>;
  /** Trains a student, which is made of the teacher, to predict as it does. The student's report says how that went. */
  distill(teacher: Checkpoint, options: DistillOptions | ResumeOptions): Promise<Checkpoint>;
  /**
   * Heals what compressing lost: norms, biases and how states decay, skip and step are trained to predict as the original
   * does, and with `weights: "all"` codes too. The report has `recovered`, measured on the held-out text.
   */
  recover(original: Checkpoint, compressed: Checkpoint, options: RecoverOptions): Promise<Checkpoint>;
  /** The recipe that reaches a target by the costs that a search has measured: at once, and carried out by nobody yet. */
  allocate(costs: SearchCosts, target: SearchTarget): Promise<SearchResult>;
  /** The built-in recipes: `PRESETS` are those that are searched for. */
  recipes(): Promise<Recipe[]>;
  /** Fetches what else is fetched when the first checkpoint is opened or compared: for pages that may have no network by then. */
  prepare(): Promise<void>;
}

/** The library of an environment. */
export function library(environment: Environment): Library {
  return {
    async open(input, options = {}) {
      checkOptions("open", options);
      checkInput(input);
      checkTokenizer(options.tokenizer);
      checkFields(options.set);
      throwIfAborted(options.signal);
      const files = await sortFiles(await environment.gather(input));
      const chosen = await choose(environment, options.tokenizer, files.tokenizers);
      throwIfAborted(options.signal);
      const request = {
        data: weightsOf(files),
        ...(files.config !== undefined && { config: files.config }),
        ...(options.set && { set: options.set }),
        ...(options.weights !== undefined && { weights: options.weights }),
      };
      const opened = await environment.host.call("open", request, { signal: options.signal });
      const { name } = files.weights;
      const { findings, format } = opened.inspection;
      // Its header says all of it: what lies beside may be of what the file was made from.
      if (format === "gguf") delete request.config;
      const isLacking = options.tokenizer === undefined && !chosen.known && chosen.candidates.length === 0;
      // Few pages open such files: the others do without the code.
      const tokenizer =
        isLacking && format === "gguf"
          ? await (await import("./gguf.js")).tokenizerIn(environment.host, opened.checkpoint, name, chosen)
          : chosen;
      // One that could not be read was not taken for anything.
      const ignored = findings.some(({ code }) => code === "config-ignored");
      findings.push(...files.findings.filter(({ code }) => !(ignored && code === "config-beside")));
      findings.push(...tokenizer.findings, ...(await fit(environment.host, tokenizer, opened.inspection)));
      return new Checkpoint(environment, opened, request, name, tokenizer);
    },

    async compare(a, b, options) {
      // A page comes first, and what it does later later.
      const { compareBy } = await import("./compare.js");
      return compareBy(environment, a, b, options);
    },

    async compareByText(a, b, options) {
      // Few pages do this, search or train: the others do without its code.
      const { compareByText } = await import("./compare-by-text.js");
      return compareByText(environment, a, b, options);
    },

    async search(checkpoint, target, options) {
      checkOptions("search", options);
      const input = checkpoint.tokenizer.input(options.calibration);
      const { search } = await import("./search.js");
      return search(environment, checkpoint, input, target, options);
    },

    async gradients(checkpoint, options) {
      checkOptions("gradients", options);
      const { gradients } = await import("./gradients.js");
      return gradients(environment, checkpoint, checkpoint.tokenizer.input(options.calibration), options);
    },

    async distill(teacher, options) {
      checkOptions("distill", options);
      const { distill } = await import("./distill.js");
      return distill(environment, teacher, options);
    },

    async recover(original, compressed, options) {
      checkOptions("recover", options);
      const { recover } = await import("./recover.js");
      return recover(environment, [original, compressed], options);
    },

    allocate: (costs, target) => environment.host.call("allocate", { costs, target }),

    recipes: () => environment.host.call("recipes", {}),

    async prepare() {
      const code = [tokenizerCode(), import("./gguf.js"), import("./compare.js")];
      await Promise.all([environment.host.call("prepare", {}), ...code]);
    },
  };
}

/** The weights for the host: shards are opened together. */
function weightsOf({ weights, index }: CheckpointFiles): WeightsData {
  const [only, ...more] = weights.files;
  // One shard of several has the name of the whole: that the others lack is found out where shards are opened.
  if (only && more.length === 0 && !weights.index && only.name === weights.name) return only.data;
  const shards = weights.files.map(({ name, data }) => ({ name, data }));
  return { shards, ...(weights.index && { index: { name: weights.index.name, text: index ?? "" } }) };
}

async function choose(
  environment: Environment,
  given: OpenOptions["tokenizer"],
  found: Parameters<typeof TokenizerChoice.among>[0],
): Promise<TokenizerChoice> {
  if (given === undefined) return TokenizerChoice.among(found);
  if (isTokenizer(given)) return TokenizerChoice.given(given);
  const inputs = typeof given === "string" || given instanceof Blob ? [given] : given;
  const files = await Promise.all(inputs.map((it) => environment.tokenizer(it)));
  return TokenizerChoice.named(files.flat());
}
