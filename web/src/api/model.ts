// A model in memory: encode, decode, generate, evaluate, logits.

/// <reference lib="esnext.disposable" preserve="true" />

import type { Tokenizer } from "../tokenizer/tokenizer.js";
import type { BenchOptions, BenchResult, Generation, Handle } from "../worker/protocol.js";
import type { BackendInfo, ModelInfo } from "../worker/wasm.js";
import { checkOptions, checkText } from "./check.js";
import type { Checkpoint } from "./checkpoint.js";
import { makeDisposable } from "./disposable.js";
import type { Environment } from "./environment.js";
import { throwIfAborted } from "./errors.js";
import { withOffset } from "./offset.js";
import { type EvaluateOptions, type GenerateOptions, present, type Running, type Token } from "./options.js";
import { withoutMark } from "./text.js";
import { asIds, type TokenizerChoice } from "./tokenizers.js";
import type { Evaluation, Finding, GeneratedToken, Inspection } from "./types/statepress.js";
import { Workers } from "./workers.js";

/** A model in memory. */
export class Model {
  /** Bytes in memory, vocabulary, longest sequence, offset, findings. */
  readonly info: ModelInfo;
  /** What computes, and why that was taken. */
  backend: BackendInfo;
  /** @internal */
  readonly handle: Handle;
  /** @internal */
  readonly tokenizer: TokenizerChoice;
  /** @internal What the checkpoint is that it was loaded from. */
  readonly inspection: Inspection;
  /** @internal That checkpoint, which may be disposed of by now. */
  readonly checkpoint: Checkpoint;
  readonly #environment: Environment;
  #isDisposed = false;

  /** @internal */
  constructor(
    environment: Environment,
    loaded: { model: Handle; info: ModelInfo; backend: BackendInfo },
    checkpoint: Checkpoint,
  ) {
    this.#environment = environment;
    this.checkpoint = checkpoint;
    this.inspection = checkpoint.inspection;
    this.handle = loaded.model;
    this.info = loaded.info;
    this.tokenizer = checkpoint.tokenizer;
    this.backend = loaded.backend;
  }

  /** The ids of a text. */
  encode(text: string): Uint32Array {
    checkText("encode", text);
    return this.tokenizer.get().encode(text);
  }

  /** The text of ids. */
  decode(ids: ArrayLike<number>): string {
    return this.tokenizer.get().decode(Array.from(asIds(ids)));
  }

  /**
   * Continues a prompt, token by token. Leaving the loop stops the work; an abort signal makes it throw `aborted`.
   * What the generator returns at its end is how it went: speed, and why it ended.
   */
  async *generate(
    prompt: string | ArrayLike<number>,
    options: GenerateOptions = {},
  ): AsyncGenerator<Token, Generation> {
    checkOptions("generate", options);
    const ids = typeof prompt === "string" ? this.encode(withoutMark(prompt)) : asIds(prompt);
    // Ids need no text: they are continued whatever the tokenizer is like.
    const { tokenizer, findings } = this.tokenizer.maybe();
    const decoder = tokenizer && new TextStream(tokenizer, ids);
    throwIfAborted(options.signal);
    // The user's signal and a loop that is left both stop it.
    const stop = new AbortController();
    const asked = () => stop.abort(options.signal?.reason);
    options.signal?.addEventListener("abort", asked);

    // The host pushes, the caller pulls: what has come and was not taken waits in `arrived`.
    const arrived: GeneratedToken[] = [];
    let wake = () => {};
    let over = false;
    const request = {
      model: this.handle,
      ids,
      options: {
        ...present(options, "maxTokens", "temperature", "topK", "seed"),
        // Rows of the vocabulary that no text stands for are never sampled.
        ...(tokenizer && { suppressFrom: tokenizer.size }),
      },
    };
    const onTokens = (tokens: GeneratedToken[]) => {
      arrived.push(...tokens);
      wake();
    };
    const finished = this.#environment.host.call("generate", request, { signal: stop.signal, onTokens }).finally(() => {
      over = true;
      wake();
    });
    // Handled below; an abandoned loop must not leave an unhandled rejection.
    finished.catch(() => {});
    try {
      while (!over || arrived.length > 0) {
        const token = arrived.shift();
        if (token) {
          yield { id: token.id, text: decoder?.next(token.id) ?? "", probability: token.probability };
        } else {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
      }
      const generation = await finished;
      this.#heard(generation.findings);
      return { ...generation, findings: [...findings, ...generation.findings] };
    } finally {
      options.signal?.removeEventListener("abort", asked);
      stop.abort();
    }
  }

  /** The logits of every position. */
  async logits(ids: ArrayLike<number>): Promise<{ data: Float32Array; shape: [tokens: number, vocabulary: number] }> {
    const wanted = asIds(ids);
    const data = await this.#environment.host.call("logits", { model: this.handle, ids: wanted });
    return { data, shape: [wanted.length, this.info.vocabSize] };
  }

  /** Perplexity on a text or on ids. */
  async evaluate(input: string | ArrayLike<number>, options: EvaluateOptions = {}): Promise<Evaluation> {
    checkOptions("evaluate", options);
    const request = {
      input: this.tokenizer.input(input),
      options: present(withOffset(this.inspection, options), "window", "limit", "offset"),
    };
    const workers = new Workers(this.#environment, this.inspection.params, options.workers);
    try {
      const team = await workers.forWindows(request.input, options, [this]);
      const { host } = this.#environment;
      const evaluation = team
        ? await team.evaluate(this.checkpoint, request, options)
        : await host.call("evaluate", { model: this.handle, ...request }, options);
      this.#heard(evaluation.findings);
      // Workers load their own, and know nothing of why it is the CPU that computes.
      const ours = team && this.backend.finding ? [this.backend.finding] : [];
      const told = team ? [team.told("evaluated")] : [];
      return { ...evaluation, findings: [...ours, ...evaluation.findings, ...workers.findings, ...told] };
    } finally {
      await workers.close();
    }
  }

  /** @internal Why no workers can share what it computes. */
  get whyAlone(): string | undefined {
    if (this.#isDisposed) return "a model was disposed of";
    if (this.backend.name !== "cpu") return "a GPU computes";
    return this.checkpoint.isDisposed
      ? "a model's checkpoint was disposed of, so that nobody else can load it"
      : undefined;
  }

  // With `auto` a GPU that fails is replaced by the CPU, which a finding says.
  #heard(findings: Finding[]): void {
    const fallBack = findings.find((finding) => finding.code === "backend-cpu");
    if (fallBack) this.backend = { name: "cpu", reason: fallBack.message, finding: fallBack };
  }

  /** Speed of reading a prompt and of making tokens. */
  async bench(options: BenchOptions & Running = {}): Promise<BenchResult> {
    checkOptions("bench", options);
    const asked = present(options, "prefillTokens", "decodeTokens", "repeats", "explain");
    return this.#environment.host.call("bench", { model: this.handle, options: asked }, options);
  }

  /** @internal For tests: loses its GPU, as a driver that is reset does. */
  async loseGpu(): Promise<void> {
    await this.#environment.host.call("lose", { model: this.handle });
  }

  /** Frees its memory. */
  dispose(): void {
    void this.released();
  }

  /** @internal Disposes of it, and waits until that is done. */
  async released(): Promise<void> {
    this.#isDisposed = true;
    // The host may have crashed, and its memory with it: there is nothing left to free then.
    await this.#environment.host.call("release", { handle: this.handle }).catch(() => {});
  }

  /** `using model = await checkpoint.load()` disposes of it at the end of the block. */
  declare readonly [Symbol.dispose]: () => void;
  /** As `using`, and waits until it is gone. */
  declare readonly [Symbol.asyncDispose]: () => Promise<void>;

  static {
    makeDisposable(Model.prototype);
  }
}

// The text that each new token adds. Byte-level tokens may end in the middle of a character: it is held back.
class TextStream {
  readonly #ids: number[];
  #said: string;

  constructor(
    readonly tokenizer: Tokenizer,
    prompt: Uint32Array,
  ) {
    this.#ids = Array.from(prompt);
    this.#said = tokenizer.decode(this.#ids);
  }

  next(id: number): string {
    this.#ids.push(id);
    const all = this.tokenizer.decode(this.#ids);
    if (all.endsWith("\ufffd")) return "";
    const added = all.slice(this.#said.length);
    this.#said = all;
    return added;
  }
}
