// What the page does: calls of the package, whose answers become events. Here: opening and letting go; what is done with
// an open checkpoint stands in the files beside this one.

import { type FieldValue, open, type Recipe, recipes } from "statepress";
import type { Opened } from "../state/state.js";
import { demoFiles, heldout } from "./demo.js";
import { localFiles } from "./local.js";
import { look } from "./looking.js";
import { OpenCheckpoint } from "./open-checkpoint.js";
import type { Teller } from "./page.js";
import { advise, plan } from "./planning.js";
import { problemOf } from "./problem.js";
import { takeRecipe } from "./recipe-file.js";
import { takeText } from "./texts.js";
import { tryBoth } from "./trying.js";
import { compress, measureOffsets } from "./working.js";

/** Where files come from. */
interface Origin {
  place: Opened["place"];
  /** The path that was pasted. */
  path?: string | undefined;
  /** The folder that the files lay in. */
  folder?: string | undefined;
  files(signal: AbortSignal): Promise<File[]>;
}

/** The page's end of the package. */
export class Session {
  readonly #page: Teller;
  #open: OpenCheckpoint | undefined;
  #origin: Origin | undefined;
  #started: Promise<void> | undefined;
  #opening = new AbortController();
  #opened = 0;
  #runs = 0;
  #trials = 0;

  constructor(page: Teller) {
    this.#page = page;
  }

  /** Starts the package: after this nothing more has to be fetched for a checkpoint of the user's own. */
  start(): Promise<void> {
    this.#started ??= this.#start();
    return this.#started;
  }

  async #start(): Promise<void> {
    try {
      this.#page.tell({ type: "started", recipes: await recipes() });
    } catch (error) {
      this.#page.tell({ type: "broke", problem: problemOf(error) });
    }
    // Nobody waits for it now; where it cannot be had, measuring on it says so.
    heldout().catch(() => {});
  }

  /** Opens files that belong together; a text among them is what will be measured on. */
  openFiles(files: File[], folder?: string): Promise<void> {
    return this.#openFrom({ place: "files", folder, files: async () => files });
  }

  /** Opens the demo checkpoint. */
  openDemo(): Promise<void> {
    return this.#openFrom({ place: "demo", files: demoFiles });
  }

  /** Opens a path of the machine that serves the page. */
  openPath(pasted: string): Promise<void> {
    // File managers and terminals copy paths in quotes.
    const path = pasted.trim().replace(/^(["'])(.*)\1$/, "$2");
    return this.#openFrom({ place: "path", path, files: (signal) => localFiles(path, signal) });
  }

  /** Sets a configuration field that the checkpoint does not say; undefined takes the page's own value back. */
  async setField(field: string, value: FieldValue | undefined): Promise<void> {
    const { checkpoint, opening } = this.#page.state();
    if (!checkpoint || !this.#origin || opening) return;
    const { [field]: _, ...others } = checkpoint.given;
    await this.#openFrom(this.#origin, value === undefined ? others : { ...others, [field]: value }, field);
  }

  /** Opens the same files once more: after the worker has stopped, and with it all that it held. */
  async reopen(): Promise<void> {
    const { checkpoint } = this.#page.state();
    if (checkpoint && this.#origin) await this.#openFrom(this.#origin, checkpoint.given);
  }

  /** Stops opening: what was open stays. */
  cancelOpening(): void {
    this.#opening.abort();
    this.#page.tell({ type: "openingEnded" });
  }

  /** Lets the checkpoint and everything made from it go. */
  drop(): void {
    this.#opening.abort();
    this.#release();
    this.#page.tell({ type: "dropped" });
  }

  /** Changes the recipe, and plans it. */
  async askRecipe(recipe: Recipe): Promise<void> {
    this.#page.tell({ type: "asked", change: { recipe } });
    if (this.#open) await plan(this.#open, recipe);
  }

  /** Looks at a tensor, and at what each code would make of it. */
  async look(tensor: string): Promise<void> {
    if (this.#open) await look(this.#open, tensor);
  }

  /** Compresses by the recipe that is asked for, and measures the produced file. */
  async compress(): Promise<void> {
    if (this.#open && !this.#page.state().work) await compress(this.#open, ++this.#runs);
  }

  /** Stops compressing or comparing. What is complete stays. */
  cancel(): void {
    this.#open?.stop("work");
  }

  /** Measures how far ahead the model predicts: its perplexity at offsets 0 to 3. */
  async measureOffsets(): Promise<void> {
    if (this.#open && !this.#page.state().work) await measureOffsets(this.#open);
  }

  /** Continues the prompt that is asked for with the original and with the file of a run. */
  async try(run: number): Promise<void> {
    if (this.#open) await tryBoth(this.#open, ++this.#trials, run);
  }

  /** Stops a trial. */
  stopTrying(): void {
    this.#open?.stop("trial");
  }

  /** The produced file of a run; undefined when the worker has lost it. */
  async file(run: number): Promise<Blob | undefined> {
    const open = this.#open;
    try {
      return await open?.produced(run)?.save("blob");
    } catch (error) {
      open?.failed(error);
      return undefined;
    }
  }

  /** Lets the file and the numbers of a run go. */
  forget(run: number): void {
    const { work, trial } = this.#page.state();
    // What is using the file ends first: a file that is missing looks like a worker that has stopped.
    if (work?.run === run) this.#open?.stop("work");
    if (trial?.run === run) this.#open?.stop("trial");
    this.#open?.forget(run);
    this.#page.tell({ type: "forgotten", run });
  }

  // `field` is the one that is being set, whose fault it is when that fails.
  async #openFrom(origin: Origin, given: Record<string, FieldValue> = {}, field?: string): Promise<void> {
    this.#opening.abort();
    this.#opening = new AbortController();
    const { signal } = this.#opening;
    this.#page.tell({ type: "opening" });
    let what = origin.path ?? origin.folder ?? "it";
    try {
      const files = await origin.files(signal);
      what = origin.path ?? origin.folder ?? summary(files);
      const { recipe, others } = await takeRecipe(files);
      const { text, findings, others: weights } = await takeText(others);
      if (signal.aborted) return;
      // A recipe alone is for the checkpoint that is there, or for the next one; a text alone for the one that is there.
      if ((recipe || (text && this.#open)) && weights.length === 0) {
        this.#page.tell({ type: "openingEnded" });
        if (text && this.#origin) {
          this.#page.tell({ type: "textTaken", text });
          // Opening the same files once more must find it among them.
          this.#origin = await joined(this.#origin, others, signal);
        }
        if (recipe) await this.askRecipe(recipe);
        return;
      }
      // A tokenizer or a configuration alone is for the weights that are there.
      if (this.#origin && weights.length > 0 && weights.every((file) => /\.json$/i.test(file.name))) {
        await this.#openFrom(await joined(this.#origin, others, signal), this.#page.state().checkpoint?.given);
        if (recipe) await this.askRecipe(recipe);
        return;
      }
      const checkpoint = await open(weights, { set: given, signal });
      if (signal.aborted) return checkpoint.dispose();
      this.#release();
      this.#open = new OpenCheckpoint(++this.#opened, checkpoint, this.#page);
      // What was taken from a place is kept: the recipe among it has done its part.
      this.#origin = { ...origin, files: async () => others };
      const { inspection, tokenizerName, weightsName } = checkpoint;
      this.#page.tell({
        type: "opened",
        checkpoint: {
          id: this.#opened,
          name: nameOf(origin, weightsName),
          weights: weightsName,
          place: origin.place,
          path: origin.path,
          inspection: { ...inspection, findings: [...inspection.findings, ...findings] },
          given,
          tokenizer: tokenizerName,
        },
        ownText: text,
      });
      if (recipe) this.#page.tell({ type: "asked", change: { recipe } });
    } catch (error) {
      if (signal.aborted) return;
      const problem = this.#open?.failed(error) ?? problemOf(error);
      this.#page.tell({ type: "openFailed", problem, what, field });
      return;
    }
    const opened = this.#open;
    // A quick hand opens files before the recipes are there by which they are planned.
    await this.start();
    // The recipe that is asked for first: advice takes a moment longer.
    await plan(opened, this.#page.state().asked.recipe);
    await advise(opened).catch((error: unknown) => opened.failed(error));
  }

  #release(): void {
    this.#open?.dispose();
    this.#open = undefined;
    this.#origin = undefined;
  }
}

/** What every checkpoint in a folder is called. */
const ANY_NAME = /^(model|pytorch_model|checkpoint|consolidated|weights)\b/i;

function nameOf({ place, path, folder }: Origin, weights: string): string {
  if (place === "demo") return "itera-tiny";
  const last = path
    ?.replace(/[\\/]+$/, "")
    .split(/[\\/]/)
    .at(-1);
  const inside = folder ?? (last === weights ? undefined : last);
  return inside && ANY_NAME.test(weights) ? inside : weights.replace(/\.[^.]+$/, "");
}

function summary(files: File[]): string {
  const [first, ...others] = files;
  if (!first) return "nothing";
  return others.length === 0 ? first.name : `${first.name} and ${others.length} more`;
}

// The files of a place with others put before them, which take the place of those of their name.
async function joined(origin: Origin, added: File[], signal: AbortSignal): Promise<Origin> {
  const names = added.map((file) => file.name);
  const kept = (await origin.files(signal)).filter((file) => !names.includes(file.name));
  return { ...origin, files: async () => [...added, ...kept] };
}
