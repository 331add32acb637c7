// Which of some files are the weights, the configuration and the tokenizer.

import type { Gathered, NamedFile } from "./environment.js";
import { StatepressError } from "./errors.js";
import { isIndexName, isTokenizerName, weightsAmong, weightsLeft } from "./names.js";
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

/** Sorts files by their names; what is in them is found out by whoever reads them. */
export async function sortFiles({ given, beside }: Gathered): Promise<CheckpointFiles> {
  const weights = weightsAmong(given);
  const findings = weightsLeft(given, weights);
  if (isIndexName(weights.name)) {
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
