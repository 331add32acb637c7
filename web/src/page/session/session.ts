// What the page does: calls of the package, whose answers become events. Here: opening and letting go; what is done with
// an open checkpoint stands in the files beside this one.

import {
  type Checkpoint,
  type FieldValue,
  open,
  prepare,
  type Recipe,
  recipes,
  type SearchPoint,
  StatepressError,
  type StepDraft,
} from "statepress";
import type { Elsewhere } from "../state/elsewhere.js";
import { picked, readsText } from "../state/recipes.js";
import { recordOf } from "../state/record.js";
import type { Asked, LeftTraining, Wanted, WantedStudent, Wishes } from "../state/state.js";
import { bring, noWeights, openOther } from "./bringing.js";
import { type Chosen, tokenizersAmong, withTokenizer } from "./choices.js";
import { demoFiles, heldout } from "./demo.js";
import { localFiles, unquoted } from "./local.js";
import { isBeside } from "./local-choice.js";
import { look } from "./looking.js";
import { adviseAnew, measureAll } from "./measuring.js";
import { type Memory, memory } from "./memory.js";
import { OpenCheckpoint } from "./open-checkpoint.js";
import { joined, nameOf, type Origin, sentence, summary } from "./origin.js";
import type { Teller } from "./page.js";
import { advise, plan } from "./planning.js";
import { problemOf } from "./problem.js";
import { planPruning } from "./pruning.js";
import { takeRecipe } from "./recipe-file.js";
import { measureDamage, search, takePoint } from "./searching.js";
import { isText, takeText } from "./texts.js";
import { tryBoth } from "./trying.js";
import { compress, measureOffsets } from "./working.js";

/** How files are opened that were chosen before. */
interface Anew {
  given?: Record<string, FieldValue>;
  /** The configuration field that is being set, whose fault it is when that fails. */
  field?: string | undefined;
  chosen?: Chosen;
}

/** What nobody loads who does not train. */
const whatTrains = () => import("./training.js");

/** The page's end of the package. */
export class Session {
  readonly #page: Teller;
  readonly #memory: Memory;
  #open: OpenCheckpoint | undefined;
  #origin: Origin | undefined;
  /** What was chosen among what its files hold. */
  #chosen: Chosen = {};
  /** Files of which it is being asked what they are for. */
  #offered: { files: File[]; folder: string | undefined } | undefined;
  /** Where other models came from, by the run that they are. */
  readonly #others = new Map<number, Origin>();
  #started: Promise<void> | undefined;
  #opening = new AbortController();
  /** How a training ends before its time, and gives something all the same. */
  #enough = new AbortController();
  #pause = new AbortController();
  #opened = 0;
  #runs = 0;
  #trials = 0;

  constructor(page: Teller, kept: Memory = memory) {
    this.#page = page;
    this.#memory = kept;
    page.tell({ type: "remembered", records: kept.load() });
  }

  /** Starts the package. */
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
  }

  /** Fetches what is else fetched for the first checkpoint; what cannot be had now is asked for then. */
  async prepare(): Promise<void> {
    await prepare().catch(() => {});
  }

  /**
   * Fetches the text to measure on where the user has none: when something is opened, or before that when nothing else is to
   * be fetched. Where it cannot be had, measuring on it says so.
   */
  async readHeldout(): Promise<void> {
    if (this.#page.state().heldout !== undefined) return;
    const text = await heldout().catch(() => undefined);
    if (text !== undefined) this.#page.tell({ type: "heldoutCame", text });
  }

  /**
   * Takes files that were dropped or chosen: another model than the one that is open is not opened unasked, for all that
   * was measured goes with what is closed.
   */
  async take(files: File[], folder?: string): Promise<void> {
    const { checkpoint, lost } = this.#page.state();
    const forThis = (file: File) => isBeside(file) || isText(file);
    if (!checkpoint || lost || files.every(forThis) || (await takeRecipe(files)).others.every(forThis)) {
      await this.openFiles(files, folder);
      return;
    }
    this.#offered = { files, folder };
    this.#page.tell({ type: "offered", what: folder ?? summary(files) });
  }

  /** Answers what the files are for that were taken: to be opened, to be compared with what is open, or neither. */
  async answerOffer(answer: "open" | "compare" | "neither"): Promise<void> {
    const offered = this.#offered;
    if (answer === "compare" && this.#page.state().work) return;
    this.#offered = undefined;
    this.#page.tell({ type: "offerEnded" });
    if (!offered) return;
    if (answer === "open") await this.openFiles(offered.files, offered.folder);
    if (answer === "compare") await this.compareFiles(offered.files, offered.folder);
  }

  /** Opens another model beside the checkpoint, and compares the two. */
  compareFiles(files: File[], folder?: string): Promise<void> {
    return this.#compareWith(folder ?? summary(files), async () => ({ place: "files", folder, files }));
  }

  /** Compares with the demo checkpoint. */
  compareDemo(): Promise<void> {
    return this.#compareWith("the demo", async (signal) => ({ place: "demo", files: await demoFiles(signal) }));
  }

  /** Compares with a path of the machine that serves the page. */
  comparePath(pasted: string): Promise<void> {
    const path = unquoted(pasted);
    return this.#compareWith(path, async (signal) => ({ place: "path", ...(await localFiles(path, signal)) }));
  }

  /** Measures another model once more, as is asked for now: a run of its own. */
  async compareAgain(run: number): Promise<void> {
    const origin = this.#others.get(run);
    if (origin) await this.#compareWith(summary(origin.files), async () => origin);
  }

  /**
   * Opens files that belong together; a text among them is what will be measured on. Without weights they are for the
   * checkpoint that is there.
   */
  openFiles(files: File[], folder?: string): Promise<void> {
    return this.#openFrom(folder ?? summary(files), async () => ({ place: "files", folder, files }));
  }

  /** Opens the demo checkpoint. */
  openDemo(): Promise<void> {
    return this.#openFrom("the demo", async (signal) => ({ place: "demo", files: await demoFiles(signal) }));
  }

  /** Opens a path of the machine that serves the page. */
  openPath(pasted: string): Promise<void> {
    const path = unquoted(pasted);
    return this.#openFrom(path, async (signal) => ({ place: "path", ...(await localFiles(path, signal)) }));
  }

  /** Sets a configuration field that the checkpoint does not say; undefined takes the page's own value back. */
  async setField(field: string, value: FieldValue | undefined): Promise<void> {
    const { checkpoint, opening } = this.#page.state();
    const origin = this.#origin;
    if (!checkpoint || !origin || opening) return;
    const { [field]: _, ...others } = checkpoint.given;
    const given = value === undefined ? others : { ...others, [field]: value };
    await this.#openFrom(checkpoint.name, async () => origin, { given, field, chosen: this.#chosen });
  }

  /** Opens the same files once more with another choice among what they hold: a tokenizer, a place of the weights. */
  async choose(chosen: Chosen): Promise<void> {
    const { checkpoint, opening } = this.#page.state();
    const origin = this.#origin;
    if (!checkpoint || !origin || opening) return;
    const { given, name } = checkpoint;
    await this.#openFrom(name, async () => origin, { given, chosen: { ...this.#chosen, ...chosen } });
  }

  /** Opens the same files once more: after the worker has stopped, and with it all that it held. */
  async reopen(): Promise<void> {
    const { checkpoint } = this.#page.state();
    const origin = this.#origin;
    if (!checkpoint || !origin) return;
    const { given, name } = checkpoint;
    await this.#openFrom(name, async () => origin, { given, chosen: this.#chosen });
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

  /** Changes the recipe, and plans it. What one field, `edit`, changes in a row is undone as one. */
  async askRecipe(recipe: Recipe, edit?: string): Promise<void> {
    this.#page.tell({ type: "asked", change: { recipe }, edit });
    if (this.#open) await plan(this.#open, recipe);
  }

  /** Takes a recipe of those that are offered: whether errors are made up for, and it is trained, stays as the user has set it. */
  async pickRecipe(offered: Recipe): Promise<void> {
    const { asked, recipes } = this.#page.state();
    const { text } = asked;
    const recipe = picked(offered, asked.recipe, recipes);
    if (recipe !== offered) return this.askRecipe(recipe);
    // The last articles were taken for a recipe that brought its compensation along, and go with it.
    if (text === "last" && readsText(asked.recipe))
      this.#page.tell({ type: "asked", change: { recipe, text: "demo" } });
    await this.askRecipe(recipe);
  }

  /** Goes back to the recipe that was asked for before, and plans it. */
  async undoRecipe(): Promise<void> {
    this.#page.tell({ type: "undone" });
    if (this.#open) await plan(this.#open, this.#page.state().asked.recipe);
  }

  /** Looks at a tensor, and at what each code would make of it. */
  async look(tensor: string): Promise<void> {
    if (this.#open) await look(this.#open, tensor);
  }

  /** Compresses and measures the produced file: as is asked for, but for what is changed for this run alone. */
  async compress(change: Partial<Asked> = {}): Promise<void> {
    const { work, asked } = this.#page.state();
    if (!this.#open || work) return;
    const run = ++this.#runs;
    const opened = this.#open;
    this.#enough = new AbortController();
    await compress(opened, run, { ...asked, ...change }, this.#enough.signal);
    this.#remember(run);
    await adviseAnew(opened).catch((error: unknown) => opened.failed(error));
  }

  /** Has advice keep to this as well. */
  async wish(change: Wishes): Promise<void> {
    this.#page.tell({ type: "wished", change });
    const opened = this.#open;
    if (opened) await adviseAnew(opened).catch((error: unknown) => opened.failed(error));
  }

  /** Measures what every recipe costs this model, for advice of its own. */
  async measure(): Promise<void> {
    if (this.#open && !this.#page.state().work) await measureAll(this.#open, ++this.#runs);
  }

  /** Searches for the best recipe, carries it out and measures the produced file. */
  async search(wanted: Wanted): Promise<void> {
    const { work, asked } = this.#page.state();
    if (!this.#open || work) return;
    const run = ++this.#runs;
    await search(this.#open, run, asked, wanted);
    this.#remember(run);
  }

  /** Measures which tensors of a run matter; without one, of the checkpoint. */
  async measureDamage(of?: number): Promise<void> {
    const { work, runs } = this.#page.state();
    const run = runs.find(({ id }) => id === of);
    if (!this.#open || work || (of !== undefined && !run?.report)) return;
    await measureDamage(this.#open, ++this.#runs, run?.report ? run : undefined);
  }

  /** Says what can be pruned of the checkpoint, for a student or before a search, and what these steps leave. */
  async planPruning(of: "students" | "first", steps: StepDraft[]): Promise<void> {
    if (this.#open) await planPruning(this.#open, of, steps);
  }

  /** Trains a student, or goes on with the one that was left, and measures it. */
  async train(from: { wanted: WantedStudent } | { left: LeftTraining }): Promise<void> {
    const training = await whatTrains().catch((error: unknown) => {
      this.#page.tell({ type: "trainingFailed", problem: problemOf(error) });
    });
    const { work, asked } = this.#page.state();
    if (!training || !this.#open || work) return;
    const run = ++this.#runs;
    [this.#enough, this.#pause] = [new AbortController(), new AbortController()];
    await training.train(this.#open, run, asked, from, [this.#enough.signal, this.#pause.signal]);
    this.#remember(run);
  }

  /** Ends training: what is trained is what was best so far. */
  trainedEnough(): void {
    this.#enough.abort();
    const { work } = this.#page.state();
    if (work?.doing === "train") this.#page.tell({ type: "trainedEnough", run: work.run });
  }

  /** Ends training for now: it goes on from here another time. */
  pauseTraining(): void {
    this.#pause.abort();
  }

  /** Looks for a training of the checkpoint that was left. */
  async findTraining(): Promise<void> {
    const trains = await whatTrains().catch(() => undefined);
    if (this.#open) trains?.findTraining(this.#open);
  }

  /** Forgets the training that was left. */
  async dropTraining(): Promise<void> {
    const trains = await whatTrains().catch(() => undefined);
    if (this.#open) await trains?.dropTraining(this.#open);
  }

  /** Asks for the recipe of another size on the way that the search went. */
  async takePoint(point: SearchPoint): Promise<void> {
    if (this.#open) await takePoint(this.#open, point);
  }

  // For the next visit; on this one the run itself is on the page.
  #remember(id: number): void {
    const { checkpoint, runs } = this.#page.state();
    const run = runs.find((it) => it.id === id);
    if (checkpoint && run && (run.comparison ?? run.byText)) this.#memory.add(recordOf(checkpoint, run, Date.now()));
  }

  /** Forgets the runs of earlier visits, and those of this one after it. */
  clearMemory(): void {
    this.#memory.clear();
    this.#page.tell({ type: "remembered", records: [] });
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

  /** What is written of a run in another format. */
  taken(run: number, as: Elsewhere): Checkpoint | undefined {
    return this.#open?.taken(run, as);
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
    this.#others.delete(run);
    this.#page.tell({ type: "forgotten", run });
  }

  async #compareWith(what: string, gather: (signal: AbortSignal) => Promise<Origin>): Promise<void> {
    const opened = this.#open;
    if (!opened || this.#page.state().work) return;
    this.#opening.abort();
    this.#opening = new AbortController();
    const { signal } = this.#opening;
    this.#page.tell({ type: "opening" });
    try {
      const origin = await gather(signal);
      if (origin.files.every((file) => isBeside(file) || isText(file))) throw noWeights(what);
      const brought = await openOther(opened, origin, this.#origin?.files ?? [], signal);
      if (signal.aborted) return brought.checkpoint.dispose();
      const run = ++this.#runs;
      this.#others.set(run, origin);
      await bring(opened, run, brought);
      this.#remember(run);
    } catch (error) {
      if (!signal.aborted) {
        opened.tell({ type: "openFailed", problem: opened.failed(error), what, field: undefined });
      }
    }
  }

  async #openFrom(
    what: string,
    gather: (signal: AbortSignal) => Promise<Origin>,
    { given = {}, field, chosen = {} }: Anew = {},
  ): Promise<void> {
    this.#opening.abort();
    this.#opening = new AbortController();
    const { signal } = this.#opening;
    this.#page.tell({ type: "opening" });
    void this.readHeldout();
    try {
      const gathered = await gather(signal);
      const { recipe, others } = await takeRecipe(gathered.files);
      const apart = others.filter((file) => !isText(file));
      const alone = this.#origin !== undefined && apart.every(isBeside);
      const origin = this.#origin && alone ? joined(this.#origin, others) : { ...gathered, files: others };
      if (!this.#origin && apart.length > 0 && apart.every(isBeside)) {
        const names = apart.map(({ name }) => name).join(", ");
        throw new StatepressError("bad-input", `no weights in ${names}: open it together with those it belongs to`);
      }
      const { text, findings, others: weights } = await takeText(origin.files);
      if (signal.aborted) return;
      // A recipe and a text are settings: nothing has to be opened for them.
      if (apart.length === 0 && (recipe || alone)) {
        // Nothing is wrong with any weights, which is what the codes of the package would say.
        if (others.length > 0 && !text) throw new Error(sentence(findings));
        this.#page.tell({ type: "openingEnded" });
        if (alone) this.#origin = origin;
        if (others.length > 0 && text) this.#page.tell({ type: "textTaken", text });
        if (recipe) await this.askRecipe(recipe);
        return;
      }
      const set = alone ? (this.#page.state().checkpoint?.given ?? {}) : given;
      // A tokenizer that comes later is the one that is meant.
      const taken = alone ? { weights: this.#chosen.weights } : chosen;
      const place = taken.weights === undefined ? {} : { weights: taken.weights };
      const checkpoint = await open(withTokenizer(weights, taken.tokenizer), { set, signal, ...place });
      if (signal.aborted) return checkpoint.dispose();
      this.#release();
      this.#open = new OpenCheckpoint(++this.#opened, checkpoint, this.#page);
      // The recipe among what was gathered has done its part: opening once more must not bring it back.
      this.#origin = origin;
      this.#chosen = taken;
      const { inspection, tokenizerName, weightsName } = checkpoint;
      this.#page.tell({
        type: "opened",
        checkpoint: {
          id: this.#opened,
          name: nameOf(origin, weightsName),
          weights: weightsName,
          place: origin.place,
          path: origin.path,
          inspection: {
            ...inspection,
            findings: [...inspection.findings, ...(origin.findings ?? []), ...findings],
          },
          given: set,
          weightsPath: taken.weights,
          tokenizer: tokenizerName,
          tokenizers: tokenizersAmong(weights),
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
    this.#chosen = {};
    this.#offered = undefined;
    this.#others.clear();
  }
}
