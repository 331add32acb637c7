// Which files of a folder are fetched to be opened together. What is not needed may be gigabytes.

/** A file of the machine that serves the page. */
export interface LocalFile {
  name: string;
  size: number;
  path: string;
}

/** What to fetch; or why nothing is, and the files that this is about. */
export type Choice = { files: LocalFile[] } | { refused: string; names: string[] };

// The names that the package goes by (see src/api/gather.ts and src/tokenizer/tokenizer.ts).
const WEIGHTS = /\.(pt|pth|bin|ckpt|safetensors|gguf)$/i;
const INDEX = /\.index\.json$/i;
const TOKENIZER = /^tokenizer([-_].*)?\.json$/;
const NO_TOKENIZER = "tokenizer_config.json";

/** A text to measure on is read whole: larger ones are data sets. */
export const MAX_TEXT = 8 << 20;

/** The files to fetch of those at a path. */
export function choose(listed: LocalFile[]): Choice {
  // A single file is what was asked for whatever its name: its content decides.
  if (listed.length === 1) return { files: listed };
  const weights = theWeights(listed);
  if ("refused" in weights) return weights;
  return { files: [...weights.files, ...listed.filter(belongs)] };
}

function theWeights(listed: LocalFile[]): Choice {
  // An index stands for its shards, and for the reason why they cannot be opened.
  const index = listed.filter(({ name }) => INDEX.test(name));
  if (index.length === 1) return { files: index };
  const candidates = listed.filter(({ name }) => WEIGHTS.test(name) || INDEX.test(name));
  const usual = candidates.filter(({ name }) => name === "model.safetensors");
  const files = candidates.length === 1 ? candidates : usual;
  if (files.length === 1) return { files };
  const names = candidates.map(({ name }) => name);
  const refused =
    names.length === 0
      ? `no weights among ${listed.length} files: expected a .pt, .pth, .bin or .safetensors file`
      : `several files could be the weights, paste the path of one: ${names.join(", ")}`;
  return { refused, names };
}

function belongs({ name, size }: LocalFile): boolean {
  if (name === "config.json") return true;
  if (TOKENIZER.test(name)) return name !== NO_TOKENIZER;
  return /\.txt$/i.test(name) && size < MAX_TEXT;
}
