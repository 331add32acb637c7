// The checkpoint on the page, with everything that was made from it and all work on it: it goes as one.

import type { Checkpoint } from "statepress";
import type { Elsewhere } from "../state/elsewhere.js";
import type { PageEvent } from "../state/events.js";
import type { Problem, State } from "../state/state.js";
import type { FoundOffset } from "./found-offset.js";
import type { Teller } from "./page.js";
import { problemOf } from "./problem.js";

/** Kinds of work, of each of which there is one at a time: a second one stops the first. */
export type Kind = "work" | "offsets" | "trial" | "look";

/** An open checkpoint. */
export class OpenCheckpoint {
  readonly id: number;
  readonly checkpoint: Checkpoint;
  /** The offset that was found out last. */
  offsets: FoundOffset | undefined;
  readonly #page: Teller;
  readonly #running = new Map<Kind, AbortController>();
  readonly #produced = new Map<number, Checkpoint>();
  #gone = false;

  constructor(id: number, checkpoint: Checkpoint, page: Teller) {
    this.id = id;
    this.checkpoint = checkpoint;
    this.#page = page;
  }

  /** What the page knows. */
  get state(): State {
    return this.#page.state();
  }

  /** Tells the page, as long as this is the checkpoint on it: what comes later is about nothing any more. */
  tell = (event: PageEvent): void => {
    if (!this.#gone) this.#page.tell(event);
  };

  /** An error in words. A worker that has stopped, or knows nothing of this checkpoint, is told of by itself. */
  failed(error: unknown): Problem {
    const problem = problemOf(error);
    if (problem.code === "crashed" || problem.code === "disposed") this.tell({ type: "lost" });
    return problem;
  }

  /** Begins work: the signal fires when it is stopped, when more of its kind begins, and when the checkpoint goes. */
  begin(kind: Kind): AbortSignal {
    this.stop(kind);
    const controller = new AbortController();
    if (this.#gone) controller.abort();
    this.#running.set(kind, controller);
    return controller.signal;
  }

  /** Stops work. */
  stop(kind: Kind): void {
    this.#running.get(kind)?.abort();
  }

  /** Keeps what a run has produced; false when there is nobody to keep it for. */
  keep(run: number, produced: Checkpoint): boolean {
    if (this.#gone) produced.dispose();
    else this.#produced.set(run, produced);
    return !this.#gone;
  }

  /** What a run has produced. */
  produced(run: number): Checkpoint | undefined {
    return this.#produced.get(run);
  }

  /**
   * What is written of a run in another format: as a rule what it has produced. Where nothing was done, what was opened, from GGUF to
   * GGUF and with every key of the original: our own layout has no place for all of it.
   */
  taken(run: number, { format, layout }: Elsewhere): Checkpoint | undefined {
    const produced = this.produced(run);
    const stays = format === "gguf" ? this.checkpoint.inspection.format === "gguf" : layout === "original";
    return stays && produced?.report?.recipe.steps.length === 0 ? this.checkpoint : produced;
  }

  /** Lets what a run has produced go. */
  forget(run: number): void {
    this.#produced.get(run)?.dispose();
    this.#produced.delete(run);
  }

  /** Lets everything go. */
  dispose(): void {
    this.#gone = true;
    for (const kind of this.#running.keys()) this.stop(kind);
    for (const run of this.#produced.keys()) this.forget(run);
    this.checkpoint.dispose();
  }
}
