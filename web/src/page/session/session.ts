// What the page does: calls of the package, whose answers become events. Holds what is no data: files, checkpoints,
// and what can be cancelled.

import {
  type Checkpoint,
  compare,
  type FieldValue,
  type Generation,
  open,
  type Precision,
  type Progress,
  type Recipe,
  recipes,
  StatepressError,
  type Token,
} from "statepress";
import type { PageEvent } from "../state/events.js";
import { quantizeOf, sameCodes } from "../state/recipes.js";
import { type Asked, NOTHING, type Opened, type Problem, type State } from "../state/state.js";
import { demoFiles, heldout } from "./demo.js";
import { localFiles } from "./local.js";
import { takeRecipe } from "./recipe-file.js";

/** Tokens on which the prediction offset is looked for, as `compare` does: wrong offsets are worse by far than noise. */
const OFFSET_TOKENS = 4096;

/** Codes of which a picture is drawn. */
const PICTURED: Precision[] = ["fp16", "int8", "int4", "nf4"];

/** Tokens that a trial adds to the prompt. */
const TRIAL_TOKENS = 48;

/** The page's end of the package. */
export class Session {
  readonly #tell: (event: PageEvent) => void;
  readonly #state: () => State;
  #checkpoint: Checkpoint | undefined;
  #files: File[] = [];
  readonly #produced = new Map<number, Checkpoint>();
  #opened = 0;
  #runs = 0;
  #trials = 0;
  #opening = new AbortController();
  #work = new AbortController();
  #trial = new AbortController();
  #looking = new AbortController();
  #measuring = new AbortController();

  constructor(state: () => State, tell: (event: PageEvent) => void) {
    this.#state = state;
    this.#tell = tell;
  }

  /** Starts the package: after this nothing more has to be fetched for a checkpoint of the user's own. */
  async start(): Promise<void> {
    try {
      this.#tell({ type: "started", recipes: await recipes() });
    } catch (error) {
      this.#tell({ type: "broke", problem: problemOf(error) });
    }
  }

  // Opening.

  /** Opens files that belong together; a text among them is what will be measured on. */
  openFiles(files: File[]): Promise<void> {
    return this.#open("files", async () => files);
  }

  /** Opens the demo checkpoint. */
  openDemo(): Promise<void> {
    return this.#open("demo", demoFiles);
  }

  /** Opens a path of the machine that serves the page. */
  openPath(path: string): Promise<void> {
    return this.#open("path", (signal) => localFiles(path, signal));
  }

  /** Sets a configuration field that the checkpoint does not say; undefined takes the page's own value back. */
  async setField(field: string, value: FieldValue | undefined): Promise<void> {
    const { checkpoint } = this.#state();
    if (!checkpoint) return;
    const { [field]: _, ...others } = checkpoint.given;
    const given = value === undefined ? others : { ...others, [field]: value };
    await this.#open(checkpoint.place, async () => this.#files, given);
  }

  async #open(
    place: Opened["place"],
    gather: (signal: AbortSignal) => Promise<File[]>,
    given: Record<string, FieldValue> = {},
  ): Promise<void> {
    this.#opening.abort();
    this.#opening = new AbortController();
    const { signal } = this.#opening;
    try {
      this.#tell({ type: "opening", names: [] });
      const files = await gather(signal);
      if (signal.aborted) return;
      this.#tell({ type: "opening", names: files.map((file) => file.name) });
      const { recipe, others } = await takeRecipe(files);
      // A recipe alone is for the checkpoint that is there.
      if (recipe && others.length === 0) {
        this.#tell({ type: "closed" });
        return await this.askRecipe(recipe);
      }
      const texts = others.filter(isText);
      const opened = await open(
        others.filter((file) => !texts.includes(file)),
        { set: given, signal },
      );
      const [text] = texts;
      const ownText = text && { name: text.name, text: await text.text() };
      if (signal.aborted) return opened.dispose();
      this.#release();
      this.#checkpoint = opened;
      this.#files = files;
      const id = ++this.#opened;
      this.#tell({
        type: "opened",
        checkpoint: {
          id,
          name: nameOf(files, place),
          files: files.map(({ name, size }) => ({ name, size })),
          place,
          inspection: opened.inspection,
          given,
          tokenizer: opened.tokenizerName,
          ownText,
        },
      });
      if (recipe) this.#tell({ type: "asked", change: { recipe } });
      await this.#advise(id, opened);
    } catch (error) {
      if (signal.aborted) return;
      const problem = problemOf(error);
      if (problem.code === "crashed") this.#tell({ type: "lost" });
      this.#tell({ type: "openFailed", problem });
    }
  }

  // Plans of every built-in recipe are arithmetic on the headers: cheap enough to have them all.
  async #advise(id: number, opened: Checkpoint): Promise<void> {
    const { recipes: builtin, asked } = this.#state();
    const plans = await Promise.all(builtin.map(async (recipe) => [recipe.name, await opened.plan(recipe)] as const));
    const advice = await opened.advise();
    if (this.#opened !== id || this.#checkpoint !== opened) return;
    this.#tell({ type: "advised", checkpoint: id, advice, plans: Object.fromEntries(plans) });
    const best = advice.recommended[0]?.recipe;
    const first = asked.recipe === NOTHING ? builtin.find((recipe) => recipe.name === best) : undefined;
    await this.askRecipe(first ?? asked.recipe);
  }

  /** Opens the same files once more: after the worker has stopped, and with it all that it held. */
  async reopen(): Promise<void> {
    const { checkpoint } = this.#state();
    if (checkpoint) await this.#open(checkpoint.place, async () => this.#files, checkpoint.given);
  }

  // What went wrong with the open checkpoint. After a crash nothing that was open can be used any more: the next worker
  // knows none of it, and says that this is no input.
  #problem(error: unknown): Problem {
    const problem = problemOf(error);
    if (problem.code === "crashed" || problem.code === "bad-input") this.#tell({ type: "lost" });
    return problem;
  }

  /** Lets the checkpoint and everything made from it go. */
  drop(): void {
    this.#opening.abort();
    this.#release();
    this.#tell({ type: "dropped" });
  }

  #release(): void {
    for (const running of [this.#work, this.#trial, this.#looking, this.#measuring]) running.abort();
    for (const produced of this.#produced.values()) produced.dispose();
    this.#produced.clear();
    this.#checkpoint?.dispose();
    this.#checkpoint = undefined;
    this.#files = [];
  }

  // Choosing.

  /** Changes the recipe, and plans it. */
  async askRecipe(recipe: Recipe): Promise<void> {
    const before = this.#state().asked.recipe;
    this.#tell({ type: "asked", change: { recipe } });
    const checkpoint = this.#checkpoint;
    if (!checkpoint) return;
    this.#tell({ type: "planning" });
    try {
      const plan = await checkpoint.plan(recipe);
      if (checkpoint !== this.#checkpoint) return;
      this.#tell({ type: "planned", recipe, plan });
      // The picture of the codes is drawn by the recipe's options.
      const { look } = this.#state();
      if (look && !sameCodes(before, recipe)) await this.look(look.tensor);
    } catch (error) {
      if (checkpoint === this.#checkpoint) this.#tell({ type: "planFailed", recipe, problem: this.#problem(error) });
    }
  }

  /** Looks at a tensor, and at what each code would make of it. */
  async look(tensor: string): Promise<void> {
    const checkpoint = this.#checkpoint;
    if (!checkpoint) return;
    this.#looking.abort();
    this.#looking = new AbortController();
    const { signal } = this.#looking;
    this.#tell({ type: "looking", tensor });
    try {
      const quantize = quantizeOf(this.#state().asked.recipe);
      const options = quantize && { int8: quantize.int8, int4: quantize.int4, nf4: quantize.nf4 };
      const view = await checkpoint.tensor(tensor, {
        precisions: PICTURED,
        ...(options && { quantize: options }),
        signal,
      });
      if (!signal.aborted) this.#tell({ type: "looked", view });
    } catch (error) {
      if (!signal.aborted) this.#tell({ type: "lookFailed", tensor, problem: this.#problem(error) });
    }
  }

  // Compressing and comparing.

  /** Compresses by the recipe that is asked for, and measures the produced file. */
  async compress(): Promise<void> {
    const checkpoint = this.#checkpoint;
    if (!checkpoint || this.#state().work) return;
    const { asked } = this.#state();
    const run = ++this.#runs;
    this.#work = new AbortController();
    const { signal } = this.#work;
    const onProgress = (progress: Progress) => {
      if (!signal.aborted) this.#tell({ type: "progressed", run, progress, now: performance.now() });
    };
    try {
      this.#tell({ type: "compressing", run, now: performance.now() });
      const produced = await checkpoint.compress(asked.recipe, { signal, onProgress });
      if (checkpoint !== this.#checkpoint) return produced.dispose();
      if (signal.aborted || !produced.report) {
        produced.dispose();
        throw new StatepressError("aborted", "stopped on request");
      }
      this.#produced.set(run, produced);
      const file = await produced.save("blob");
      const name = fileName(this.#state().checkpoint?.name ?? "model", asked.recipe);
      this.#tell({ type: "compressed", run, asked, report: produced.report, file: { name, size: file.size } });
      this.#tell({ type: "comparing", run, now: performance.now() });
      const text = await this.#text(asked);
      const offset = await this.#offset(checkpoint, text.text, asked, signal);
      const comparison = await compare(checkpoint, produced, {
        text: text.text,
        backend: asked.backend,
        backendB: asked.backendB === "same" ? asked.backend : asked.backendB,
        limit: asked.limit,
        offset,
        signal,
        onProgress,
      });
      if (checkpoint === this.#checkpoint) {
        this.#tell({ type: "compared", run, comparison, textName: text.name });
      }
    } catch (error) {
      if (checkpoint === this.#checkpoint) this.#tell({ type: "workFailed", run, problem: this.#problem(error) });
    }
  }

  /** Stops compressing or comparing. What is complete stays. */
  cancel(): void {
    this.#work.abort();
  }

  /** Measures how far ahead the model predicts: its perplexity at offsets 0 to 3. */
  async measureOffsets(): Promise<void> {
    const checkpoint = this.#checkpoint;
    if (!checkpoint || this.#state().work) return;
    const { asked } = this.#state();
    this.#measuring = new AbortController();
    try {
      const text = await this.#text(asked);
      await this.#offset(checkpoint, text.text, asked, this.#measuring.signal);
    } catch (error) {
      const id = this.#opened;
      if (checkpoint === this.#checkpoint) {
        this.#tell({ type: "offsetsFailed", checkpoint: id, problem: this.#problem(error) });
      }
    }
  }

  // An offset that is in no file is measured once, because every other number depends on it.
  async #offset(checkpoint: Checkpoint, text: string, asked: Asked, signal: AbortSignal): Promise<number | undefined> {
    if (checkpoint.inspection.spec["prediction_offset"]?.origin !== "assumed") return undefined;
    const known = this.#state().checkpoint?.offsets;
    if (known) return known.offset;
    const model = await checkpoint.load({ backend: asked.backend, signal });
    try {
      const limit = Math.min(asked.limit ?? OFFSET_TOKENS, OFFSET_TOKENS);
      const evaluation = await model.evaluate(text, { offset: "detect", limit, signal });
      if (checkpoint === this.#checkpoint) {
        this.#tell({ type: "offsetsMeasured", checkpoint: this.#opened, evaluation });
      }
      return evaluation.offset;
    } finally {
      model.dispose();
    }
  }

  async #text(asked: Asked): Promise<{ name: string; text: string }> {
    const own = this.#state().checkpoint?.ownText;
    if (asked.text === "own" && own) return own;
    if (asked.text === "typed") return { name: "your text", text: asked.typed };
    return { name: "heldout.txt", text: await heldout() };
  }

  // Trying.

  /** Continues a prompt with the original and with the file of a run. One after the other, so that speeds are true. */
  async try(run: number, prompt: string): Promise<void> {
    const checkpoint = this.#checkpoint;
    const produced = this.#produced.get(run);
    if (!checkpoint || !produced) return;
    this.#trial.abort();
    this.#trial = new AbortController();
    const { signal } = this.#trial;
    const trial = ++this.#trials;
    const { asked } = this.#state();
    this.#tell({ type: "trying", trial, run, prompt });
    let problem: Problem | undefined;
    try {
      const second = asked.backendB === "same" ? asked.backend : asked.backendB;
      await this.#continue(trial, 0, checkpoint, asked.backend, prompt, asked, signal);
      await this.#continue(trial, 1, produced, second, prompt, asked, signal);
    } catch (error) {
      problem = checkpoint === this.#checkpoint ? this.#problem(error) : problemOf(error);
    }
    this.#tell({ type: "trialEnded", trial, problem });
  }

  /** Stops a trial. */
  stopTrying(): void {
    this.#trial.abort();
  }

  async #continue(
    trial: number,
    side: 0 | 1,
    checkpoint: Checkpoint,
    backend: Asked["backend"],
    prompt: string,
    { temperature, seed }: Asked,
    signal: AbortSignal,
  ): Promise<void> {
    const model = await checkpoint.load({ backend, signal });
    try {
      const { name, adapter, reason } = model.backend;
      this.#tell({ type: "loaded", trial, side, backend: { name, adapter, reason } });
      const tokens = model.generate(prompt, { maxTokens: TRIAL_TOKENS, temperature, seed, signal });
      for (;;) {
        const next: IteratorResult<Token, Generation> = await tokens.next();
        if (next.done) {
          this.#tell({ type: "tried", trial, side, tokensPerSecond: next.value.tokensPerSecond });
          break;
        }
        this.#tell({ type: "said", trial, side, token: next.value });
      }
    } finally {
      model.dispose();
    }
  }

  // Taking away.

  /** The produced file of a run; undefined when the worker has lost it. */
  async file(run: number): Promise<Blob | undefined> {
    try {
      return await this.#produced.get(run)?.save("blob");
    } catch (error) {
      this.#problem(error);
      return undefined;
    }
  }
}

function isText(file: File): boolean {
  return /\.(txt|md)$/i.test(file.name);
}

function nameOf(files: File[], place: Opened["place"]): string {
  if (place === "demo") return "itera-tiny";
  const weights = files.find((file) => /\.(pt|pth|bin|ckpt|safetensors|gguf)$/i.test(file.name)) ?? files[0];
  return weights?.name.replace(/\.[^.]+$/, "") ?? "model";
}

function fileName(name: string, recipe: Recipe): string {
  return `${name}-${recipe.name}.safetensors`.replace(/[^\w.+-]+/g, "-");
}

function problemOf(error: unknown): Problem {
  if (error instanceof StatepressError) {
    return { code: error.code, message: error.code === "aborted" ? "Cancelled." : `${error.message}.` };
  }
  return { code: "unknown", message: `${error instanceof Error ? error.message : String(error)}.` };
}
