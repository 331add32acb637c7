// What is chosen among what files hold: a tokenizer among several, weights among several places in one file.

import { isTokenizerName, replacesTokenizer } from "statepress";

/** What the user has chosen when a checkpoint is opened; what is left out is found by the package. */
export interface Chosen {
  /** The name of a tokenizer file. */
  tokenizer?: string | undefined;
  /** Where in the file the weights are. */
  weights?: string | undefined;
}

const isWhole = ({ name }: File) => isTokenizerName(name) && name.endsWith(".json") && name !== "vocab.json";

/** The tokenizers among some files, where there are several of which one has to be chosen. */
export function tokenizersAmong(files: File[]): string[] {
  const names = files.filter(isWhole).map(({ name }) => name);
  return names.length > 1 ? names : [];
}

/** The files without the tokenizers that were not chosen. */
export function withTokenizer(files: File[], chosen: string | undefined): File[] {
  if (chosen === undefined) return files;
  return files.filter(({ name }) => name === chosen || !replacesTokenizer(chosen, name));
}
