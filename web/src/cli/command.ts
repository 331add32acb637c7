// What a command is given.

import type { Args } from "./args.js";
import type { Output } from "./output.js";

/** One run of a command. */
export interface Run {
  args: Args;
  output: Output;
  /** Fires on SIGINT and SIGTERM. */
  signal: AbortSignal;
}
