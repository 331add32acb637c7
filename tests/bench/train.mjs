// How fast a student is trained: distillation in WebAssembly, beside PyTorch on the CPU, both on one thread.
//
// node tests/bench/train.mjs MODEL IDS [--student inner=0.5,...] [--steps N] [--repeats N]
//                            [--peer PYTHON [--textbook]] [--backend cpu|webgpu] [--json]
//
// MODEL is a checkpoint, with its config.json beside it; IDS holds ids of 16 bits to train on. `--peer` names a Python
// that has torch and safetensors: train_peer.py runs in it, in turn with our own runs, so that a busy machine slows
// both. It trains the same student, from the same numbers on, on windows of the same ids; with `--textbook` its loss is
// written as most would. It knows Itera-Lite in safetensors, and no other family.
//
// A step is all of it: teacher, student, gradients and update, of 2 windows of 256 tokens, or of as many as the model
// takes. The first quarter of the steps warms up; the median of the rest is a run's, and the median of runs counts. With
// `--backend webgpu` a GPU trains, be it emulated, and what counts is the clock, as this process waits for it.

import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs, promisify } from "node:util";
import { distill, open } from "../../web/dist/api/node.js";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    student: { type: "string", default: "inner=0.5" },
    steps: { type: "string", default: "40" },
    repeats: { type: "string", default: "3" },
    peer: { type: "string" },
    textbook: { type: "boolean", default: false },
    backend: { type: "string", default: "cpu" },
    json: { type: "boolean", default: false },
  },
});
const [model, text] = positionals;
if (!model || !text) throw new Error("give a model, and the ids that its student reads: MODEL IDS");
const [steps, repeats] = ["steps", "repeats"].map((name) => {
  const count = Number(values[name]);
  if (!(Number.isInteger(count) && count > 0)) throw new Error(`--${name} takes a whole number from 1`);
  return count;
});
const warm = Math.floor(steps / 4);
const student = values.student.split(",").map((part) => {
  const [kind, keep] = part.split("=");
  return { prune: { kind, keep: Number(keep) } };
});

const teacher = await open(model);
const { max_seq_length: positions, prediction_offset: offset, top_k_experts: topK } = teacher.inspection.spec;
const [batch, window, alpha, rate] = [2, Math.min(256, positions?.value ?? 256), 0.5, 1e-3];
const file = readFileSync(text);
const ids = new Uint16Array(file.buffer.slice(file.byteOffset, file.byteOffset + 2 * (file.length >> 1)));
// One window judges, the last: looks are not timed, and are to be short.
const judges = ids.length - window - (offset?.value ?? 1);
const folder = mkdtempSync(join(tmpdir(), "statepress-train-"));
try {
  const runs = { ours: [], peer: [] };
  const beginning = values.peer && (await untrained());
  for (let repeat = 0; repeat < repeats; repeat++) {
    runs.ours.push(await ours());
    if (beginning) runs.peer.push(await peer(beginning));
  }
  print(runs);
} finally {
  teacher.dispose();
  rmSync(folder, { recursive: true, force: true });
}

/** One run of ours. */
async function ours() {
  const marks = [];
  const trained = await distill(teacher, {
    ...{ student, batch, window, alpha, steps, learningRate: rate, backend: values.backend },
    text: ids.subarray(0, judges),
    heldOut: ids.subarray(judges),
    // A look at the beginning and one at the end: none between two steps.
    validateEvery: steps,
    // A step is told as it ends, where the seconds of a point have looks in them, and the first look compiles. What is
    // shorter than a frame is told several at once.
    onProgress: ({ stage, done }) => {
      if (stage === "train") marks.push({ done, clock: performance.now(), cpu: process.cpuUsage() });
    },
  });
  const { params: parameters, validation } = trained.report.training;
  trained.dispose();
  return { parameters, secondsPerStep: median(paces(marks)), loss: validation.at(-1).loss };
}

/** Seconds a step from each mark to the next, once it is warm; as `clock` of variants.mjs without what others took. */
function paces(marks) {
  const warmed = marks.filter(({ done }) => done >= warm);
  if (warmed.length < 2)
    throw new Error(`${steps} steps are over too soon to be timed: give more of them with --steps`);
  return warmed.slice(1).map((mark, at) => {
    const { done, clock, cpu } = warmed[at];
    const used = mark.cpu.user + mark.cpu.system - cpu.user - cpu.system;
    const passed = (mark.clock - clock) / 1e3;
    return (values.backend === "cpu" ? Math.min(passed, used / 1e6) : passed) / (mark.done - done);
  });
}

/** The student before training, in a file. */
async function untrained() {
  const path = join(folder, "student.safetensors");
  const made = await teacher.compress({ version: 1, name: "student", steps: student });
  await made.save(path);
  made.dispose();
  return path;
}

/** One run of the peer, from a student on. */
async function peer(beginning) {
  const script = fileURLToPath(new URL("train_peer.py", import.meta.url));
  const numbers = { steps, warm, batch, window, alpha, rate, offset: offset?.value ?? 1, "top-k": topK?.value ?? 2 };
  const given = Object.entries(numbers).flatMap(([name, value]) => [`--${name}`, String(value)]);
  const how = values.textbook ? ["--textbook"] : [];
  const args = [script, model, "--student", beginning, "--ids", text, ...given, ...how];
  return JSON.parse((await promisify(execFile)(values.peer, args)).stdout);
}

/** What is printed: seconds of a step and tokens a second, and the latter as a multiple of the peer's. */
function print({ ours, peer }) {
  const rated = (name, runs) => {
    const secondsPerStep = median(runs.map((run) => run.secondsPerStep));
    const tokensPerSecond = (batch * window) / secondsPerStep;
    return { name, ...runs[0], secondsPerStep, tokensPerSecond, runs: runs.map((run) => run.secondsPerStep) };
  };
  const rows = [rated(values.backend === "cpu" ? "statepress, WebAssembly" : "statepress, WebGPU", ours)];
  if (peer.length > 0) {
    rows.push(rated(`PyTorch ${peer[0].torch}${values.textbook ? ", textbook loss" : ""}`, peer));
    const [here, there] = rows;
    if (here.parameters !== there.parameters) throw new Error(`the peer's student has ${there.parameters} parameters`);
    for (const row of rows) row.ofPeer = row.tokensPerSecond / there.tokensPerSecond;
  }
  const run = { model, student: values.student, node: process.version, steps, repeats, batch, window };
  if (values.json) {
    console.log(JSON.stringify({ ...run, rows }));
    return;
  }
  console.log(
    `${model}, student ${values.student} of ${rows[0].parameters} parameters: Node ${run.node}, one thread, median of ` +
      `${repeats} runs of ${steps} steps of ${batch} windows of ${window}`,
  );
  const cells = ["ms a step", "tokens/s", "of the peer", "mean loss"];
  console.log(["".padEnd(34), ...cells.map((title) => title.padStart(12))].join(" "));
  for (const { name, secondsPerStep, tokensPerSecond, ofPeer, loss } of rows) {
    const milliseconds = (1e3 * secondsPerStep).toFixed(secondsPerStep < 0.1 ? 2 : 0);
    const found = [milliseconds, tokensPerSecond.toFixed(0), ofPeer ? `x${ofPeer.toFixed(3)}` : "", loss.toFixed(3)];
    console.log([name.padEnd(34), ...found.map((cell) => cell.padStart(12))].join(" "));
  }
  if (peer.length === 0) console.log("no peer was run: --peer names a Python with torch");
}

function median(numbers) {
  const sorted = numbers.toSorted((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}
