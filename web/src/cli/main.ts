#!/usr/bin/env node
// The command line: finds the command, runs it, and turns errors and signals into exit codes.
//
// 0: done; 1: the input or the result is bad; 2: usage; 3: a check did not succeed; 42, 75: see batch/exit.ts;
// 128 + n: stopped by signal n.

import { constants } from "node:os";
import { didYouMean } from "../api/near.js";
import { Args, UsageError } from "./args.js";
import type { Command } from "./command.js";
import { about, messages, reachesDrivers, runApart } from "./drivers.js";
import { COMMANDS, helpOf, overview } from "./manual.js";
import { Output } from "./output.js";
import { packageVersion } from "./version.js";

/** What ends a process, unless it is told otherwise; the last three by a limit, a timer and a closed terminal. */
const ENDING = ["SIGINT", "SIGTERM", "SIGQUIT", "SIGXCPU", "SIGALRM", "SIGHUP"] as const;

/** Milliseconds in which a signal that comes again is the same one: a terminal and `npx` both send it. */
const SAME_SIGNAL = 300;

const stderr = messages();

async function main(argv: string[]): Promise<number> {
  const [name, ...rest] = argv;
  // What was asked for is known before the arguments are understood: usage errors speak JSON as well.
  const end = argv.indexOf("--");
  const options = end < 0 ? argv : argv.slice(0, end);
  const output = new Output(options.includes("--json"), options.includes("--quiet"), stderr);
  output.input = about;
  try {
    if (name === undefined) {
      stderr.write(`${overview()}\n`);
      return 2;
    }
    if (["--version", "-V", "version"].includes(name)) {
      const version = packageVersion();
      output.result({ version }, () => `statepress ${version}`);
      return 0;
    }
    if (["--help", "-h", "help"].includes(name)) {
      const [topic, ...more] = rest.filter((it) => !it.startsWith("-"));
      if (more.length > 0) throw new UsageError(`help takes one command, ${more.length + 1} were given`);
      process.stdout.write(`${topic === undefined ? overview() : helpOf(topic, commandNamed(topic))}\n`);
      return 0;
    }
    const command = commandNamed(name);
    const args = Args.read(rest, command.options);
    if (args.flag("help")) {
      process.stdout.write(`${helpOf(name, command)}\n`);
      return 0;
    }
    checkOperands(name, command, args.operands);
    return await (reachesDrivers(command, args) ? runApart(argv, ENDING) : runCommand(command, args, output));
  } catch (error) {
    if (!(error instanceof UsageError)) {
      output.failure(error);
      return 1;
    }
    const known = name !== undefined && Object.hasOwn(COMMANDS, name);
    const help = known ? `statepress ${name} --help` : "statepress --help";
    output.error(`${error.message} (see ${help})`, { code: "usage", message: error.message });
    return 2;
  }
}

function commandNamed(name: string): Command {
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (command) return command;
  const names = Object.keys(COMMANDS);
  if (name.startsWith("-")) throw new UsageError(`a command comes first, not '${name}'; there are ${names.join(", ")}`);
  throw new UsageError(`no command '${name}'; there are ${names.join(", ")}${didYouMean(name, [...names, "help"])}`);
}

function checkOperands(name: string, { operands, allowed }: Command, given: string[]): void {
  const many = operands.at(-1)?.endsWith("...") ?? false;
  if (given.length < operands.length || (given.length > operands.length && !many)) {
    const wanted = operands.map((it) => it.replace("...", "")).join(" and ") || "no operand";
    throw new UsageError(`${name} takes ${wanted}, ${given.length} were given`);
  }
  const [only = ""] = given;
  if (allowed && !allowed.includes(only)) {
    throw new UsageError(`${name} takes ${allowed.join(", ")}, not '${only}'${didYouMean(only, allowed)}`);
  }
}

async function runCommand(command: Command, args: Args, output: Output): Promise<number> {
  const build = args.one("build");
  if (build !== undefined) process.env["STATEPRESS_BUILD"] = build;
  const stop = new AbortController();
  let stopped = { code: 0, at: 0 };
  for (const signal of ENDING) {
    const code = 128 + constants.signals[signal];
    process.on(signal, () => {
      const now = performance.now();
      if (stopped.code === code && now - stopped.at < SAME_SIGNAL) return;
      // The second time we do not wait for the work to notice; temporary files still go (see temporary-node).
      if (stopped.code) process.exit(code);
      stopped = { code, at: now };
      stop.abort();
    });
  }
  try {
    const code = await command.run({ args, output, signal: stop.signal }, args.operands);
    return stopped.code || code;
  } catch (thrown) {
    if (thrown instanceof UsageError) throw thrown;
    output.failure(thrown);
    return stopped.code || 1;
  }
}

// A reader that has seen enough (`| head`) is no error. Nobody is told of a message that could not be told.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(0);
  const why = error.code === "ENOSPC" ? "the disk is full (ENOSPC)" : error.message;
  stderr.write(`error: standard output cannot be written: ${why}\n`);
  process.exit(1);
});
process.stderr.on("error", () => {});

process.exitCode = await main(process.argv.slice(2));
