// Files that are given for tokenizers and are none, or are of a kind that is not read: each with what would help.

const CONVERT =
  "convert it to a tokenizer.json by python -c " +
  "\"from transformers import AutoTokenizer as A; A.from_pretrained('FOLDER').save_pretrained('FOLDER')\"";

/** What to do with a SentencePiece model, which is a protobuf and not JSON. */
export const SENTENCEPIECE = `it is a SentencePiece model, which is not read: ${CONVERT}`;

const WORDPIECE = `it is the vocabulary of a WordPiece (BERT), without the rest of it: ${CONVERT}`;
const TIKTOKEN = `it is a tiktoken vocabulary, which is not read: ${CONVERT}`;
const TEKKEN = `it is Mistral's tekken, which is not read: ${CONVERT}`;
const RWKV = "it is RWKV's own vocabulary, which is not read: give the tokenizer.json that belongs to the model";

const BY_NAME: [RegExp, string][] = [
  [/^(tokenizer|spiece|spm|sentencepiece(\.bpe)?)\.model(\.v\d+)?$/i, SENTENCEPIECE],
  [/^vocab\.txt$/i, WORDPIECE],
  [/\.tiktoken$/i, TIKTOKEN],
  [/^tekken\.json$/i, TEKKEN],
  [/^rwkv_vocab.*\.txt$/i, RWKV],
];

/** What a file of that name is, where it is of a kind that is not read. */
export function strangerByName(name: string): string | undefined {
  return BY_NAME.find(([pattern]) => pattern.test(name))?.[1];
}

/** What a text that is no JSON is, if that can be told. */
export function strangerText(name: string, text: string): string | undefined {
  const lines = text.slice(0, 4096).split("\n", 20);
  const all = (pattern: RegExp) => lines.length > 1 && lines.slice(0, -1).every((line) => pattern.test(line));
  if (name === "merges.txt" || text.startsWith("#version")) {
    return "it has the merges of a byte-pair encoding: its vocab.json must lie beside it, or be given with it";
  }
  if (all(/^[A-Za-z0-9+/]+=* \d+\r?$/)) return TIKTOKEN;
  if (all(/^\d+ b?['"].* \d+\r?$/)) return RWKV;
  if (lines.some((line) => /^(\[UNK\]|\[PAD\]|\[CLS\])\r?$/.test(line))) return WORDPIECE;
  return /\.model$/i.test(name) ? SENTENCEPIECE : strangerByName(name);
}

/** What a JSON object is that is no tokenizer, if that can be told. */
export function strangerJson(value: Record<string, unknown>): string | undefined {
  const has = (...keys: string[]) => keys.some((key) => key in value);
  const beside = "give tokenizer.json, or vocab.json with merges.txt, from the same folder";
  if (has("tokenizer_class", "added_tokens_decoder")) return `it says how a tokenizer is used, and is none: ${beside}`;
  if (has("weight_map")) return `it is the index of a checkpoint in shards: ${beside}`;
  if (has("model_type", "architectures", "transformers_version"))
    return `it is the configuration of a model: ${beside}`;
  if (has("vocab") && Array.isArray(value["vocab"])) return TEKKEN;
  const names = Object.keys(value);
  if (names.length > 0 && names.every((name) => /_tokens?$/.test(name))) {
    return `it names the special tokens of a tokenizer, and is none: ${beside}`;
  }
  return undefined;
}
