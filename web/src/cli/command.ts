// What a command is, and what it is given.

import type { Args } from "./args.js";
import type { OptionName } from "./options.js";
import type { Output } from "./output.js";

/** One run of a command. */
export interface Run {
  args: Args;
  output: Output;
  /** Fires on the signals that end a process. */
  signal: AbortSignal;
}

/** A command, as the manual has it. */
export interface Command {
  /** What it takes besides options. The last one may be given several times where its name ends in dots. */
  operands: readonly string[];
  does: string;
  options: readonly OptionName[];
  /** The only values that its operand has. */
  allowed?: readonly string[];
  /** Whether it may compute on a GPU. */
  computes?(args: Args): boolean;
  /** Answers with the exit code. */
  run(run: Run, operands: string[]): Promise<number>;
}
