// Where results are written (Node): asked before the work whether that will do; complete under their name, or not there.
//
// A folder is made where it is not there, and its files written one after the other. A file is written beside its name and renamed, so nobody sees half of it. A link stays a link: what it leads to is written.
// What is no regular file is never replaced: a FIFO or a character device is written through, anything else is refused.

import { constants, createReadStream, type Stats } from "node:fs";
import {
  access,
  chmod,
  link,
  lstat,
  mkdir,
  open,
  readdir,
  readlink,
  realpath,
  rename,
  rm,
  stat,
} from "node:fs/promises";
import { dirname, isAbsolute, join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { lasting, removeTemporary, temporary } from "../worker/temporary-node.js";
import type { FolderFile } from "./environment.js";
import { StatepressError, throwIfAborted } from "./errors.js";
import { ioError } from "./io.js";

/** How something is written. */
export interface TargetOptions {
  /** Replace a file that exists. */
  force?: boolean | undefined;
  /** Files that are read meanwhile: none of them may be written. */
  inputs?: readonly string[] | undefined;
  signal?: AbortSignal | undefined;
}

/** Where bytes will go. */
export interface Target {
  /** As it was named. */
  path: string;
  /** The file itself, behind all links; what is written through has only its name. */
  file: string;
  /** A regular file, there or to be made; or something that bytes are sent through. */
  kind: "file" | "fifo" | "device";
  /** The permissions of a file that is replaced. */
  mode?: number;
}

/** Refuses what cannot be written, and says how the rest will be. */
export async function checkTarget(path: string, options: TargetOptions = {}): Promise<Target> {
  if (path === "") throw new StatepressError("bad-option", "the file to write has no name", { option: "output" });
  try {
    const about = await stat(path).catch(missing);
    if (!about) {
      const file = await behindLinks(path);
      await checkFolder(path, /[\\/]$/.test(file) ? file : dirname(file));
      return { path, file, kind: "file" };
    }
    const refuse = (what: string) => new StatepressError("io", `${path} cannot be written: ${what}`, { path });
    if (about.isDirectory()) throw refuse("it is a folder; name a file in it");
    if (about.isFIFO() || about.isCharacterDevice()) {
      await access(path, constants.W_OK);
      return { path, file: path, kind: about.isFIFO() ? "fifo" : "device" };
    }
    if (!about.isFile()) throw refuse(`it is a ${about.isSocket() ? "socket" : "block device"}, not a file`);
    await checkInputs(path, about, options.inputs ?? []);
    if (!options.force) {
      throw new StatepressError("exists", `${path} exists; it is replaced only when forced (--force)`, { path });
    }
    const file = await realpath(path);
    await checkFolder(path, dirname(file));
    return { path, file, kind: "file", mode: about.mode & 0o7777 };
  } catch (error) {
    throw ioError(path, "written", error);
  }
}

/** Writes bytes to where `checkTarget` says they go. */
export async function writeTarget(
  path: string,
  options: TargetOptions,
  bytes: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
): Promise<void> {
  const target = await checkTarget(path, options);
  try {
    await (target.kind === "file" ? writeFile(target, bytes, options) : writeThrough(target, bytes, options));
  } catch (error) {
    throw ioError(path, "written", error);
  }
}

/**
 * Gives a file that is complete and will not change the name of a target. Where both are on one file system nothing is
 * copied: it is the same file under two names until the first one goes.
 */
export async function saveTarget(path: string, options: TargetOptions, from: string): Promise<void> {
  const target = await checkTarget(path, options);
  try {
    if (target.kind === "file" && (await linked(target, from, options))) return;
    const bytes = bytesOf(from);
    await (target.kind === "file" ? writeFile(target, bytes, options) : writeThrough(target, bytes, options));
  } catch (error) {
    throw ioError(path, "written", error);
  }
}

/** Refuses what cannot be a folder to write files into; answers whether it is there. */
export async function checkFolderTarget(path: string, { force }: TargetOptions = {}): Promise<boolean> {
  if (path === "") throw new StatepressError("bad-option", "the folder to write has no name", { option: "output" });
  try {
    const about = await stat(path).catch(missing);
    if (!about) {
      await checkFolder(path, dirname(resolve(path)));
      return false;
    }
    if (!about.isDirectory()) {
      throw new StatepressError("io", `${path} cannot be written: it is no folder, and a folder is written`, { path });
    }
    await checkFolder(path, path);
    if (!force && (await readdir(path)).length > 0) {
      throw new StatepressError("exists", `${path} is not empty; files in it are replaced only when forced (--force)`, {
        path,
      });
    }
    return true;
  } catch (error) {
    throw ioError(path, "written", error);
  }
}

/** Writes files into a folder in their order. One that was made for them is gone again when that fails. */
export async function saveFolder(path: string, files: readonly FolderFile[], options: TargetOptions): Promise<void> {
  const there = await checkFolderTarget(path, options);
  try {
    if (!there) await mkdir(path);
    for (const { name, data } of files) {
      const file = join(path, name);
      const replace = { ...options, force: true };
      if (typeof data === "string") await writeTarget(file, replace, [new TextEncoder().encode(data)]);
      else if ("path" in data) await saveTarget(file, replace, data.path);
      else throw new StatepressError("internal", "what Node produces is a file");
    }
  } catch (error) {
    if (!there) await rm(path, { recursive: true, force: true });
    throw ioError(path, "written", error);
  }
}

/** Bytes of one read of a file that is copied. */
const PART = 1 << 20;

// Opened by the first read: where it never comes to that, nobody would hear of a file that is gone by then.
async function* bytesOf(path: string): AsyncGenerator<Uint8Array> {
  yield* createReadStream(path, { highWaterMark: PART });
}

/** Why a file cannot have a second name: on another file system, on one that has no such thing, or not for this user. */
const NO_LINKS = new Set(["EXDEV", "EPERM", "EACCES", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EMLINK", "EINVAL"]);

// Answers whether that could be done. What was saved before has the file's other name: two results do not share one.
async function linked({ file, mode }: Target, from: string, { signal }: TargetOptions): Promise<boolean> {
  throwIfAborted(signal);
  if ((await stat(from)).nlink > 1) return false;
  const partial = partialIn(dirname(file));
  try {
    await link(from, partial);
  } catch (error) {
    if (NO_LINKS.has((error as NodeJS.ErrnoException).code ?? "")) return false;
    throw error;
  }
  temporary(partial);
  try {
    if (mode !== undefined) await chmod(partial, mode);
    await rename(partial, file);
  } finally {
    // Also after a renaming that did nothing, because the file had that name already.
    await rm(partial, { force: true });
    lasting(partial);
  }
  return true;
}

function missing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== "ENOENT") throw error;
  return undefined;
}

// The file that a path whose end is missing would make: a link may lead to where nothing is yet.
async function behindLinks(path: string): Promise<string> {
  let file = path;
  while ((await lstat(file).catch(missing))?.isSymbolicLink()) {
    const to = await readlink(file);
    // Links in a circle were an error of stat.
    file = isAbsolute(to) ? to : `${dirname(file)}/${to}`;
  }
  return file;
}

// That a file can be made in a folder is found out by making one: permissions are not all there is.
async function checkFolder(path: string, folder: string): Promise<void> {
  if (!(await stat(folder).catch(missing))) {
    throw new StatepressError("io", `${path} cannot be written: there is no folder ${folder}`, { path });
  }
  const probe = partialIn(folder);
  const handle = await open(probe, "wx");
  temporary(probe);
  await handle.close();
  removeTemporary(probe);
}

async function checkInputs(path: string, about: Stats, inputs: readonly string[]): Promise<void> {
  for (const input of inputs) {
    const other = await stat(input).catch(() => undefined);
    if (other?.isFile() && other.ino === about.ino && other.dev === about.dev) {
      throw new StatepressError("io", `${path} cannot be written: it is read as ${input}; name another file`, { path });
    }
  }
}

let partials = 0;

function partialIn(folder: string): string {
  partials += 1;
  return join(folder, `.statepress-${process.pid}-${partials}.partial`);
}

async function writeFile(
  { file, mode }: Target,
  bytes: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  { signal }: TargetOptions,
): Promise<void> {
  const partial = partialIn(dirname(file));
  const handle = await open(partial, "wx");
  temporary(partial);
  try {
    try {
      if (mode !== undefined) await handle.chmod(mode);
      for await (const chunk of bytes) {
        throwIfAborted(signal);
        for (let done = 0; done < chunk.length; ) done += (await handle.write(chunk, done)).bytesWritten;
      }
    } finally {
      await handle.close();
    }
    throwIfAborted(signal);
    await rename(partial, file);
    lasting(partial);
  } catch (error) {
    await rm(partial, { force: true });
    lasting(partial);
    throw error;
  }
}

/** Milliseconds between two tries at something that is not ready. */
const PATIENCE = 10;

async function writeThrough(
  { file, kind }: Target,
  bytes: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  { signal }: TargetOptions,
): Promise<void> {
  // An open or a write that waits would hold a thread that nothing can stop: what is not ready is asked again instead.
  const unread = kind === "fifo" ? "ENXIO" : "";
  const handle = await eventually(unread, signal, () => open(file, constants.O_WRONLY | constants.O_NONBLOCK));
  try {
    for await (const chunk of bytes) {
      for (let done = 0; done < chunk.length; ) {
        done += (await eventually("EAGAIN", signal, () => handle.write(chunk, done))).bytesWritten;
      }
    }
  } finally {
    await handle.close();
  }
}

// ENXIO: a FIFO that nobody reads yet. EAGAIN: one whose reader is slow.
async function eventually<T>(notReady: string, signal: AbortSignal | undefined, act: () => Promise<T>): Promise<T> {
  for (;;) {
    throwIfAborted(signal);
    try {
      return await act();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== notReady) throw error;
    }
    await sleep(PATIENCE);
  }
}
