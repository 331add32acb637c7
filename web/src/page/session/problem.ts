// Errors in words.

import { StatepressError } from "statepress";
import type { Problem } from "../state/state.js";

/** What was thrown, for people. */
export function problemOf(error: unknown): Problem {
  if (error instanceof StatepressError) {
    return { code: error.code, message: error.code === "aborted" ? "Cancelled." : `${error.message}.` };
  }
  return { code: "unknown", message: `${error instanceof Error ? error.message : String(error)}.` };
}
