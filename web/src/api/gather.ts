// Which of some files are the weights, the configuration and the tokenizer.

import { isTokenizerName } from "../tokenizer/tokenizer.js";
import type { Gathered, NamedFile } from "./environment.js";
import { StatepressError } from "./errors.js";
import { isRecord } from "./record.js";
import type { Finding } from "./types/statepress.js";

/** A checkpoint's files. */
export interface CheckpointFiles {
  weights: NamedFile;
  config: Record<string, unknown> | undefined;
  /** Files that are tokenizers by name: more than one is nobody's choice but the user's. */
  tokenizers: NamedFile[];
  findings: Finding[];
}

const WEIGHTS = /\.(pt|pth|bin|ckpt|safetensors|gguf)$|\.index\.json$/i;

/** Sorts files by their names; what is in them is found out by whoever reads them. */
export async function sortFiles({ given, beside }: Gathered): Promise<CheckpointFiles> {
  const findings: Finding[] = [];
  const weights = theWeights(given, findings);
  if (weights.name.endsWith(".index.json")) {
    const message = `${weights.name} is the index of a sharded checkpoint: join its shards into one safetensors file`;
    throw new StatepressError("unsupported-format", message, { file: weights.name });
  }
  const others = [...given.filter((file) => file !== weights), ...beside];
  const config = others.find((file) => file.name === "config.json");
  if (config && beside.includes(config)) {
    findings.push(info("config-beside", "config.json in the folder of the weights was taken for their configuration"));
  }
  const named = others.filter((file) => isTokenizerName(file.name));
  const exact = named.filter((file) => file.name === "tokenizer.json");
  return {
    weights,
    config: config && (await readConfig(config)),
    tokenizers: exact.length === 1 ? exact : named,
    findings,
  };
}

function theWeights(given: NamedFile[], findings: Finding[]): NamedFile {
  const [only] = given;
  // A single file is the weights whatever its name: its content decides.
  if (given.length === 1 && only && !isTokenizerName(only.name)) return only;
  const candidates = given.filter((file) => WEIGHTS.test(file.name));
  // A folder of shards has one index that stands for them all, and for the reason why it cannot be opened.
  const index = candidates.filter((file) => file.name.endsWith(".index.json"));
  if (index.length === 1 && index[0]) return index[0];
  const usual = candidates.filter((file) => file.name === "model.safetensors");
  const chosen = candidates.length === 1 ? candidates[0] : usual.length === 1 ? usual[0] : undefined;
  const names = candidates.map((file) => file.name);
  if (!chosen) {
    const message =
      names.length === 0
        ? `no weights among ${given.length} files: expected a .pt, .pth, .bin or .safetensors file`
        : `several files could be the weights, name one: ${names.join(", ")}`;
    throw new StatepressError("bad-input", message, { files: names });
  }
  if (names.length > 1) {
    const left = names.filter((name) => name !== chosen.name).join(", ");
    findings.push(info("several-weights", `${chosen.name} was taken for the weights, not ${left}`));
  }
  return chosen;
}

async function readConfig(file: NamedFile): Promise<Record<string, unknown>> {
  let config: unknown;
  try {
    config = JSON.parse(await file.text());
  } catch (error) {
    throw new StatepressError("bad-input", `${file.name} is not JSON: ${(error as Error).message}`, {
      file: file.name,
    });
  }
  if (!isRecord(config))
    throw new StatepressError("bad-input", `${file.name} is not a JSON object`, { file: file.name });
  return config;
}

function info(code: string, message: string): Finding {
  return { level: "info", code, message };
}
