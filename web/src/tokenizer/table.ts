// The two tokenizer layouts of Itera-Lite: a flat table of words or of characters.
//
// A: token2id, id2token, vocab_size, level ("char" or "word"). B: token_to_id, id_to_token, vocab_size; words.
// `vocab_size` is a limit and not the size: ids beyond the table decode as <UNK>.

import { StatepressError } from "../api/errors.js";
import { isRecord } from "../api/record.js";
import type { Tokenizer } from "./tokenizer.js";

const UNKNOWN = "<UNK>";

// What Python's str.split() splits at: unlike \s it has U+001C to U+001F and U+0085, and lacks U+FEFF.
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what it is about
const PYTHON_SPACE = /[\t-\r\u001c-\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/;

/** A tokenizer from a parsed file of layout A or B. */
export function tableTokenizer(name: string, json: Record<string, unknown>): Tokenizer {
  const table = json["token2id"] ?? json["token_to_id"];
  const level = "token2id" in json ? json["level"] : "word";
  if (level !== "word" && level !== "char") {
    throw new StatepressError("bad-tokenizer", `${name}: level is ${JSON.stringify(level)}; allowed: "char", "word"`, {
      file: name,
    });
  }
  if (!isRecord(table)) {
    throw new StatepressError("bad-tokenizer", `${name}: the table of tokens is not an object`, { file: name });
  }
  const ids = new Map<string, number>();
  const tokens = new Map<number, string>();
  for (const [token, id] of Object.entries(table)) {
    if (typeof id !== "number" || !Number.isInteger(id) || id < 0 || id > 0xffffffff) {
      throw new StatepressError(
        "bad-tokenizer",
        `${name}: the id of ${JSON.stringify(token)} is ${JSON.stringify(id)}`,
        {
          file: name,
          token,
        },
      );
    }
    ids.set(token, id);
    tokens.set(id, token);
  }
  const unknown = ids.get(UNKNOWN);
  if (unknown === undefined) {
    throw new StatepressError("bad-tokenizer", `${name}: the table has no ${UNKNOWN}`, { file: name });
  }
  const split =
    level === "char"
      ? (text: string) => Array.from(text)
      : (text: string) => text.toLowerCase().split(PYTHON_SPACE).filter(Boolean);
  const glue = level === "char" ? "" : " ";
  return {
    name,
    size: [...tokens.keys()].reduce((most, id) => Math.max(most, id), -1) + 1,
    unknown,
    encode: (text) => Uint32Array.from(split(text), (token) => ids.get(token) ?? unknown),
    decode: (list) => Array.from(list, (id) => tokens.get(id) ?? UNKNOWN).join(glue),
  };
}
