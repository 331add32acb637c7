// What the command line takes for a checkpoint of any size: memory at most, seconds, and bytes read a second, in each recipe and
// each format for another tool.
//
// node tests/bench/memory.mjs MODEL [--recipes int8,nf4] [--formats plain,gguf] [--json]
//
// Every run is a process of its own, whose resident set says how much it took. What it writes goes to a temporary folder, and goes.

import { fork } from "node:child_process";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    recipes: { type: "string", default: "none,fp16,int8,int4,nf4,mixed" },
    formats: { type: "string", default: "plain,gguf,onnx" },
    json: { type: "boolean", default: false },
  },
});
const [model] = positionals;
if (!model) throw new Error("give a model: a file of weights");
const CLI = fileURLToPath(new URL("../../web/dist/cli/main.js", import.meta.url));
// The process tells how much it took when it ends.
const TELL = 'process.on("exit", () => process.send(process.resourceUsage().maxRSS))';
const { size } = statSync(model);

/** Runs the command line; of how long that took and what it held. */
async function measured(name, args) {
  const folder = mkdtempSync(join(tmpdir(), "statepress-memory-"));
  try {
    const began = performance.now();
    const child = fork(CLI, ["compress", model, "-o", join(folder, "out"), "--quiet", ...args], {
      execArgv: ["--import", `data:text/javascript,${encodeURIComponent(TELL)}`],
      stdio: ["ignore", "ignore", "pipe", "ipc"],
    });
    let [kibibytes, errors] = [0, ""];
    child.on("message", (told) => {
      kibibytes = told;
    });
    child.stderr.setEncoding("utf8").on("data", (text) => {
      errors += text;
    });
    const code = await new Promise((resolve) => child.on("close", resolve));
    if (code !== 0) throw new Error(`${name}: ${errors}`);
    const seconds = (performance.now() - began) / 1000;
    return { name, seconds, bytesPerSecond: size / seconds, peakBytes: 1024 * kibibytes };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const named = (text) => text.split(",").filter((it) => it !== "");
const asked = [
  ...named(values.recipes).map((recipe) => [recipe, ["--recipe", recipe]]),
  ...named(values.formats).map((format) => [`--format ${format}`, ["--format", format]]),
];
const rows = [];
if (!values.json) console.log(`${model}: ${(size / 1e6).toFixed(1)} MB`);
for (const [name, args] of asked) {
  const row = await measured(name, args);
  rows.push(row);
  if (values.json) continue;
  const [seconds, speed] = [row.seconds.toFixed(1), (row.bytesPerSecond / 1e6).toFixed(0)];
  const held = (row.peakBytes / 1e6).toFixed(0);
  console.log(`${name.padEnd(28)}${seconds.padStart(8)} s${speed.padStart(7)} MB/s${held.padStart(7)} MB at most`);
}
if (values.json) console.log(JSON.stringify({ model, size, rows }));
