// The result of one entry: made in a folder of its own, then moved to its name; the record comes last and says that it is whole.

import { readlinkSync } from "node:fs";
import { mkdtemp, open, readdir, rename, rm, stat } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { StatepressError } from "../../api/errors.js";
import { ioError } from "../../api/io.js";
import { isRecord } from "../../api/record.js";
import type { Comparison, Finding } from "../../api/types/statepress.js";
import { lasting, temporary } from "../../worker/temporary-node.js";
import type { Run } from "../command.js";
import { type Answer, answerOf } from "./apart.js";
import { digest, type Hashed, hashFile, hashInput, nameOf } from "./identity.js";
import type { Entry } from "./manifest.js";
import { type Line, lineOf, type ResultRecord, recordName, wholeRecord, writeSynced } from "./record.js";
import { compareLine, compressLine, keyOfEntry, recipeOf, type Work } from "./work.js";

/** Milliseconds after which what was begun and left is taken away whoever has begun it: a day. */
const ABANDONED = 24 * 60 * 60 * 1000;

/** This machine, in a few letters: the numbers of processes are its own, and on Linux those of a container. */
const HOST = digest([hostname(), processSpace()]).slice(0, 8);

function processSpace(): string {
  try {
    return readlinkSync("/proc/self/ns/pid");
  } catch {
    return "";
  }
}

/** What of a line is known although it failed. */
export type Known = Partial<Line>;

/** What one entry shares with the batch. */
export interface Shared {
  /** What messages call the entry. */
  about: string;
  /** Is given what is known so far. */
  known: Known;
  /** What the results of this run are called. */
  made: Set<string>;
}

/** Makes the result of an entry, unless it is there. */
export async function resultOf(run: Run, work: Work, entry: Entry, { about, known, made }: Shared): Promise<Line> {
  const { args, signal, output } = run;
  const begun = performance.now();
  const seconds = () => Math.round(performance.now() - begun) / 1000;
  const folder = args.need("output");
  const recipe = await recipeOf(work, entry, signal);
  Object.assign(known, { recipe: recipe.name, format: work.format, version: work.version });
  const input = await hashInput(entry.path, entry.tokenizer ?? args.text("tokenizer"), signal);
  const key = keyOfEntry(work, entry, recipe, input);
  Object.assign(known, { sha256: input.sha256, key });
  const name = nameOf(entry.path, key, work.format);
  const place = join(folder, name);

  if (args.flag("skip-existing") || made.has(name)) {
    const found = await wholeRecord(folder, name, { key, measured: work.measured }, signal);
    if ("record" in found) {
      return { ...lineOf(found.record), status: "skipped", output: place, seconds: seconds() };
    }
    if (found.lacks !== undefined) output.note(`made again: ${found.lacks}`);
  } else if (!args.flag("force") && (await isThere(place))) {
    const message = `${place} exists; --skip-existing keeps what is whole and makes the rest again, --force makes it again`;
    throw new StatepressError("exists", message, { path: place });
  }

  const partial = await begin(folder, name);
  try {
    const out = join(partial, name);
    const here = { about, temporary: partial };
    const compressed = await answerOf(compressLine(run, work, entry, out), here, signal);
    const compared =
      work.measured === undefined ? undefined : await answerOf(compareLine(run, entry, out), here, signal);
    await input.checkUnchanged();
    const measuring = [compared?.["a"], compared?.["b"]];
    // What compresses has told of its findings; what compares is quiet, as it would tell of the original again.
    output.findings(findingsOf(measuring));
    const record: ResultRecord = {
      status: "done",
      input: entry.input,
      line: entry.line,
      output: place,
      key,
      sha256: input.sha256,
      recipe: recipe.name,
      format: work.format,
      version: work.version,
      ...sizes(compressed),
      ...(compared && qualities(compared as unknown as Comparison)),
      seconds: seconds(),
      peakBytes: Number(compressed["peakBytes"]),
      findings: findingsOf([compressed["checkpoint"], compressed, compressed["exported"], ...measuring]),
      inputs: input.files,
      files: await filesOf(partial, name, signal),
      ...(work.measured !== undefined && { measured: work.measured }),
    };
    await writeSynced(join(partial, recordName(name)), `${JSON.stringify(record, null, 2)}\n`);
    await publish(partial, folder, [name, `${name}.report.json`, recordName(name)]);
    made.add(name);
    return lineOf(record);
  } finally {
    await rm(partial, { recursive: true, force: true });
    lasting(partial);
  }
}

/**
 * Makes the folder in which a result is made. Nobody takes what is in there for a result: it is hidden, and has no name that is
 * looked for. Temporary files are in there as well, so that a process that is killed leaves nothing elsewhere.
 */
async function begin(folder: string, name: string): Promise<string> {
  const prefix = `.${name}.partial-`;
  try {
    for (const old of (await readdir(folder)).filter((it) => it.startsWith(prefix))) {
      if (await isAbandoned(join(folder, old), old.slice(prefix.length))) {
        await rm(join(folder, old), { recursive: true, force: true });
      }
    }
    const partial = await mkdtemp(join(folder, `${prefix}${HOST}-${process.pid}-`));
    temporary(partial);
    return partial;
  } catch (error) {
    throw ioError(folder, "written", error);
  }
}

// Whether the process that has begun it is gone: known on its own machine, elsewhere after a day.
async function isAbandoned(path: string, owner: string): Promise<boolean> {
  const [host, pid] = owner.split("-");
  if (host === HOST && !isRunning(Number(pid))) return true;
  const about = await stat(path).catch(() => undefined);
  return about !== undefined && Date.now() - about.mtimeMs > ABANDONED;
}

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** Moves what is made to its names, one after the other, each on the disk before the next: the record is the last. */
async function publish(from: string, to: string, names: readonly string[]): Promise<void> {
  for (const name of names) {
    const [made, place] = [join(from, name), join(to, name)];
    try {
      // A folder cannot be renamed to one that has files in it.
      if ((await stat(made)).isDirectory() && (await isThere(place))) await rename(place, join(from, `old-${name}`));
      await synced(made);
      await rename(made, place);
      await synced(to);
    } catch (error) {
      throw ioError(place, "written", error);
    }
  }
}

/** The files of the result, hashed, and on the disk. */
async function filesOf(partial: string, name: string, signal: AbortSignal): Promise<Hashed[]> {
  const inside = await readdir(join(partial, name)).catch(() => undefined);
  const names = inside === undefined ? [name] : inside.sort().map((it) => `${name}/${it}`);
  const hashed: Hashed[] = [];
  for (const it of names) {
    await synced(join(partial, it));
    hashed.push(await hashFile(join(partial, it), signal, it));
  }
  return hashed;
}

// A name is on the disk when its folder is. Not every system can do that of a folder, and none has to.
async function synced(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync().catch(() => {});
  } finally {
    await handle.close();
  }
}

async function isThere(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined)) !== undefined;
}

/** What compress says of the model and of sizes. */
function sizes(report: Answer): Pick<Line, "family" | "params" | "bytesIn" | "bytesOut" | "ratio"> {
  const { family, params } = report["checkpoint"] as { family: string; params: number };
  const { before, after } = report["bytes"] as { before: number; after: number };
  const exported = report["exported"] as { fileBytes: number } | undefined;
  const bytesOut = exported?.fileBytes ?? after;
  return { family, params, bytesIn: before, bytesOut, ratio: before / bytesOut };
}

/** What the card of compare says; of models whose tokens differ there is no divergence. */
function qualities({ a, b, perplexityChange, kl, top1Agreement }: Comparison): Partial<Line> {
  return {
    ppl: b.perplexity,
    pplIn: a.perplexity,
    ...(perplexityChange !== undefined && { pplChange: perplexityChange }),
    ...(kl !== undefined && { kl: kl.mean }),
    ...(top1Agreement !== undefined && { top1Agreement }),
    tokens: b.tokens,
  };
}

/** The findings of some answers, each thing once. */
function findingsOf(parts: readonly unknown[]): Finding[] {
  const all = parts.flatMap((it) => (isRecord(it) ? ((it["findings"] as Finding[] | undefined) ?? []) : []));
  const texts = all.map((it) => JSON.stringify(it));
  return all.filter((_, at) => texts.indexOf(texts[at] ?? "") === at);
}
