// The command batch: every file of a manifest compressed, for an engine that starts it on many machines and again where it failed.
//
// A line of JSON on standard output for every file; words on stderr. What is done stays done: see result.ts.

import { abortError, asStatepressError } from "../../api/errors.js";
import { systemWords } from "../../api/io.js";
import { STANDARD, UsageError } from "../args.js";
import type { Run } from "../command.js";
import { makeFolder, writeStandardOutput } from "../destinations.js";
import { Output } from "../output.js";
import { nameOf } from "../streams.js";
import { Told } from "./apart.js";
import { exitCodeOf, mayPass, PERMANENT, TRANSIENT } from "./exit.js";
import { type BadLine, type Entry, entries } from "./manifest.js";
import type { Line } from "./record.js";
import { type Known, resultOf } from "./result.js";
import { shardOf } from "./shard.js";
import { type Work, workOf } from "./work.js";

export async function batch(run: Run, manifest: string): Promise<number> {
  // Standard output has lines about files alone, whatever goes wrong.
  const output = new Output(false, run.output.quiet, run.output.messages);
  // Whoever does not hear of the rest must not take it for done.
  process.stdout.prependListener("error", (error) => {
    output.say(`error: standard output cannot be written: ${systemWords(error)}`);
    process.exit(TRANSIENT);
  });
  try {
    return await allOf({ ...run, output }, manifest);
  } catch (thrown) {
    if (thrown instanceof UsageError) throw thrown;
    const error = asStatepressError(thrown, run.signal);
    output.input = undefined;
    if (error.code === "aborted")
      output.say("stopped; what is done stays done: the same command with --skip-existing goes on");
    else output.failure(error);
    return exitCodeOf(error);
  }
}

async function allOf(run: Run, manifest: string): Promise<number> {
  const { args, output, signal } = run;
  const shard = shardOf(args);
  const folder = args.need("output");
  if (folder === STANDARD)
    throw new UsageError("--output names a folder: results of a batch cannot go to standard output");
  const work = await workOf(run);
  await makeFolder(folder, work.format);
  const ended: Record<Line["status"], number> = { done: 0, skipped: 0, failed: 0, cancelled: 0 };
  /** What the results of this run are called: the same file in two lines is made once. */
  const made = new Set<string>();
  let again = false;
  for await (const entry of entries(manifest, shard, signal)) {
    const about = `${nameOf(manifest)} line ${entry.line}: ${entry.input}`;
    output.input = about;
    const line = await lineFor(run, work, entry, about, made);
    output.input = undefined;
    ended[line.status] += 1;
    again ||= line.error?.retry ?? false;
    // Whoever reads lines slowly is waited for.
    await writeStandardOutput(Buffer.from(`${JSON.stringify(line)}\n`));
    if (signal.aborted) throw abortError(signal.reason);
  }
  const total = Object.values(ended).reduce((sum, count) => sum + count);
  const counts = Object.entries(ended).flatMap(([status, count]) => (count > 0 ? [`${count} ${status}`] : []));
  output.note(`${total} ${total === 1 ? "file" : "files"}${total > 0 ? `: ${counts.join(", ")}` : ""}`);
  if (ended.failed === 0) return 0;
  return again ? TRANSIENT : PERMANENT;
}

/** What became of one entry. */
async function lineFor(run: Run, work: Work, entry: Entry | BadLine, about: string, made: Set<string>): Promise<Line> {
  const { input, line } = entry;
  const known: Known = {};
  const begun = performance.now();
  try {
    if ("error" in entry) throw entry.error;
    return { ...(await resultOf(run, work, entry, { about, known, made })), input, line };
  } catch (thrown) {
    const seconds = Math.round(performance.now() - begun) / 1000;
    if (run.signal.aborted) return { status: "cancelled", input, line, ...known, seconds };
    const error = asStatepressError(thrown);
    if (!(error instanceof Told)) run.output.failure(error);
    return { status: "failed", input, line, ...known, seconds, error: { ...error.toJSON(), retry: mayPass(error) } };
  }
}
