// Which of some files are the weights, the configuration and the tokenizer.

import type { Gathered, NamedFile } from "./environment.js";
import { isTokenizerName, TOKENIZER_CONFIG } from "./names.js";
import type { Finding } from "./types/statepress.js";
import { alone, isIndexName, shardNames, type Weights, weightsAmong } from "./weights.js";

/** A checkpoint's files. */
export interface CheckpointFiles {
  weights: Weights<NamedFile>;
  /** The text of the index of shards: whether that can be read is found out by whoever reads it. */
  index: string | undefined;
  /** The text of `config.json`, likewise. */
  config: string | undefined;
  /** Files that are tokenizers by name, or parts of one. */
  tokenizers: NamedFile[];
  findings: Finding[];
}

/** Sorts files by their names; what is in them is found out by whoever reads them. */
export async function sortFiles({ given, beside }: Gathered): Promise<CheckpointFiles> {
  const [only] = given;
  const all = [...given, ...beside];
  const indexes = new Map<NamedFile, string>();
  for (const file of given.filter(({ name }) => isIndexName(name))) {
    // One that was asked for must be readable; one that lies in a folder need not even be there.
    if (given.length === 1) indexes.set(file, await file.text());
    else await file.text().then((text) => indexes.set(file, text), ignored);
  }
  const shardsOf = (index: NamedFile) => {
    const text = indexes.get(index);
    return text === undefined ? [] : (shardNames(text) ?? []);
  };
  const single = given.length === 1 && only !== undefined && !isTokenizerName(only.name);
  const weights = single ? alone(only, all, shardsOf) : weightsAmong(given, shardsOf);
  const findings = [...weights.findings];
  const others = all.filter((file) => !weights.files.includes(file));
  const { config, told } = await configAmong(others, beside);
  findings.push(...told);
  return {
    weights,
    index: weights.index && indexes.get(weights.index),
    config,
    tokenizers: others.filter(({ name }) => isTokenizerName(name) || name === TOKENIZER_CONFIG),
    findings,
  };
}

/** The configuration. One that cannot be read, as a link to nothing, keeps no weights from opening. */
async function configAmong(files: NamedFile[], beside: NamedFile[]): Promise<{ config?: string; told: Finding[] }> {
  const file = files.find(({ name }) => name === "config.json");
  if (!file) return { told: [] };
  try {
    const config = await file.text();
    const message = "config.json in the folder of the weights was taken for their configuration";
    return { config, told: beside.includes(file) ? [{ level: "info", code: "config-beside", message }] : [] };
  } catch (error) {
    const message = `config.json is ignored: ${(error as Error).message}`;
    return { told: [{ level: "warning", code: "config-ignored", message }] };
  }
}

function ignored(): void {}
