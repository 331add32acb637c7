// Which of some files are the weights, the configuration and the tokenizer.

import type { Gathered, NamedFile } from "./environment.js";
import { StatepressError } from "./errors.js";
import { isTokenizerName, TOKENIZER_CONFIG } from "./names.js";
import type { Finding } from "./types/statepress.js";
import { alone, hasWeights, isIndexName, shardNames, type Weights, weightsAmong } from "./weights.js";

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
export async function sortFiles({ given, beside, inside }: Gathered): Promise<CheckpointFiles> {
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
  // A single file that was named is the weights whatever its name; one that lies alone in a folder may be a shard.
  const single = given.length === 1 && only !== undefined && !isTokenizerName(only.name) && !inside;
  const weights = single ? alone(only, all, shardsOf) : await among(given, shardsOf, inside);
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

/** The weights of a folder, or where in its subfolders they are. */
async function among(
  given: NamedFile[],
  shardsOf: (index: NamedFile) => string[],
  inside: Gathered["inside"],
): Promise<Weights<NamedFile>> {
  try {
    return weightsAmong(given, shardsOf);
  } catch (error) {
    const none = error instanceof StatepressError && Array.isArray(error.facts["files"]);
    if (!none || (error.facts["files"] as string[]).length > 0 || !inside) throw error;
    const folders = (await inside()).filter(({ names }) => hasWeights(names));
    if (folders.length === 0) throw error;
    const script = given.find(({ name }) => name === "zero_to_fp32.py");
    const joined = script ? ". DeepSpeed's zero_to_fp32.py in the folder makes one file of slices" : "";
    const message = `no weights lie in this folder itself, but in ${folders.length === 1 ? "a folder" : "folders"} in it; open ${folders.map(({ path }) => path).join(" or ")}${joined}`;
    throw new StatepressError("bad-input", message, { files: folders.map(({ path }) => path) });
  }
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
