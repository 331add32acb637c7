// An opened checkpoint: what it is, what could be done to it, and doing it.

/// <reference lib="esnext.disposable" preserve="true" />

import type { Data, Handle, Requests } from "../worker/protocol.js";
import { checkOptions, checkText, shown } from "./check.js";
import { storesCodes, trains } from "./coded.js";
import { makeDisposable } from "./disposable.js";
import type { Environment } from "./environment.js";
import { asStatepressError, badOption, StatepressError, throwIfAborted } from "./errors.js";
import { checkFormat, checkName } from "./formats.js";
import { Model } from "./model.js";
import {
  type AdviseOptions,
  type CompressOptions,
  type LoadOptions,
  present,
  type RecipeInput,
  type SaveOptions,
  type SaveTarget,
  type TensorOptions,
} from "./options.js";
import { presetOf, refusePreset } from "./presets.js";
import type { Report } from "./search.js";
import type { TokenizerChoice } from "./tokenizers.js";
import type { Advice, Inspection, MeasuredRecipe, Plan, TensorView } from "./types/statepress.js";
import { Workers } from "./workers.js";

/** An opened checkpoint. Only its headers were read. */
export class Checkpoint {
  /** What it is. */
  readonly inspection: Inspection;
  /** What compressing did, when it came from `compress`. */
  readonly report: Report | undefined;
  /** The file that was taken for the weights; of a compressed one, the file that it was made from. */
  readonly weightsName: string;
  /** @internal */
  readonly tokenizer: TokenizerChoice;
  /** @internal How it is opened again, by another host. */
  readonly opening: Requests["open"][0];
  /** @internal Whether it cannot be opened again: a produced file is gone. */
  isDisposed = false;
  /** @internal The text of the configuration beside the weights; of a produced one, of those it was made from. */
  readonly config: string | undefined;
  readonly #environment: Environment;
  readonly #handle: Handle;
  readonly #produced: Data | undefined;

  /** @internal */
  constructor(
    environment: Environment,
    opened: { checkpoint: Handle; inspection: Inspection; report?: Report; data?: Data },
    opening: Requests["open"][0],
    weightsName: string,
    tokenizer: TokenizerChoice,
    config: string | undefined = opening.config,
  ) {
    this.#environment = environment;
    this.#handle = opened.checkpoint;
    this.#produced = opened.data;
    this.opening = opening;
    this.inspection = opened.inspection;
    this.report = opened.report;
    this.weightsName = weightsName;
    this.tokenizer = tokenizer;
    this.config = config;
  }

  /** @internal */
  get handle(): Handle {
    return this.#handle;
  }

  /** The file that text becomes tokens by, or "tokenizer of FILE.gguf"; undefined when there is none, or several to choose from. */
  get tokenizerName(): string | undefined {
    return this.tokenizer.name;
  }

  /** Where there are several tokenizers to choose from, their names: `open` takes one as its option `tokenizer`. */
  get tokenizerCandidates(): readonly string[] {
    return this.tokenizer.candidates;
  }

  /** Looks closely at one tensor: its numbers, and what each of the precisions makes of them. Reads that tensor. */
  async tensor(name: string, options: TensorOptions = {}): Promise<TensorView> {
    checkText("tensor", name);
    checkOptions("tensor", options);
    const asked = present(options, "bins", "precisions", "quantize");
    return this.#environment.host.call("tensor", { checkpoint: this.#handle, name, options: asked }, options);
  }

  /** What is recommended for it: by what was measured of it or of its family, else by rules. Can measure first. */
  async advise(options: AdviseOptions = {}): Promise<Advice> {
    checkOptions("advise", options);
    const { measure, measured = [] } = options;
    const asked = present(options, "target", "maxLoss", "maxSize");
    const ask = (known: readonly MeasuredRecipe[]) =>
      this.#environment.host.call(
        "advise",
        { checkpoint: this.#handle, options: { ...asked, measured: known } },
        options,
      );
    const advice = await ask(measured);
    if (measure === undefined) return advice;
    // What cannot be measured cannot be loaded, and loading says why.
    const offer = advice.measure ?? { recipes: [], tokens: 0 };
    // Few pages measure for advice: the others do without its code.
    const { measure: measureAll } = await import("./advise.js");
    return ask([...measured, ...(await measureAll(this.#environment, this, offer, { ...options, measure }))]);
  }

  /** What a recipe will do to it, from its headers alone. Of a built-in search nothing is known before it has measured. */
  async plan(recipe: RecipeInput): Promise<Plan> {
    checkRecipe(recipe);
    refusePreset(recipe);
    return this.#environment.host.call("plan", { checkpoint: this.#handle, recipe });
  }

  /** Compresses it; the result is opened from the produced bytes, like any file. */
  async compress(recipe: RecipeInput, options: CompressOptions = {}): Promise<Checkpoint> {
    return this.compressBy(recipe, options);
  }

  /** @internal The same, by workers that are there for other things as well. */
  async compressBy(recipe: RecipeInput, options: CompressOptions, given?: Workers): Promise<Checkpoint> {
    checkRecipe(recipe);
    checkOptions("compress", options);
    if (options.recover && !trains(recipe)) {
      throw badOption("recover", "given", "none, as no step of the recipe trains");
    }
    const preset = presetOf(recipe);
    if (preset) {
      // Few pages search: the others do without its code.
      const { searchPreset } = await import("./search.js");
      return searchPreset(this.#environment, this, preset, options);
    }
    const { calibration, gradients } = options;
    if (gradients && calibration === undefined) {
      throw badOption("gradients", "given without a text", "with option calibration: the text to take them over");
    }
    if (trains(recipe)) {
      // Few pages train: the others do without its code.
      const { compressAndRecover } = await import("./recover.js");
      return compressAndRecover(this.#environment, this, recipe, options, given);
    }
    const beside = options.beside === undefined ? undefined : await this.#environment.beside(options.beside);
    const workers = given ?? new Workers(this.#environment, this.inspection.params, options.workers);
    const input = calibration === undefined ? undefined : this.tokenizer.input(calibration);
    // What the recipe is refused for should not be heard after a minute.
    if (gradients) await this.plan(recipe);
    // Few pages take gradients: the others do without their code.
    const fisher =
      gradients && input
        ? await (await import("./gradients.js")).fisherOf(this.#environment, this, gradients, input, options)
        : undefined;
    const request = { recipe, ...(beside !== undefined && { beside }), ...(fisher && { fisher }) };
    try {
      // What is stored in no codes has nothing to share. A plan also refuses what should not be heard of by so many.
      const isShared = input && storesCodes(await this.plan(recipe));
      const team = isShared ? await workers.team(options.signal) : undefined;
      const asked = { checkpoint: this.#handle, ...request, ...(input && { calibration: input }) };
      const opened =
        team && input
          ? await team.compress(this, { ...request, calibration: input }, options)
          : await this.#environment.host.call("compress", asked, options);
      const { report } = opened;
      return this.made({ ...opened, report: { ...report, findings: [...report.findings, ...workers.findings] } });
    } finally {
      if (!given) await workers.close();
    }
  }

  /** @internal What was made of it, by whatever made it. */
  made(opened: { checkpoint: Handle; inspection: Inspection; report: Report; data: Data }): Checkpoint {
    const { weightsName, tokenizer, config } = this;
    return new Checkpoint(this.#environment, opened, { data: opened.data }, weightsName, tokenizer, config);
  }

  /** @internal The same checkpoint, with more in its report. */
  reporting(more: Partial<Report>): Checkpoint {
    const produced = this.#produced === undefined ? {} : { data: this.#produced };
    const report = this.report && { report: { ...this.report, ...more } };
    const opened = { checkpoint: this.#handle, inspection: this.inspection, ...produced, ...report };
    const { opening, weightsName, tokenizer, config } = this;
    return new Checkpoint(this.#environment, opened, opening, weightsName, tokenizer, config);
  }

  /**
   * Saves what `compress` produced; for another tool, whatever this is, with `format`. Only "blob" answers with something: the
   * Blob.
   */
  async save(target: "blob", options?: SaveOptions): Promise<Blob>;
  async save(target: SaveTarget, options?: SaveOptions): Promise<Blob | undefined>;
  async save(target: SaveTarget, options: SaveOptions = {}): Promise<Blob | undefined> {
    checkOptions("save", options);
    const format = checkFormat(options.format);
    if (typeof target === "string" && target !== "blob") checkName(target, format);
    if (format !== "safetensors") {
      // Few pages export: the others do without its code.
      const { exportTo } = await import("./export.js");
      return exportTo(this.#environment, this, target, { ...options, format });
    }
    if (this.#produced === undefined) {
      const message = "this checkpoint was opened, not produced: compress it first (the recipe none only converts)";
      throw new StatepressError("unsupported", message);
    }
    throwIfAborted(options.signal);
    return this.#environment.save(this.#produced, target, options).catch((thrown: unknown) => {
      throw asStatepressError(thrown, options.signal);
    });
  }

  /**
   * Refuses what `save` could not write of this model, before any work is done; whether what is made of it can be written is seen
   * then.
   */
  async exportable(options: Pick<SaveOptions, "format" | "ggufType" | "layout" | "signal">): Promise<void> {
    checkOptions("save", options);
    const format = checkFormat(options.format);
    if (format === "safetensors") return;
    const { checkExport } = await import("./export.js");
    await checkExport(this.#environment, this, { ...options, format });
  }

  /** Loads the weights into a model that can be run. */
  async load(options: LoadOptions = {}): Promise<Model> {
    checkOptions("load", options);
    const request = {
      checkpoint: this.#handle,
      backend: options.backend ?? "auto",
      ...(options.backendOptions && { backendOptions: options.backendOptions }),
    };
    const loaded = await this.#environment.host.call("load", request, options);
    return new Model(this.#environment, loaded, this);
  }

  /** Closes the file, and deletes a produced one that was not saved. Models loaded from it live on. */
  dispose(): void {
    void this.released();
  }

  /** @internal Disposes of it, and waits until that is done. */
  async released(): Promise<void> {
    this.isDisposed = true;
    // The host may have crashed, and its memory with it: there is nothing left to free then.
    await this.#environment.host.call("release", { handle: this.#handle }).catch(() => {});
  }

  /** `using checkpoint = await open(...)` disposes of it at the end of the block. */
  declare readonly [Symbol.dispose]: () => void;
  /** As `using`, and waits until it is gone. */
  declare readonly [Symbol.asyncDispose]: () => Promise<void>;

  static {
    makeDisposable(Checkpoint.prototype);
  }
}

function checkRecipe(recipe: unknown): void {
  if (typeof recipe === "string" || (typeof recipe === "object" && recipe !== null && !Array.isArray(recipe))) return;
  const message = `a recipe is the name of a built-in one or an object with version, name and steps, not ${shown(recipe)}`;
  throw new StatepressError("bad-recipe", message);
}
