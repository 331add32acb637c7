// What a user would pick instead, from a folder outside this repository.
//
//   ort_core.mjs          exports loadOrt(ort, step, window, ids, length, positions): a model in onnxruntime-web
//   node_modules          holds onnxruntime-web, here or in PEERS_NODE
//   models/onnx           NAME-{step,window}-PRECISION.onnx, here or in PEERS_MODELS
//   run-PEER.sh           takes --models, --rounds, --tokens and --window, and prints lines of JSON:
//                         { peer, precision, decodeTokPerS, prefillTokPerS, cpuTimeBased?: { the same by CPU time } }
//
// NAME is that of the model's folder. `ort-web` is measured in this process, round by round with our
// own variants; the others, PEER by PEER, in processes of theirs after it. A rival without this model
// or not installed is said to be absent.

import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { clock } from "./variants.mjs";

const SEPARATE = ["ort-web-chromium", "wllama", "ort", "llamacpp", "torch"];
const ON_THE_WEB = ["ort-web-chromium", "wllama"];

/** The rivals that can be measured in this process: `{ found, absent }`. */
export async function interleavedRivals(folder, wanted, model, ids, work) {
  const result = { found: [], absent: [] };
  if (!chosen(wanted).includes("ort-web")) return result;
  try {
    result.found = await onnxruntimeWeb(resolve(folder), model, ids, work);
  } catch (error) {
    result.absent.push({ name: "onnxruntime-web", why: String(error.message ?? error) });
  }
  return result;
}

/** The rivals that measure themselves: `{ found, absent }`. */
export function separateRivals(folder, wanted, model, rounds, { decoded, window }) {
  const result = { found: [], absent: [] };
  for (const peer of SEPARATE.filter((name) => chosen(wanted).includes(name))) {
    const script = join(resolve(folder), `run-${peer}.sh`);
    if (!existsSync(script)) continue;
    const sizes = ["--rounds", rounds, "--tokens", decoded, "--window", window].map(String);
    const { stdout, stderr } = spawnSync(script, ["--models", model, ...sizes], { encoding: "utf8" });
    const lines = (stdout ?? "").split("\n").filter((line) => line.startsWith("{"));
    for (const line of lines) {
      const { peer: name, precision, cpuTimeBased, ...byTheClock } = JSON.parse(line);
      // Ours are rated by the seconds that they ran: so are these.
      const best = (key) => Math.max(byTheClock[key], cpuTimeBased?.[key] ?? 0);
      result.found.push({
        name: `${name} ${precision}, apart`,
        web: ON_THE_WEB.includes(peer),
        best: { decode: best("decodeTokPerS"), prefill: best("prefillTokPerS") },
      });
    }
    if (lines.length === 0) {
      const why = stderr?.split("\n").findLast((line) => /error|skipped|failed/i.test(line));
      result.absent.push({ name: peer, why: why ?? `nothing said of ${model}` });
    }
  }
  return result;
}

function chosen(wanted) {
  const known = ["ort-web", ...SEPARATE];
  const names = wanted ? wanted.split(",") : known;
  const unknown = names.find((name) => !known.includes(name));
  if (unknown) throw new Error(`no rival is named ${unknown}; there are ${known.join(", ")}`);
  return names;
}

async function onnxruntimeWeb(folder, model, ids, { decoded, window, windows }) {
  const graphs = join(process.env.PEERS_MODELS ?? join(folder, "models"), "onnx");
  const packages = join(process.env.PEERS_NODE ?? folder, "node_modules");
  const step = new RegExp(`^${model.replace(/\W/g, "\\$&")}-step-(\\w+)\\.onnx$`);
  const precisions = existsSync(graphs) ? readdirSync(graphs).flatMap((name) => name.match(step)?.[1] ?? []) : [];
  if (precisions.length === 0) throw new Error(`no graphs of ${model} in ${graphs}`);
  const { loadOrt } = await import(pathToFileURL(join(folder, "ort_core.mjs")));
  const ort = await import(pathToFileURL(join(packages, "onnxruntime-web/dist/ort.node.min.mjs")));
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = "error";
  const found = [];
  for (const precision of precisions.sort()) {
    const graph = (kind) => readFileSync(join(graphs, `${model}-${kind}-${precision}.onnx`));
    const peer = await loadOrt(ort, graph("step"), graph("window"), ids, window, model.startsWith("itera"));
    found.push({
      name: `onnxruntime-web ${precision}`,
      web: true,
      decode: () => clock(decoded, () => peer.decode(decoded)),
      prefill: () => clock(window * windows, () => peer.prefill(windows)),
      release: () => peer.release(),
    });
  }
  return found;
}
