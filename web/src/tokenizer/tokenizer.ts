// Text to token ids and back. Models speak ids only; this is the one place that knows text.
//
// The file layouts: `tokenizer.json` of Hugging Face, `vocab.json` with `merges.txt`, and the two of Itera-Lite (a flat
// table of words or characters). Encoding adds no special tokens.

import { StatepressError } from "../api/errors.js";
import { isRecord } from "../api/record.js";
import { withoutMark } from "../api/text.js";
import { huggingFaceTokenizer } from "./huggingface.js";
import { type Beside, fromVocab } from "./pair.js";
import { strangerJson, strangerText } from "./strangers.js";
import { tableTokenizer } from "./table.js";

export { isSame } from "./same.js";

/** Text to token ids and back. */
export interface Tokenizer {
  /** The name of the file it was read from. */
  readonly name: string;
  /** One more than the largest id that stands for text; models may have more rows than this. */
  readonly size: number;
  /** The id that every unknown word or character becomes, where the layout has one. */
  readonly unknown?: number;
  /** The ids of a text; no special tokens are added. */
  encode(text: string): Uint32Array;
  /** The text of ids. */
  decode(ids: Iterable<number>): string;
}

/**
 * A tokenizer from the text of its JSON file; of a `vocab.json`, with the texts of the files beside it.
 *
 * @throws StatepressError `bad-tokenizer`, with what is wrong or what would not be done as in Python.
 */
export function readTokenizer(name: string, json: string, beside: Beside = {}): Tokenizer {
  const refuse = (why: string): never => {
    throw new StatepressError("bad-tokenizer", `${name} ${why}`, { file: name });
  };
  let value: unknown;
  try {
    value = JSON.parse(withoutMark(json));
  } catch (error) {
    const stranger = strangerText(name, json);
    return refuse(stranger ? `cannot be used: ${stranger}` : `is not JSON: ${(error as Error).message}`);
  }
  if (isRecord(value)) {
    if ("token2id" in value || "token_to_id" in value) return tableTokenizer(name, value);
    if ("model" in value && isRecord(value["model"])) return huggingFaceTokenizer(name, value);
    const stranger = strangerJson(value);
    if (stranger) return refuse(`cannot be used: ${stranger}`);
    // A vocabulary: every value is an id.
    if (beside.merges !== undefined || Object.values(value).every(Number.isInteger)) {
      return huggingFaceTokenizer(name, () => fromVocab(value, beside));
    }
  }
  return refuse(
    'is no tokenizer: neither "model" (tokenizer.json) nor "token2id" or "token_to_id" (Itera-Lite) is in it',
  );
}
