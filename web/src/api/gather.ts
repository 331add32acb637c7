// Which of some files are the weights, the configuration and the tokenizer.

import type { Gathered, NamedFile } from "./environment.js";
import { StatepressError } from "./errors.js";
import { isIndexName, isTokenizerName, TOKENIZER_CONFIG, weightsAmong, weightsLeft } from "./names.js";
import type { Finding } from "./types/statepress.js";

/** A checkpoint's files. */
export interface CheckpointFiles {
  weights: NamedFile;
  /** The text of `config.json`: whether that can be read is found out by whoever reads it. */
  config: string | undefined;
  /** Files that are tokenizers by name, or parts of one. */
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
  return {
    weights,
    config: await config?.text(),
    tokenizers: others.filter(({ name }) => isTokenizerName(name) || name === TOKENIZER_CONFIG),
    findings,
  };
}

function info(code: string, message: string): Finding {
  return { level: "info", code, message };
}
