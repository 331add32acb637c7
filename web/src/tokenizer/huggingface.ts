// `tokenizer.json` as Hugging Face's tokenizers write it, read by their JavaScript library.

import { StatepressError } from "../api/errors.js";
import { Tokenizer as Library } from "../vendor/tokenizers.js";
import type { Tokenizer } from "./tokenizer.js";

/** A tokenizer from a parsed `tokenizer.json`. */
export function huggingFaceTokenizer(name: string, json: Record<string, unknown>): Tokenizer {
  let library: Library;
  let size = 0;
  try {
    library = new Library(json, {});
    for (const id of library.get_vocab(true).values()) size = Math.max(size, id + 1);
  } catch (error) {
    throw new StatepressError("bad-tokenizer", `${name} cannot be used: ${(error as Error).message}`, { file: name });
  }
  return {
    name,
    size,
    encode: (text) => Uint32Array.from(library.encode(text, { add_special_tokens: false }).ids),
    // Unknown ids would be dropped without a trace: they show as <UNK>, as in the other layouts.
    decode: (ids) => {
      const parts: string[] = [];
      let known: number[] = [];
      const flush = () => {
        const options = { skip_special_tokens: false, clean_up_tokenization_spaces: false };
        if (known.length > 0) parts.push(library.decode(known, options));
        known = [];
      };
      for (const id of ids) {
        if (library.id_to_token(id) !== undefined) {
          known.push(id);
        } else {
          flush();
          parts.push("<UNK>");
        }
      }
      flush();
      return parts.join("");
    },
  };
}
