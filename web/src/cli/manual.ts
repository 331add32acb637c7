// The commands: what each takes and does, and where it is. Help and shell completion are made from this table.

import type { Command } from "./command.js";
import { COMMON, MAKING, MEASURING, type Option, type OptionName, option } from "./options.js";
import { table } from "./output.js";

const OPENING: OptionName[] = ["set", "weights", "tokenizer", "build"];
const PROTOCOL: OptionName[] = ["text", "ids", ...MEASURING];

/** The shells that completion can be printed for. */
export const SHELLS = ["bash", "zsh", "fish"] as const;

// The code of a command is loaded when it runs: the library after its build was chosen, and not at all for --help.
export const COMMANDS: Record<string, Command> = {
  inspect: {
    operands: ["FILE..."],
    does: "say what a checkpoint is; reads its headers, and the tensor that is asked about",
    options: ["tensor", "precision", "bins", ...OPENING],
    run: async (run, files) => (await import("./look.js")).inspect(run, files),
  },
  advise: {
    operands: ["FILE"],
    does: "recommend recipes for it, by what was measured of it or of its family, else by rules",
    options: ["target", "max-loss", "max-size", "measure", "measure-ids", ...MEASURING, ...OPENING],
    computes: (args) => args.flag("measure") || args.flag("measure-ids"),
    run: async (run, [file = ""]) => (await import("./look.js")).advise(run, file),
  },
  plan: {
    operands: ["FILE..."],
    does: "predict what a recipe will do; reads no weights",
    options: ["recipe", "prune", "center", "basis", "coded", ...OPENING],
    run: async (run, files) => (await import("./look.js")).plan(run, files),
  },
  compress: {
    operands: ["FILE..."],
    does: "write the compressed checkpoint OUT, and OUT.report.json; of several files, into the folder OUT",
    options: ["output", ...MAKING, "backend", "workers", "report", "force", "max-memory", ...OPENING],
    computes: (args) => args.flag("recover") || args.flag("recover-ids"),
    run: async (run, files) => (await import("./compress.js")).compress(run, files),
  },
  search: {
    operands: ["FILE"],
    does: "find the best recipe under a target by measuring every tensor, and write what it makes of FILE to OUT",
    options: [
      ...([
        "output",
        "budget",
        "max-loss",
        "max-kl",
        "calibrate",
        "calibrate-ids",
        "ids-type",
        "prune",
        "center",
        "basis",
        "gradients",
        "fast",
        "workers",
        "coded",
      ] as const),
      ...(["recipe-out", "format", "gguf-type", "layout", "report", "force"] as const),
      ...OPENING,
    ],
    run: async (run, [file = ""]) => (await import("./search.js")).search(run, file),
  },
  distill: {
    operands: ["TEACHER"],
    does: "train a student, which is made of TEACHER, to predict as it does, and write it to OUT",
    options: [
      ...(["output", "student", "init", "text", "ids", "ids-type", "held-out", "held-out-ids"] as const),
      ...([
        "steps",
        "minutes",
        "batch",
        "window",
        "alpha",
        "temperature",
        "learning-rate",
        "patience",
        "seed",
      ] as const),
      ...(["snapshot", "resume", "backend", "report", "force"] as const),
      ...OPENING,
    ],
    computes: () => true,
    run: async (run, [file = ""]) => (await import("./distill.js")).distill(run, file),
  },
  evaluate: {
    operands: ["FILE"],
    does: "measure perplexity",
    options: [...PROTOCOL, "workers", "max-memory", ...OPENING],
    computes: () => true,
    run: async (run, [file = ""]) => (await import("./measure.js")).evaluate(run, file),
  },
  compare: {
    operands: ["BASE", "OTHER"],
    does: "the quality card of two checkpoints on the same tokens, or on the same text where their tokens differ",
    options: [
      ...PROTOCOL,
      ...(["second-text", "second-ids", "backend-b", "tokenizer-b", "weights-b"] as const),
      ...(["ratio-target", "loss-target", "check", "workers", "max-memory"] as const),
      ...OPENING,
    ],
    computes: () => true,
    run: async (run, [a = "", b = ""]) => (await import("./measure.js")).compareFiles(run, a, b),
  },
  batch: {
    operands: ["MANIFEST"],
    does: "compress every file of a manifest, one path a line, into the folder OUT; a line of JSON on stdout for each",
    options: [
      ...(["output", "skip-existing", "shard", "shard-env", "compare", "compare-ids"] as const),
      ...MAKING,
      ...MEASURING.filter((it) => it !== "ids-type"),
      ...(["workers", "force", "max-memory"] as const),
      ...OPENING,
    ],
    run: async (run, [manifest = ""]) => (await import("./batch/batch.js")).batch(run, manifest),
  },
  merge: {
    operands: ["LINES..."],
    does: "put the lines of batches into one table, and with -o into a page",
    options: ["output", "force"],
    run: async (run, files) => (await import("./batch/merge.js")).merge(run, files),
  },
  generate: {
    operands: ["FILE"],
    does: "continue a text",
    options: ["prompt", "prompt-ids", "max-tokens", "temperature", "top-k", "seed", "backend", ...OPENING],
    computes: () => true,
    run: async (run, [file = ""]) => (await import("./produce.js")).generate(run, file),
  },
  logits: {
    operands: ["FILE"],
    does: "write the logits of token ids (--ids 1,2,3) to a safetensors file",
    options: ["ids", "output", "force", "backend", ...OPENING],
    computes: () => true,
    run: async (run, [file = ""]) => (await import("./produce.js")).logits(run, file),
  },
  bench: {
    operands: ["FILE"],
    does: "time decode, prefill and compression",
    options: ["backend", "recipe", "repeats", "explain", ...OPENING],
    computes: () => true,
    run: async (run, [file = ""]) => (await import("./measure.js")).bench(run, file),
  },
  recipes: {
    operands: [],
    does: "print the built-in recipes",
    options: ["build"],
    run: async (run) => (await import("./look.js")).listRecipes(run),
  },
  serve: {
    operands: [],
    does: "serve the page on this machine",
    options: ["port"],
    run: async (run) => (await import("./serve-command.js")).serveCommand(run),
  },
  completion: {
    operands: ["SHELL"],
    does: `print what completes this command line in a shell: ${SHELLS.join(", ")}`,
    options: ["build"],
    allowed: SHELLS,
    run: async (run, [shell = ""]) => (await import("./completion.js")).completion(run, shell),
  },
};

/** What all of it is for, and the commands. */
export function overview(): string {
  const rows = Object.entries(COMMANDS).map(([name, { operands, does }]) => [
    `  ${[name, ...operands].join(" ")}`,
    does,
  ]);
  return `usage: statepress COMMAND [OPTIONS]

Compresses state-space language models: drop bits, see what it costs, keep the proof.

${table(rows)}

FILE is a .pt, .pth, .bin, .safetensors, .gguf or .npz file, a folder with weights, config.json and tokenizer.json, or - for the
bytes on standard input. \`statepress help COMMAND\` lists the options of a command; \`statepress --version\` prints the version.

Exit code: 0 done; 1 the input or the result is bad; 2 usage; 3 compare --check, and no success; 128 + n stopped by signal n;
batch: 42 what failed always will; 75 what failed may pass another time.`;
}

/** What a command takes and does, and its options. */
export function helpOf(name: string, { operands, does, options }: Command): string {
  const rows = [...options, ...COMMON].map((it) => {
    const about = option(it);
    const { value, short } = about;
    return [`  ${short ? `-${short}, ` : ""}--${it}${value ? ` ${value}` : ""}`, helpOfOption(about)];
  });
  return `usage: statepress ${[name, ...operands].join(" ")} [OPTIONS]\n\n${does}\n\n${table(rows)}`;
}

function helpOfOption({ help, allowed, stdin }: Option): string {
  return `${help}${allowed ? `: ${allowed.join(", ")}` : ""}${stdin ? "; - is stdin" : ""}`;
}
