// What GPU drivers write to stderr, kept off it: also without --quiet nobody who runs a command wants to read
// "Warning: vkCreateInstance: Found no drivers!".
//
// They write from native code to descriptor 2, where nothing in this process could tell their words from ours or take them
// away. So a command that may use a GPU runs in a process of its own whose descriptor 2 is a pipe that is read and dropped,
// and whose descriptor 3 is the real stderr.

import { type ChildProcess, spawn } from "node:child_process";
import { writeSync } from "node:fs";
import { createRequire } from "node:module";
import { resolve as resolvePath } from "node:path";
import { isatty, WriteStream } from "node:tty";
import { fileURLToPath } from "node:url";
import type { Args } from "./args.js";
import type { Command } from "./command.js";
import type { Messages } from "./terminal.js";

/** Tells the process of its own that it is one. */
const OWN = "STATEPRESS_MESSAGES";

/** Tells it what its messages are about. */
const ABOUT = "STATEPRESS_ABOUT";

/** Where that has the real stderr. */
const STDERR = 3;

/** Descriptor 2's last words are kept, for the case that they say why the process ended. */
const LAST_WORDS = 1 << 16;

/** The exit codes that main answers with; what ends otherwise has something to say. */
const ANSWERS = [0, 1, 2, 3];

const own = process.env[OWN] === `${STDERR}`;
delete process.env[OWN];

/** What the messages of this process are about, where it was started for one of several inputs. */
export const about = own ? process.env[ABOUT] : undefined;
delete process.env[ABOUT];

/** Whether a command is to be run by `runApart`: it may reach a driver. STATEPRESS_DRIVERS=show lets them speak. */
export function reachesDrivers(command: Command, args: Args): boolean {
  if (own || !command.computes?.(args) || process.env["STATEPRESS_DRIVERS"] === "show") return false;
  const backends = [args.text("backend") ?? "auto", args.text("backend-b") ?? "cpu"];
  if (backends.every((name) => name === "cpu")) return false;
  try {
    createRequire(import.meta.url).resolve("webgpu");
    return true;
  } catch {
    return false;
  }
}

/** A command line in a process of its own. */
export interface Apart {
  child: ChildProcess;
  /** What was last written to its descriptor 2: drivers' words, or why it ended. */
  lastWords(): string;
}

/**
 * Starts a command line of this program in a process of its own, whose messages go where ours go. It ends when this process
 * does. `about`: what its messages are about. `temporary`: the folder of its temporary files.
 */
export function startApart(
  argv: readonly string[],
  stdin: 0 | "ignore",
  stdout: 1 | "pipe",
  { about, temporary }: { about?: string; temporary?: string } = {},
): Apart {
  const child = spawn(
    process.execPath,
    [...process.execArgv, fileURLToPath(new URL("./main.js", import.meta.url)), ...argv],
    {
      // The channel tells the process when this one is gone.
      stdio: [stdin, stdout, "pipe", 2, "ipc"],
      env: {
        ...process.env,
        [OWN]: `${STDERR}`,
        ...(about !== undefined && { [ABOUT]: about }),
        // Of Unix and of Windows.
        ...(temporary !== undefined && { TMPDIR: resolvePath(temporary), TEMP: resolvePath(temporary) }),
      },
    },
  );
  let last = "";
  child.stderr?.setEncoding("utf8").on("data", (words: string) => {
    last = (last + words).slice(-LAST_WORDS);
  });
  return { child, lastWords: () => last };
}

/** Runs this command line once more in a process of its own; answers its exit code. */
export function runApart(argv: readonly string[], signals: readonly NodeJS.Signals[]): Promise<number> {
  const { child, lastWords } = startApart(argv, 0, 1);
  const forward = (signal: NodeJS.Signals) => child.kill(signal);
  for (const signal of signals) process.on(signal, forward);
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => {
      if (signal !== null || (code !== null && !ANSWERS.includes(code) && code < 128))
        process.stderr.write(lastWords());
      for (const it of signals) process.off(it, forward);
      if (signal !== null) process.kill(process.pid, signal);
      resolve(code ?? 1);
    });
  });
}

/** Where messages go: stderr, wherever that is. */
export function messages(): Messages {
  if (!own) return process.stderr;
  // As if the terminal were closed: the work stops.
  process.on("disconnect", () => process.kill(process.pid, "SIGHUP"));
  process.channel?.unref();
  return isatty(STDERR) ? new WriteStream(STDERR) : { write: (text) => writeAll(Buffer.from(text)) };
}

function writeAll(bytes: Buffer): void {
  for (let done = 0; done < bytes.length; ) {
    try {
      done += writeSync(STDERR, bytes, done);
    } catch (error) {
      // A pipe that is full is waited for; nobody is told of a message that could not be told.
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN") return;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    }
  }
}
