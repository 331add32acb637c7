// The page as the session sees it: what it knows, and where what happens is told.

import type { PageEvent } from "../state/events.js";
import type { State } from "../state/state.js";

/** The store, without Svelte. */
export interface Teller {
  state(): State;
  tell(event: PageEvent): void;
}
