// Normalizers: text to text, before it is split.

import { charsmap } from "./charsmap.js";
import type { Part } from "./part.js";
import {
  asByteChars,
  lowercase,
  MARKS,
  matches,
  NONSPACING,
  normalForm,
  patternOf,
  replaced,
  SPACE,
} from "./unicode.js";

/** A text that was normalized. */
export interface Normalized {
  text: string;
  /** Whether it begins with what the given text began with: some prepend a space only there. */
  start: boolean;
}

/** Text to text. */
export type Normalizer = (text: string) => Normalized;

/** The normalizer of a `tokenizer.json`. */
export function normalizer(part: Part): Normalizer {
  switch (part.type) {
    case "Sequence": {
      const all = part.list("normalizers").map(normalizer);
      return (given) =>
        all.reduce<Normalized>(
          (before, next) => {
            const { text, start } = next(before.text);
            return { text, start: before.start && start };
          },
          { text: given, start: true },
        );
    }
    case "NFC":
    case "NFD":
    case "NFKC":
    case "NFKD": {
      const form = part.type;
      return kept((text) => normalForm(text, form));
    }
    case "Lowercase":
      return kept(lowercase);
    case "StripAccents":
      return without(MARKS);
    case "Strip": {
      const left = part.flag("strip_left", true);
      const right = part.flag("strip_right", true);
      return (given) => {
        const stripped = left ? given.replace(/^\p{White_Space}+/u, "") : given;
        return { text: right ? trimEnd(stripped) : stripped, start: stripped.length === given.length };
      };
    }
    case "Prepend": {
      const before = part.text("prepend");
      return kept((text) => (text === "" ? "" : before + text));
    }
    case "Replace": {
      const pattern = patternOf(part);
      const content = part.text("content");
      return (given) => {
        const [first] = matches(given, pattern);
        // What replaces several characters counts as the last of them.
        const moved =
          first?.[0] === 0 && (content === "" ? first[1] > 0 : Array.from(given.slice(...first)).length > 1);
        return { text: replaced(given, pattern, content), start: !moved };
      };
    }
    case "ByteLevel":
      return kept(asByteChars);
    case "Nmt":
      return nmt;
    case "BertNormalizer":
      return bert(part);
    case "Precompiled":
      return kept(charsmap(part.text("precompiled_charsmap", "")));
    default:
      return part.refuse();
  }
}

/** A change that leaves the start where it is. */
function kept(change: (text: string) => string): Normalizer {
  return (text) => ({ text: change(text), start: true });
}

/** A text without some of its characters. */
function without(characters: RegExp): Normalizer {
  return (given) => {
    const text = given.replace(characters, "");
    return { text, start: text === given || given.search(characters) > 0 };
  };
}

/** Without the white space at its end; a regular expression would be slow on long runs within. */
export function trimEnd(text: string): string {
  let end = text.length;
  while (end > 0 && SPACE.test(text.charAt(end - 1))) end -= 1;
  return text.slice(0, end);
}

/** The rules of sentencepiece's `nmt` that are no table. */
function nmt(given: string): Normalized {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what it is about
  const { text, start } = without(/[\u0001-\u0008\u000b\u000e-\u001f\u007f\u008f\u009f]/g)(given);
  const spaced = text.replace(/[\t\n\f\r\u1680\u200b-\u200f\u2028\u2029\u2581\ufeff\ufffd]/g, " ");
  return { text: spaced, start };
}

// Format characters of after Unicode 8, which its table does not know.
const CONTROL = /(?![\t\n\r\u0890\u0891\u08e2\u{110cd}\u{13430}-\u{1343f}])[\p{Cc}\p{Cf}\p{Co}\ufffd]/gu;
const SPACES = /\p{White_Space}/gu;

// As in Python: a block of CJK characters has a gap where the list says 0x2b920 for 0x2b820.
const CHINESE =
  /[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u{20000}-\u{2a6df}\u{2a700}-\u{2b81f}\u{2b920}-\u{2ceaf}\u{2f800}-\u{2fa1f}]/gu;

function bert(part: Part): Normalizer {
  const clean = part.flag("clean_text", true) && without(CONTROL);
  const chinese = part.flag("handle_chinese_chars", true);
  const lower = part.flag("lowercase", true);
  const strip = part.flag("strip_accents", lower) && without(NONSPACING);
  return (given) => {
    let { text, start } = clean ? clean(given) : { text: given, start: true };
    if (clean) text = text.replace(SPACES, " ");
    if (chinese) text = text.replace(CHINESE, " $& ");
    if (strip) {
      const stripped = strip(normalForm(text, "NFD"));
      text = stripped.text;
      start &&= stripped.start;
    }
    return { text: lower ? lowercase(text) : text, start };
  };
}
