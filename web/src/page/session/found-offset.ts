// An offset that the package has found out: on which text, and how much of it.

import type { Evaluation } from "statepress";
import type { Asked } from "../state/state.js";

/** The evaluation that found it, for as long as it is asked for under the same settings. */
export class FoundOffset {
  readonly #evaluation: Evaluation;
  readonly #text: string;
  readonly #asked: Pick<Asked, "limit" | "window">;

  constructor(evaluation: Evaluation, text: string, { limit, window }: Asked) {
    this.#evaluation = evaluation;
    this.#text = text;
    this.#asked = { limit, window };
  }

  /** What was found, where it holds: every other number depends on it, so another text has its own. */
  find(text: string, { limit, window }: Asked): Evaluation | undefined {
    const same = text === this.#text && limit === this.#asked.limit && window === this.#asked.window;
    return same ? this.#evaluation : undefined;
  }
}
