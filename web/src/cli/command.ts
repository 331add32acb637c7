// What a command is given.

import type { Args } from "./args.js";
import type { Output } from "./output.js";

/** What opening a checkpoint needs. */
export interface CheckpointInput {
  args: Args;
  /** Fires on SIGINT and SIGTERM. */
  signal: AbortSignal;
}

/** One run of a command. */
export interface Run extends CheckpointInput {
  output: Output;
}
