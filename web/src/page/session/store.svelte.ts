// The page's state as Svelte sees it: one value, replaced by the reducer at each event.

import type { PageEvent } from "../state/events.js";
import { reduce } from "../state/reducer.js";
import { initial, type State } from "../state/state.js";

/** Holds the state. */
export class Store {
  state: State = $state.raw(initial);

  /** Something happened. */
  tell = (event: PageEvent): void => {
    this.state = reduce(this.state, event);
  };
}
