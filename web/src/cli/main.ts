#!/usr/bin/env node
// The command line: finds the command, runs it, and turns errors into exit codes.
//
// 0: done; 1: the input or the result is bad; 2: usage; 128 + n: stopped by signal n.

import { asStatepressError } from "../api/errors.js";
import { Args, COMMON, OPTIONS, type OptionName, UsageError } from "./args.js";
import type { Run } from "./command.js";
import { Output, table } from "./output.js";

interface Command {
  operands: string[];
  does: string;
  options: OptionName[];
  run(run: Run, operands: string[]): Promise<void>;
}

const OPENING: OptionName[] = ["set", "tokenizer", "build"];
const PROTOCOL: OptionName[] = ["text", "ids", "ids-type", "window", "limit", "offset", "backend"];

// The commands are loaded after the build was chosen, and not at all for --help.
const commands = () => import("./commands.js");

const COMMANDS: Record<string, Command> = {
  inspect: {
    operands: ["FILE"],
    does: "say what a checkpoint is; reads its headers, and the tensor that is asked about",
    options: ["tensor", "precision", "bins", ...OPENING],
    run: async (run, [file = ""]) => (await commands()).inspect(run, file),
  },
  advise: {
    operands: ["FILE"],
    does: "recommend recipes for it",
    options: ["target", "max-loss", "max-size", ...OPENING],
    run: async (run, [file = ""]) => (await commands()).advise(run, file),
  },
  plan: {
    operands: ["FILE"],
    does: "predict what a recipe will do; reads no weights",
    options: ["recipe", ...OPENING],
    run: async (run, [file = ""]) => (await commands()).plan(run, file),
  },
  compress: {
    operands: ["FILE"],
    does: "write the compressed checkpoint OUT, and OUT.report.json",
    options: ["output", "recipe", "format", "force", ...OPENING],
    run: async (run, [file = ""]) => (await commands()).compress(run, file),
  },
  evaluate: {
    operands: ["FILE"],
    does: "measure perplexity",
    options: [...PROTOCOL, ...OPENING],
    run: async (run, [file = ""]) => (await commands()).evaluate(run, file),
  },
  compare: {
    operands: ["BASE", "OTHER"],
    does: "the quality card of two checkpoints on the same tokens, or on the same text where their tokens differ",
    options: [...PROTOCOL, "backend-b", "tokenizer-b", "ratio-target", "loss-target", ...OPENING],
    run: async (run, [a = "", b = ""]) => (await commands()).compareFiles(run, a, b),
  },
  generate: {
    operands: ["FILE"],
    does: "continue a text",
    options: ["prompt", "prompt-ids", "max-tokens", "temperature", "top-k", "seed", "backend", ...OPENING],
    run: async (run, [file = ""]) => (await commands()).generate(run, file),
  },
  logits: {
    operands: ["FILE"],
    does: "write the logits of token ids (--ids 1,2,3) to a safetensors file",
    options: ["ids", "output", "force", "backend", ...OPENING],
    run: async (run, [file = ""]) => (await commands()).logits(run, file),
  },
  bench: {
    operands: ["FILE"],
    does: "time decode, prefill and compression",
    options: ["backend", "recipe", "repeats", "explain", ...OPENING],
    run: async (run, [file = ""]) => (await commands()).bench(run, file),
  },
  recipes: {
    operands: [],
    does: "print the built-in recipes",
    options: ["build"],
    run: async (run) => (await commands()).listRecipes(run),
  },
  serve: {
    operands: [],
    does: "serve the page on this machine",
    options: ["port"],
    run: async ({ args, output, signal }) => {
      const { url, server } = await (await import("./serve.js")).serve(args.count("port") ?? 8080);
      output.result({ url }, () => `${url}  (Ctrl-C stops)`);
      await new Promise<void>((resolve) => {
        server.on("close", resolve);
        signal.addEventListener("abort", () => {
          server.close();
          server.closeAllConnections();
        });
      });
    },
  },
};

function overview(): string {
  const rows = Object.entries(COMMANDS).map(([name, { operands, does }]) => [
    `  ${[name, ...operands].join(" ")}`,
    does,
  ]);
  return `usage: statepress COMMAND [OPTIONS]

Compresses state-space language models: drop bits, see what it costs, keep the proof.

${table(rows)}

FILE is a .pt, .pth, .bin or .safetensors file, or a folder with weights, config.json and tokenizer.json.
\`statepress COMMAND --help\` lists the options of a command.`;
}

function helpOf(name: string, { operands, does, options }: Command): string {
  const rows = [...options, ...COMMON].map((option) => {
    const { value, short, help }: { value?: string; short?: string; help: string } = OPTIONS[option];
    return [`  ${short ? `-${short}, ` : ""}--${option}${value ? ` ${value}` : ""}`, help];
  });
  return `usage: statepress ${[name, ...operands].join(" ")} [OPTIONS]\n\n${does}\n\n${table(rows)}`;
}

async function main(argv: string[]): Promise<number> {
  const [name, ...rest] = argv;
  // What was asked for is known before the arguments are understood: usage errors speak JSON as well.
  const output = new Output(argv.includes("--json"), argv.includes("--quiet"));
  try {
    if (name === undefined || name === "--help" || name === "-h" || name === "help") {
      process.stdout.write(`${overview()}\n`);
      return name === undefined ? 2 : 0;
    }
    const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
    if (!command) throw new UsageError(`no command '${name}'; there are ${Object.keys(COMMANDS).join(", ")}`);
    const args = Args.read(rest, command.options);
    if (args.flag("help")) {
      process.stdout.write(`${helpOf(name, command)}\n`);
      return 0;
    }
    if (args.operands.length !== command.operands.length) {
      const wanted = command.operands.join(" and ") || "no operand";
      throw new UsageError(`${name} takes ${wanted}, ${args.operands.length} were given`);
    }
    return await runCommand(command, args, output);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    output.error(`${error.message} (see statepress ${name ?? ""} --help)`, { code: "usage", message: error.message });
    return 2;
  }
}

async function runCommand(command: Command, args: Args, output: Output): Promise<number> {
  const build = args.text("build");
  if (build !== undefined) process.env["STATEPRESS_BUILD"] = build;
  const stop = new AbortController();
  let stopped = 0;
  const stopAt = (code: number) => () => {
    // The second time we do not wait for the work to notice; temporary files still go (see platform-node).
    if (stopped) process.exit(code);
    stopped = code;
    stop.abort();
  };
  process.on("SIGINT", stopAt(130));
  process.on("SIGTERM", stopAt(143));
  try {
    await command.run({ args, output, signal: stop.signal }, args.operands);
    return stopped;
  } catch (thrown) {
    if (thrown instanceof UsageError) throw thrown;
    const error = asStatepressError(thrown);
    // The library knows nothing of options on a command line.
    const hint = error.code === "no-tokenizer" ? " (--tokenizer FILE)" : "";
    output.error(error.message + hint, error.toJSON());
    return stopped || 1;
  }
}

// A reader that has seen enough (`| head`) is no error.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  process.exit(error.code === "EPIPE" ? 0 : 1);
});

process.exitCode = await main(process.argv.slice(2));
