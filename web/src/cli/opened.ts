// What the commands have in common: opening, loading, several inputs one after the other.

import { basename } from "node:path";
import { abortError, asStatepressError } from "../api/errors.js";
import { type Checkpoint, type Model, open, StatepressError } from "../api/node.js";
import { type Args, UsageError } from "./args.js";
import type { Run } from "./command.js";
import { withinMemory } from "./memory.js";
import type { Allowed } from "./options.js";
import * as show from "./show.js";
import { isStream, nameOf, withStream } from "./streams.js";

/** What is said of one file, where a command takes two. */
interface Beside {
  tokenizer: string | undefined;
  weights: string | undefined;
  /** What the file is called, where that is not its path. */
  name?: string;
}

/** What fails of one file says which. */
export async function about<T>(name: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (thrown) {
    const { code, message, facts } = asStatepressError(thrown);
    // Options are the user's, and most of what is said of files names them already.
    if (["aborted", "bad-option"].includes(code) || message.includes(basename(name))) throw thrown;
    throw new StatepressError(code, `${name}: ${message}`, { file: name, ...facts }, thrown);
  }
}

/** Opens FILE, and closes it when the command is done with it. */
export async function withCheckpoint<T>(
  run: Run,
  path: string,
  use: (checkpoint: Checkpoint) => Promise<T>,
  { tokenizer, weights, name = path }: Beside = {
    tokenizer: run.args.text("tokenizer"),
    weights: run.args.text("weights"),
  },
): Promise<T> {
  const { args, signal } = run;
  if (path === "") throw new UsageError("FILE has no name");
  if (await isStream(path))
    return withStream(path, signal, (file) =>
      withCheckpoint(run, file, use, { tokenizer, weights, name: nameOf(path) }),
    );
  const checkpoint = await about(name, open(path, { tokenizer, weights, set: args.fields(), signal }));
  try {
    return await use(checkpoint);
  } finally {
    checkpoint.dispose();
  }
}

/** Options of everything that takes long. */
export const running = ({ args, output, signal }: Run) => ({
  signal,
  onProgress: withinMemory(args.number("max-memory"), output.progress),
});

/** How a text is read to judge by it. */
export const protocol = (args: Args) => ({
  window: args.number("window"),
  limit: args.number("limit"),
  offset: args.text("offset") === "detect" ? ("detect" as const) : args.number("offset"),
});

/** Loads a model; which GPU computes, and what that offers, is said. */
export async function load(run: Run, checkpoint: Checkpoint, wanted: Allowed<"backend"> | undefined): Promise<Model> {
  const model = await checkpoint.load({ backend: wanted, ...running(run) });
  const { adapter } = model.backend;
  if (adapter) run.output.note(`GPU: ${show.adapter(adapter)}`);
  return model;
}

/** Does the same with every file. A file that fails is told of, and the others are done: that is exit code 1. */
export async function each(
  { output, signal }: Run,
  files: string[],
  act: (file: string) => Promise<void>,
): Promise<number> {
  const [only] = files;
  if (files.length === 1 && only !== undefined) {
    await act(only);
    return 0;
  }
  let failed = 0;
  for (const file of files) {
    output.input = file;
    try {
      await act(file);
    } catch (thrown) {
      if (signal.aborted || thrown instanceof UsageError) throw thrown;
      failed += 1;
      output.failure(thrown);
    }
    // What was done until now is done; what comes is not.
    if (signal.aborted) throw abortError(signal.reason);
  }
  output.input = undefined;
  output.note(`${files.length - failed} of ${files.length} done${failed > 0 ? `, ${failed} failed` : ""}`);
  return failed > 0 ? 1 : 0;
}

/** How many workers share the work. Where memory is limited, models are not held several times unless somebody says so. */
export function workersOf(args: Args): number | undefined {
  return args.number("workers") ?? (args.flag("max-memory") ? 1 : undefined);
}
