// Which files of a folder are fetched to be opened together. What is not needed may be gigabytes.

import { type Finding, isTokenizerName, TOKENIZER_CONFIG, weightsAmong } from "statepress";

/** A file of the machine that serves the page. */
export interface LocalFile {
  name: string;
  size: number;
  path: string;
}

/** A text to measure on is read whole: larger ones are data sets. */
export const MAX_TEXT = 8 << 20;

/** Whether a file is for the weights that lie beside it: their configuration or a tokenizer. */
export function isBeside({ name }: { name: string }): boolean {
  return name === "config.json" || name === TOKENIZER_CONFIG || isTokenizerName(name);
}

/** What to fetch. */
interface Choice {
  files: LocalFile[];
  /** What is not fetched, though it might have been meant. */
  findings: Finding[];
}

/** The files to fetch of those at a path. Throws `bad-input` when one cannot tell which are the weights. */
export function choose(listed: LocalFile[]): Choice {
  // A single file is what was asked for whatever its name: its content decides.
  if (listed.length === 1) return { files: listed, findings: [] };
  const weights = weightsAmong(listed);
  const text = ({ name, size }: LocalFile) => /\.txt$/i.test(name) && size < MAX_TEXT;
  const parts = weights.index ? [weights.index, ...weights.files] : weights.files;
  return {
    files: listed.filter((file) => parts.includes(file) || isBeside(file) || text(file)),
    findings: weights.findings,
  };
}
