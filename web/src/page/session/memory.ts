// Runs remembered over a reload: recipes and numbers, in this browser alone. Where storage is forbidden nothing is kept.

import { MOST_RECORDS, type RunRecord, recordsIn } from "../state/record.js";

const KEY = "statepress runs";

/** Where records are kept. */
export interface Memory {
  load(): RunRecord[];
  /** Adds a record to what is kept by now, also by other tabs. */
  add(record: RunRecord): void;
  clear(): void;
}

/** The browser's own. */
export const memory: Memory = {
  load() {
    try {
      return recordsIn(localStorage.getItem(KEY));
    } catch {
      return [];
    }
  },
  add(record) {
    try {
      localStorage.setItem(KEY, JSON.stringify([...memory.load(), record].slice(-MOST_RECORDS)));
    } catch {
      // Forbidden or full: the run stands on the page, and can be downloaded.
    }
  },
  clear() {
    try {
      localStorage.removeItem(KEY);
    } catch {
      // Nothing was kept, then.
    }
  },
};
