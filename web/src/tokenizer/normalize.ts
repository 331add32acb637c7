// Normalizers: text to text, before it is split.

import { charsmap } from "./charsmap.js";
import type { Part } from "./part.js";
import { asByteChars, lowercase, MARKS, NONSPACING, normalForm, patternOf, SPACE } from "./unicode.js";

/** Text to text. */
export type Normalizer = (text: string) => string;

/** The normalizer of a `tokenizer.json`. */
export function normalizer(part: Part): Normalizer {
  switch (part.type) {
    case "Sequence": {
      const all = part.list("normalizers").map(normalizer);
      return (text) => all.reduce((it, next) => next(it), text);
    }
    case "NFC":
    case "NFD":
    case "NFKC":
    case "NFKD": {
      const form = part.type;
      return (text) => normalForm(text, form);
    }
    case "Lowercase":
      return lowercase;
    case "StripAccents":
      return (text) => text.replace(MARKS, "");
    case "Strip": {
      const left = part.flag("strip_left", true);
      const right = part.flag("strip_right", true);
      return (text) => {
        const start = left ? text.replace(/^\p{White_Space}+/u, "") : text;
        return right ? trimEnd(start) : start;
      };
    }
    case "Prepend": {
      const before = part.text("prepend");
      return (text) => (text === "" ? "" : before + text);
    }
    case "Replace": {
      const pattern = patternOf(part);
      const content = part.text("content");
      // A function, because a text would have its dollar signs read.
      return (text) => text.replace(pattern, () => content);
    }
    case "ByteLevel":
      return asByteChars;
    case "Nmt":
      return nmt;
    case "BertNormalizer":
      return bert(part);
    case "Precompiled":
      return charsmap(part.text("precompiled_charsmap", ""));
    default:
      return part.refuse();
  }
}

/** Without the white space at its end; a regular expression would be slow on long runs within. */
export function trimEnd(text: string): string {
  let end = text.length;
  while (end > 0 && SPACE.test(text.charAt(end - 1))) end -= 1;
  return text.slice(0, end);
}

/** The rules of sentencepiece's `nmt` that are no table. */
function nmt(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what it is about
  const kept = text.replace(/[\u0001-\u0008\u000b\u000e-\u001f\u007f\u008f\u009f]/g, "");
  return kept.replace(/[\t\n\f\r\u1680\u200b-\u200f\u2028\u2029\u2581\ufeff\ufffd]/g, " ");
}

// Format characters of after Unicode 8, which its table does not know.
const CONTROL = /(?![\t\n\r\u0890\u0891\u08e2\u{110cd}\u{13430}-\u{1343f}])[\p{Cc}\p{Cf}\p{Co}\ufffd]/gu;
const SPACES = /\p{White_Space}/gu;

// As in Python: a block of CJK characters has a gap where the list says 0x2b920 for 0x2b820.
const CHINESE =
  /[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u{20000}-\u{2a6df}\u{2a700}-\u{2b81f}\u{2b920}-\u{2ceaf}\u{2f800}-\u{2fa1f}]/gu;

function bert(part: Part): Normalizer {
  const clean = part.flag("clean_text", true);
  const chinese = part.flag("handle_chinese_chars", true);
  const lower = part.flag("lowercase", true);
  const strip = part.flag("strip_accents", lower);
  return (given) => {
    let text = given;
    if (clean) text = text.replace(CONTROL, "").replace(SPACES, " ");
    if (chinese) text = text.replace(CHINESE, " $& ");
    if (strip) text = normalForm(text, "NFD").replace(NONSPACING, "");
    return lower ? lowercase(text) : text;
  };
}
