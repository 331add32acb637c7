// Where the results of compress go: looked at before the work, so that nothing is computed that cannot be written.

import { mkdir, readdir, rmdir, stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import type { Checkpoint } from "../api/checkpoint.js";
import { StatepressError } from "../api/errors.js";
import { checkName, type Format, fileName, isFolder } from "../api/formats.js";
import { ioError } from "../api/io.js";
import { checkFolderTarget, checkTarget, type Target } from "../api/target.js";
import { STANDARD, UsageError } from "./args.js";
import type { Run } from "./command.js";

/** Where one result goes. */
export interface Destination {
  /** Undefined is standard output. A folder, where the format is one. */
  file: string | undefined;
  format: Format;
  /** The file beside which what is on its way to it is kept. */
  beside: string | undefined;
  /** Undefined where none is written: bytes that are sent away leave nothing beside them, unless it is asked for. */
  reportFile: string | undefined;
  /** All files that are read: none of them is written. */
  inputs: readonly string[];
}

/** The destination of every input; anything that cannot be is an error now. */
export async function destinations(
  run: Run,
  files: readonly string[],
  out: string,
  format: Format,
): Promise<Map<string, Destination>> {
  const { args } = run;
  const report = args.text("report");
  const inputs = (await Promise.all(files.map(filesOf))).flat();
  const options = { force: args.flag("force"), inputs, signal: run.signal };
  const [only] = files;
  if (out === STANDARD && files.length > 1) {
    throw new UsageError("several checkpoints cannot go to standard output: name a folder");
  }
  if (files.length === 1 && only !== undefined && (isFolder(format) || !/[\\/]$/.test(out))) {
    const kind = await checkOutput(run, out, format, inputs);
    const path = out.replace(/(?<=.)[\\/]+$/, "");
    const reportFile = report ?? (kind === "file" ? `${path}.report.json` : undefined);
    if (reportFile !== undefined) {
      if (resolve(reportFile) === resolve(out)) throw new UsageError("--report and --output name the same file");
      await checkTarget(reportFile, options);
    }
    const file = out === STANDARD ? undefined : out;
    return new Map([[only, { file, format, beside: besideOf(file, format), reportFile, inputs }]]);
  }
  if (report !== undefined) throw new UsageError("--report is for one file: those in a folder have theirs beside them");
  return inFolder(files, out, format, options);
}

/** Refuses what --output cannot be; answers what kind of thing is written. */
export async function checkOutput(
  run: Run,
  out: string,
  format: Format,
  inputs: readonly string[],
): Promise<Target["kind"]> {
  if (isFolder(format)) {
    if (out === STANDARD) throw new UsageError(`${format} is a folder of files, and cannot go to standard output`);
    checkName(out, format);
    await checkFolderTarget(out, { force: run.args.flag("force") });
    return "file";
  }
  if (out !== STANDARD) {
    checkName(out, format);
    return (await checkTarget(out, { force: run.args.flag("force"), inputs, signal: run.signal })).kind;
  }
  takeStandardOutput(run);
  return "device";
}

/** Refuses before the work what another tool has no place for, whatever a recipe makes of it. */
export async function checkExportable({ args, signal }: Run, checkpoint: Checkpoint, format: Format): Promise<void> {
  try {
    await checkpoint.exportable({ format, ggufType: args.one("gguf-type"), layout: args.one("layout"), signal });
  } catch (error) {
    // Whether any layer is of codes that the folder is for is known once a recipe was followed.
    const isLater = isFolder(format) && error instanceof StatepressError && error.code === "bad-option";
    if (!isLater) throw error;
  }
}

/** From now on standard output has bytes and nothing else. */
export function takeStandardOutput({ args, output }: Run): void {
  if (args.flag("json")) {
    throw new UsageError("with -o - standard output holds the bytes, and there is no room for --json");
  }
  if (process.stdout.isTTY) {
    throw new UsageError("with -o - the bytes go to standard output, which is a terminal: redirect it");
  }
  output.bytesOnStdout = true;
}

// A folder need not be there yet: what becomes part of it is kept where it will be.
function besideOf(file: string | undefined, format: Format): string | undefined {
  if (file === undefined || !isFolder(format)) return file;
  return join(dirname(resolve(file)), "model.safetensors");
}

/** Written as fast as whoever reads it takes it. */
export function writeStandardOutput(bytes: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    process.stdout.write(bytes, (error) => (error ? reject(error) : resolve()));
  });
}

async function inFolder(
  files: readonly string[],
  folder: string,
  format: Format,
  options: { force: boolean; inputs: readonly string[]; signal: AbortSignal },
): Promise<Map<string, Destination>> {
  const found = new Map<string, Destination>();
  const owners = new Map<string, string>();
  for (const input of files) {
    const file = join(folder, fileName(stem(input), format));
    const owner = owners.get(file);
    if (owner !== undefined) throw new UsageError(`${owner} and ${input} would both become ${file}`);
    owners.set(file, input);
    const beside = besideOf(file, format);
    found.set(input, { file, format, beside, reportFile: `${file}.report.json`, inputs: options.inputs });
  }
  const made = await makeFolder(folder, format);
  try {
    for (const { file = "", reportFile = "" } of found.values()) {
      await (isFolder(format) ? checkFolderTarget(file, options) : checkTarget(file, options));
      await checkTarget(reportFile, options);
    }
  } catch (error) {
    if (made) await rmdir(folder).catch(() => {});
    throw error;
  }
  return found;
}

/** Makes a folder that is named for results, where it is not there; answers whether it was made. */
export async function makeFolder(folder: string, format: Format): Promise<boolean> {
  const about = await stat(folder).catch(() => undefined);
  if (about?.isDirectory()) return false;
  if (about) {
    const message = `${folder} is no folder: the results of several checkpoints go into one`;
    throw new StatepressError("io", message, { path: folder });
  }
  // `a.pt b.pt -o both.safetensors` asks for a file.
  if (!isFolder(format) && folder.endsWith(`.${fileName("", format).slice(1)}`))
    throw new UsageError(`several checkpoints need a folder, not ${folder}`);
  checkName(folder, format);
  const parent = dirname(resolve(folder));
  if (!(await stat(parent).catch(() => undefined))) {
    throw new StatepressError("io", `${folder} cannot be made: there is no folder ${parent}`, { path: folder });
  }
  return mkdir(folder).then(
    () => true,
    async (error: NodeJS.ErrnoException) => {
      // Another process may have been faster.
      if (error.code === "EEXIST" && (await stat(folder)).isDirectory()) return false;
      throw ioError(folder, "written", error);
    },
  );
}

/** A checkpoint's name without what says its format. */
export function stem(input: string): string {
  if (input === STANDARD) return "stdin";
  const name = basename(resolve(input));
  return name.replace(/(\.(pt|pth|bin|ckpt|safetensors|gguf|pt2|pkl))?(\.index\.json)?$/i, "") || name;
}

/** The files behind an operand: of a folder all that are in it. */
export async function filesOf(input: string): Promise<string[]> {
  if (input === STANDARD) return [];
  const inside = await readdir(input).catch(() => undefined);
  return inside === undefined ? [input] : inside.map((name) => join(input, name));
}
