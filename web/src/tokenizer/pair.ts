// `vocab.json` and `merges.txt`: a byte-level BPE as GPT-2 and Qwen 2 store it, with the rest in their programs.
//
// How texts are split is in neither file. `tokenizer_config.json` names the class of transformers that knows; without
// it GPT-2's way is taken, which whoever opens them says.

import { isRecord } from "../api/record.js";
import { withoutMark } from "../api/text.js";
import { BYTE_CHARS } from "./unicode.js";

/** The texts of the files that lie beside a `vocab.json`. */
export interface Beside {
  /** `merges.txt`. */
  merges?: string | undefined;
  /** `tokenizer_config.json`. */
  config?: string | undefined;
}

/** The expression by which Qwen 2 splits texts. */
export const QWEN2 =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/** The `tokenizer.json` that transformers makes of such files. Throws where it cannot be told. */
export function fromVocab(vocab: Record<string, unknown>, { merges, config }: Beside): Record<string, unknown> {
  if (merges === undefined) {
    throw new Error("it is a vocabulary without its merges.txt: give both, or a tokenizer.json");
  }
  if (!BYTE_CHARS.every((char) => char in vocab)) {
    throw new Error(
      "the vocabulary has no token for every byte: it is no byte-level BPE; convert it to a tokenizer.json",
    );
  }
  const said = parsed(config);
  const name = said["tokenizer_class"] ?? "GPT2Tokenizer";
  const qwen = /^Qwen2Tokenizer(Fast)?$/.test(String(name));
  if (!qwen && !/^GPT2Tokenizer(Fast)?$/.test(String(name))) {
    throw new Error(
      `tokenizer_config.json names ${String(name)}, and how that splits texts is not known here: convert it to a tokenizer.json`,
    );
  }
  const prefix = said["add_prefix_space"] === true;
  const bytes = { type: "ByteLevel", add_prefix_space: prefix, use_regex: !qwen };
  const split = { type: "Split", pattern: { Regex: QWEN2 }, behavior: "Isolated", invert: false };
  return {
    model: { type: "BPE", vocab, merges: merges.split(/\r?\n/).filter((line) => line !== "") },
    normalizer: qwen ? { type: "NFC" } : null,
    pre_tokenizer: qwen ? { type: "Sequence", pretokenizers: [split, bytes] } : bytes,
    decoder: { type: "ByteLevel" },
    added_tokens: added(said, vocab),
  };
}

function parsed(config: string | undefined): Record<string, unknown> {
  if (config === undefined) return {};
  let value: unknown;
  try {
    value = JSON.parse(withoutMark(config));
  } catch (error) {
    throw new Error(`tokenizer_config.json is not JSON: ${(error as Error).message}`);
  }
  if (!isRecord(value)) throw new Error("tokenizer_config.json is not a JSON object");
  return value;
}

/** The added tokens, by their ids; where they are not listed, the special ones that are named. */
function added(config: Record<string, unknown>, vocab: Record<string, unknown>): object[] {
  const listed = config["added_tokens_decoder"];
  if (isRecord(listed)) {
    return Object.keys(listed)
      .sort((a, b) => Number(a) - Number(b))
      .map((id) => (isRecord(listed[id]) ? listed[id] : {}));
  }
  const named = ["unk_token", "bos_token", "eos_token", "pad_token"].map((role) => {
    const token = config[role];
    return isRecord(token) ? token["content"] : token;
  });
  const contents = new Set(["<|endoftext|>", ...named].filter((it) => typeof it === "string" && it in vocab));
  return [...contents].map((content) => ({ content, special: true, normalized: false }));
}
