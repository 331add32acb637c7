// Holds checkpoints and models, and answers the requests of the library about them.
//
// In a page it lives in a worker; in Node and in a user's own worker the library calls it directly.

import { asStatepressError, StatepressError, throwIfAborted } from "../api/errors.js";
import type { Comparison, CompressReport, Evaluation, Finding, Fisher } from "../api/types/statepress.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { Backends, isOfGpu } from "./backends.js";
import { telling } from "./costs.js";
import { generate } from "./generating.js";
import { Holder } from "./held.js";
import { release, run } from "./jobs.js";
import { type OpenSettings, openCheckpoint } from "./opening.js";
import { because, fallBack, PlacedModel } from "./placed.js";
import type { Platform } from "./platform.js";
import type {
  Context,
  Evaluated,
  Handle,
  Host,
  Input,
  Pair,
  Requests,
  TokenizerFile,
  WeightsData,
} from "./protocol.js";
import { chooseModule, type Sink, type Wasm, type WasmBackend, type WasmCheckpoint, type WasmModel } from "./wasm.js";

type Answers = { [K in keyof Requests]: (request: Requests[K][0], context: Context) => Promise<Requests[K][1]> };

/** The host in the thread of its caller. */
export class LocalHost implements Host {
  readonly #platform: Platform;
  readonly #build: string | undefined;
  #wasm: Promise<Wasm> | undefined;
  readonly #checkpoints: Holder<WasmCheckpoint>;
  readonly #models: Holder<PlacedModel>;
  readonly #backends: Backends;
  #tokenizer: { file: TokenizerFile; read: Promise<Tokenizer> } | undefined;
  #crash: StatepressError | undefined;

  constructor(platform: Platform, build?: string, firstHandle: Handle = 1) {
    let handle = firstHandle;
    const next = () => handle++;
    this.#checkpoints = new Holder(next);
    this.#models = new Holder(next);
    this.#platform = platform;
    this.#backends = new Backends(platform, () => this.#module());
    this.#build = build;
  }

  async call<K extends keyof Requests>(
    name: K,
    request: Requests[K][0],
    context: Context = {},
  ): Promise<Requests[K][1]> {
    try {
      if (this.#crash) throw this.#crash;
      throwIfAborted(context.signal);
      return await this.#answers[name](request, context);
    } catch (thrown) {
      const error = asStatepressError(thrown);
      if (error.code === "crashed") this.#crash = error;
      // A device that has failed stays so: whoever asks next gets another one.
      if (isOfGpu(error)) this.#backends.forget();
      throw error;
    }
  }

  readonly #answers: Answers = {
    open: ({ data, config, set, weights, produced }) => {
      const settings = {
        ...(config !== undefined && { config }),
        ...(set && { set }),
        ...(weights !== undefined && { weights }),
      };
      return this.#open(data, settings, () => {
        if (produced && !("shards" in data)) this.#platform.remove(data);
      });
    },

    vocabulary: ({ checkpoint }) => this.#checkpoints.with(checkpoint, async (it) => ({ text: it.vocabulary() })),

    tensor: ({ checkpoint, name, options }) =>
      this.#checkpoints.with(checkpoint, async (it) => it.tensor(name, options)),

    advise: ({ checkpoint, options }) => this.#checkpoints.with(checkpoint, async (it) => it.advise(options)),

    plan: ({ checkpoint, recipe }) => this.#checkpoints.with(checkpoint, async (it) => it.plan(recipe)),

    compress: ({ checkpoint, recipe, beside, calibration, fisher }, context) =>
      this.#checkpoints.with(checkpoint, async (it) => {
        const scratch = this.#platform.scratch(beside);
        try {
          const report = await (calibration
            ? this.#calibrated(it, recipe, scratch, { ...(await this.#tokens(calibration)), fisher }, context)
            : run(it.compress(recipe, scratch), context, this.#platform.breathe));
          const data = scratch.finish();
          const opened = await this.#open(data, {}, () => this.#platform.remove(data));
          return { ...opened, report, data };
        } catch (error) {
          scratch.discard();
          throw error;
        }
      }),

    compressShare: ({ checkpoint, recipe, calibration, fisher, share }, context) =>
      this.#checkpoints.with(checkpoint, async (it) => {
        // Nobody loads it who shares no work.
        const { rounded } = await import("./sharing.js");
        const { ids } = await this.#tokens(calibration);
        const followed = { recipe, ids, fisher };
        return this.#withModel(it, context, (model) => rounded(this.#platform, it, model, followed, share, context));
      }),

    compressJoined: ({ checkpoint, recipe, calibration, fisher, ...parts }, context) =>
      this.#checkpoints.with(checkpoint, async (it) => {
        const { joined } = await import("./sharing.js");
        const { ids, findings } = await this.#tokens(calibration);
        const { data, report } = await this.#withModel(it, context, (model) =>
          joined(this.#platform, it, model, { recipe, ids, fisher }, { beside: undefined, ...parts }, context),
        );
        return { data, report: { ...report, findings: [...findings, ...report.findings] } };
      }),

    keepFirstSteps: ({ checkpoint, whether }) =>
      this.#checkpoints.with(checkpoint, async (it) => {
        it.keepFirstSteps(whether);
        return undefined;
      }),

    searchTexts: async ({ calibration, target }) => {
      const { ids, findings } = await this.#tokens(calibration);
      const [read, judged] = (await this.#module()).searchTexts(ids, target);
      return { read, judged, findings };
    },

    searchSteps: ({ checkpoint, first, coded }) =>
      this.#checkpoints.with(checkpoint, async (it) => it.searchSteps(first, coded)),

    searchCosts: ({ checkpoint, share, ...asked }, context) =>
      this.#checkpoints.with(checkpoint, async (it) => {
        const shared = share && (await import("./sharing.js")).costs;
        return this.#withModel(it, context, (model) => {
          const { read, judged, fast, coded, known, fisher } = asked;
          const job = shared
            ? shared(it, model, asked, share)
            : it.searchCosts(model, read, judged, fast, coded, known, fisher);
          // Whoever merges what shares measure has to know what there was before.
          if (share) context.onCosts?.(job.costs());
          const told = context.onCosts ? telling(job, context.onCosts) : job;
          return run(told, context, this.#platform.breathe);
        });
      }),

    trainingTexts: async ({ text, heldOut, backend = "auto", backendOptions }) => {
      await this.#backends.choose(backend, backendOptions);
      const { parted } = await import("./training.js");
      const { ids, findings } = await this.#tokens(text);
      if (heldOut) {
        const judges = await this.#tokens(heldOut);
        return { ids, heldOut: judges.ids, findings: [...findings, ...judges.findings] };
      }
      const { finding, ...parts } = parted(ids);
      return { ...parts, findings: [...findings, finding] };
    },

    trainingSnapshot: async ({ snapshot }) => {
      const { openSnapshot } = await import("./training.js");
      const opened = openSnapshot(await this.#module(), snapshot);
      try {
        return { student: opened.student(), at: opened.at, ids: opened.ids(), heldOut: opened.heldOut() };
      } finally {
        release(opened);
      }
    },

    distill: async ({ student, original, uncoded = original, ...asked }, context) => {
      // Nobody loads it who does not train.
      const { distill } = await import("./training.js");
      const wasm = await this.#module();
      return this.#checkpoints.with(student, (learns) =>
        this.#checkpoints.with(original, (teaches) =>
          this.#checkpoints.with(uncoded, (rounded) =>
            distill(
              this.#platform,
              wasm,
              this.#backends,
              { student: learns, original: teaches, uncoded: rounded },
              asked,
              context,
            ),
          ),
        ),
      );
    },

    gradients: ({ checkpoint, input }, context) =>
      this.#checkpoints.with(checkpoint, async (it) => {
        const { ids } = await this.#tokens(input);
        const job = it.gradients?.(ids);
        if (!job) throw new StatepressError("internal", "this module takes no gradients");
        return run(job, context, this.#platform.breathe);
      }),

    export: ({ checkpoint, options }, context) =>
      this.#checkpoints.with(checkpoint, async (it) => {
        // Nobody loads it who does not export.
        const { exported } = await import("./exporting.js");
        return exported(this.#platform, it, options, context);
      }),

    exportable: ({ checkpoint, options }) =>
      this.#checkpoints.with(checkpoint, async (it) => {
        const { checkExport } = await import("./exporting.js");
        checkExport(it, options);
        return undefined;
      }),

    discard: async ({ data }) => {
      this.#platform.remove(data);
      return undefined;
    },

    allocate: async ({ costs, target }) => (await this.#module()).allocate(costs, target),

    nextTry: async ({ costs, target, tried }) => (await this.#module()).nextTry(costs, target, tried),

    load: (request, context) => this.#load(request, context),

    tokenizer: async ({ tokenizer: file }) => {
      const { size, unknown } = await this.#tokenizerOf(file);
      return { size, ...(unknown !== undefined && { unknown }) };
    },

    count: async ({ input }) => ({ tokens: (await this.#tokens(input)).ids.length }),

    evaluate: (asked, context) =>
      this.#evaluation(asked, (on, ids) => run(on.evaluate(ids, asked.options), context, this.#platform.breathe)),

    evaluateShare: async ({ share, ...asked }, context) => {
      // Nobody loads it who shares no work.
      const { evaluated } = await import("./sharing.js");
      const { result } = await this.#onModel(asked, (on, ids) =>
        run(evaluated(on, ids, asked.options, share), context, this.#platform.breathe),
      );
      return result;
    },

    evaluateJoined: async ({ shares, ...asked }, context) => {
      const { evaluatedBy } = await import("./sharing.js");
      return this.#evaluation(asked, (on, ids) =>
        run(evaluatedBy(on, ids, asked.options, shares), context, this.#platform.breathe),
      );
    },

    compare: (pair, context) =>
      this.#card(pair, (a, b, ids) => run(a.compare(b, ids, pair.options), context, this.#platform.breathe)),

    compareShare: async ({ share, ...pair }, context) => {
      const { compared } = await import("./sharing.js");
      const { result } = await this.#onBoth(pair, (a, b, ids) =>
        run(compared([a, b], ids, pair.options, share), context, this.#platform.breathe),
      );
      return result;
    },

    compareJoined: async ({ shares, ...pair }, context) => {
      const { comparedBy } = await import("./sharing.js");
      return this.#card(pair, (a, b, ids) =>
        run(comparedBy([a, b], ids, pair.options, shares), context, this.#platform.breathe),
      );
    },

    generate: ({ model, ids, options }, context) =>
      this.#models.with(model, (it) => generate(it, ids, options, context, this.#platform.breathe)),

    logits: ({ model, ids }) => this.#models.with(model, (it) => it.use(async (on) => on.logits(ids))),

    bench: ({ model, options }, context) =>
      this.#models.with(model, async (it) => {
        // Hardly any page asks for it: the others do without its code.
        const { bench } = await import("./bench.js");
        const result = await it.use((on) => bench(on, options, context, this.#platform.breathe));
        const { name, adapter } = it.backend;
        const explain = options.explain ? it.model.explain() : undefined;
        return {
          ...result,
          backend: name,
          build: (await this.#module()).build(),
          ...(adapter && { adapter }),
          ...(explain && { explain }),
        };
      }),

    recipes: async () => (await this.#module()).recipes(),

    prepare: async () => {
      await import("../tokenizer/tokenizer.js");
      return undefined;
    },

    lose: ({ model }) =>
      this.#models.with(model, async (it) => {
        it.lose();
        return undefined;
      }),

    release: async ({ handle }) => {
      this.#checkpoints.release(handle);
      this.#models.release(handle);
      return undefined;
    },
  };

  #module(): Promise<Wasm> {
    this.#wasm ??= this.#platform.wasm(chooseModule(this.#build)).catch((error) => {
      // What could not be fetched may come the next time.
      this.#wasm = undefined;
      throw error;
    });
    return this.#wasm;
  }

  async #open(data: WeightsData, settings: OpenSettings, after: () => void) {
    const { object, free } = openCheckpoint(await this.#module(), this.#platform, data, settings);
    const freed = () => {
      free();
      after();
    };
    try {
      const inspection = object.inspection();
      return { checkpoint: this.#checkpoints.hold(object, freed), inspection };
    } catch (error) {
      freed();
      throw error;
    }
  }

  // What the model computes decides bytes, so it is the CPU's: the same ones on every machine.
  async #calibrated(
    checkpoint: WasmCheckpoint,
    recipe: object | string,
    sink: Sink,
    { ids, findings, fisher }: { ids: Uint32Array; findings: Finding[]; fisher: Fisher | undefined },
    context: Context,
  ): Promise<CompressReport> {
    const report = await this.#withModel(checkpoint, context, (model) => {
      const job = checkpoint.compressCalibrated(recipe, sink, model, ids, fisher);
      return run(job, context, this.#platform.breathe);
    });
    return { ...report, findings: [...findings, ...report.findings] };
  }

  /** Does something with a model and what it reads. */
  async #onModel<T>(
    { model, input }: Evaluated,
    use: (model: WasmModel, ids: Uint32Array) => Promise<T>,
  ): Promise<{ result: T; findings: Finding[] }> {
    return this.#models.with(model, async (it) => {
      const { ids, findings } = await this.#tokens(input);
      const result = await it.use((on) => use(on, ids));
      return { result, findings: [...findings, ...it.findings] };
    });
  }

  async #evaluation(
    asked: Evaluated,
    evaluate: (model: WasmModel, ids: Uint32Array) => Promise<Evaluation>,
  ): Promise<Evaluation> {
    const { result, findings } = await this.#onModel(asked, evaluate);
    return { ...result, findings: [...findings, ...result.findings] };
  }

  /** Does something with two models and what both read. */
  async #onBoth<T>(
    { a, b, input }: Pair,
    use: (a: WasmModel, b: WasmModel, ids: Uint32Array) => Promise<T>,
  ): Promise<{ result: T; findings: { a: Finding[]; b: Finding[] } }> {
    return this.#models.with(a, (base) =>
      this.#models.with(b, async (other) => {
        const { ids, findings } = await this.#tokens(input);
        const result = await base.use((onA) => other.use((onB) => use(onA, onB, ids)));
        return { result, findings: { a: [...findings, ...base.findings], b: [...other.findings] } };
      }),
    );
  }

  async #card(
    pair: Pair,
    compare: (a: WasmModel, b: WasmModel, ids: Uint32Array) => Promise<Comparison>,
  ): Promise<Comparison> {
    const { result: card, findings } = await this.#onBoth(pair, compare);
    return {
      ...card,
      a: { ...card.a, findings: [...findings.a, ...card.a.findings] },
      b: { ...card.b, findings: [...findings.b, ...card.b.findings] },
    };
  }

  /** Does something with the model of a checkpoint on the CPU. */
  async #withModel<T>(checkpoint: WasmCheckpoint, context: Context, use: (model: WasmModel) => Promise<T>): Promise<T> {
    const backend = await this.#backends.choose("cpu");
    const model = await run(checkpoint.load(backend), context, this.#platform.breathe);
    try {
      return await use(model);
    } finally {
      release(model);
    }
  }

  async #load(
    { checkpoint: handle, backend: wanted, backendOptions }: Requests["load"][0],
    context: Context,
  ): Promise<Requests["load"][1]> {
    const checkpoint = this.#checkpoints.lend(handle);
    const load = async (backend: WasmBackend) => {
      const model = await run(checkpoint.object.load(backend), context, this.#platform.breathe);
      return { model, backend: backend.info(), lose: () => backend.lose() };
    };
    const toCpu = async () => {
      this.#backends.forget();
      return load(await this.#backends.choose("cpu"));
    };
    try {
      // A GPU is started, which cannot be counted and may take a while.
      if (wanted !== "cpu") context.onProgress?.({ stage: "prepare", done: 0, total: 1, unit: "steps" });
      const backend = await this.#backends.choose(wanted, backendOptions);
      // With `auto` a model that the GPU has no room for, or computes otherwise than the CPU, is the CPU's.
      const mayLeave = wanted === "auto" && backend.info().name === "webgpu";
      const place = await load(backend).catch(async (thrown) => {
        const error = asStatepressError(thrown);
        if (!(mayLeave && isOfGpu(error))) throw error;
        return because(await toCpu(), fallBack(error));
      });
      const placed = new PlacedModel(place, mayLeave ? toCpu : undefined);
      // The file stays open as long as the model may have to be read again.
      const free = () => {
        placed.free();
        checkpoint.giveBack();
      };
      const model = this.#models.hold(placed, free);
      return { model, info: placed.model.info(), backend: placed.backend };
    } catch (error) {
      checkpoint.giveBack();
      throw error;
    }
  }

  async #tokens(input: Input): Promise<{ ids: Uint32Array; findings: Finding[] }> {
    if ("ids" in input) return { ids: input.ids, findings: [] };
    const tokenizer = await this.#tokenizerOf(input.tokenizer);
    const ids = tokenizer.encode(input.text);
    return { ids, findings: unknownShare(ids, tokenizer) };
  }

  // One is enough: all requests about a checkpoint come with the same file.
  #tokenizerOf(file: TokenizerFile): Promise<Tokenizer> {
    const same = (of: TokenizerFile) => of.json === file.json && of.merges === file.merges && of.config === file.config;
    if (this.#tokenizer && same(this.#tokenizer.file)) return this.#tokenizer.read;
    // Nobody loads it who has no text.
    const code = import("../tokenizer/tokenizer.js");
    const mine = { file, read: code.then(({ readTokenizer }) => readTokenizer(file.name, file.json, file)) };
    this.#tokenizer = mine;
    mine.read.catch(() => {
      // What could not be fetched may come the next time.
      if (this.#tokenizer === mine) this.#tokenizer = undefined;
    });
    return mine.read;
  }
}

/** The share of a perplexity that is about words the tokenizer does not know must be seen. */
function unknownShare(ids: Uint32Array, { name, unknown }: Tokenizer): Finding[] {
  const count = ids.reduce((sum, id) => sum + (id === unknown ? 1 : 0), 0);
  if (count === 0) return [];
  const percent = ((100 * count) / ids.length).toFixed(1);
  const message = `${count} of ${ids.length} tokens (${percent} %) are unknown to ${name}: is it the model's tokenizer?`;
  return [{ level: count > ids.length / 20 ? "warning" : "info", code: "unknown-tokens", message }];
}
