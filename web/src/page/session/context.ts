// The store and the session, for every component below the page.

import { getContext, setContext } from "svelte";
import type { Session } from "./session.js";
import type { Store } from "./store.svelte.js";

const KEY = Symbol("page");

/** What a component can read and do. */
export interface Page {
  store: Store;
  session: Session;
}

/** Provides the page to the components below. */
export function providePage(page: Page): void {
  setContext(KEY, page);
}

/** The page that this component is part of. */
export function usePage(): Page {
  return getContext(KEY);
}
