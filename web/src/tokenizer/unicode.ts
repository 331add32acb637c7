// Characters and regular expressions as the Rust library behind Python's sees them.

import { isRecord } from "../api/record.js";
import { SplitPreTokenizer } from "../vendor/tokenizers.js";
import type { Part } from "./part.js";

/** White space: unlike `\s` it has U+0085 and lacks U+FEFF. */
export const SPACE = /\p{White_Space}/u;

/** What Rust's `\w` is. */
export const WORD = "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]";

// The library's tables of punctuation and marks are of Unicode 8, those of its normal forms of Unicode 9: what came
// later is in these lists, as of Unicode 17. (Characters of Unicode 17 in regular expressions are letters here already.)
const NEW_PUNCTUATION =
  "\\u061d\\u09fd\\u0a76\\u0c77\\u0c84\\u1b4e\\u1b4f\\u1b7d-\\u1b7f\\u2e43-\\u2e4f\\u2e52-\\u2e5d\\u{10d6e}\\u{10ead}\\u{10ed0}\\u{10f55}-\\u{10f59}\\u{10f86}-\\u{10f89}\\u{113d4}\\u{113d5}\\u{113d7}\\u{113d8}\\u{1144b}-\\u{1144f}\\u{1145a}\\u{1145b}\\u{1145d}\\u{11660}-\\u{1166c}\\u{116b9}\\u{1183b}\\u{11944}-\\u{11946}\\u{119e2}\\u{11a3f}-\\u{11a46}\\u{11a9a}-\\u{11a9c}\\u{11a9e}-\\u{11aa2}\\u{11b00}-\\u{11b09}\\u{11be1}\\u{11c41}-\\u{11c45}\\u{11c70}\\u{11c71}\\u{11ef7}\\u{11ef8}\\u{11f43}-\\u{11f4f}\\u{11fff}\\u{12ff1}\\u{12ff2}\\u{16d6d}-\\u{16d6f}\\u{16e97}-\\u{16e9a}\\u{16fe2}\\u{1e5ff}\\u{1e95e}\\u{1e95f}";
const NEW_NONSPACING =
  "\\u07fd\\u0897-\\u089f\\u08ca-\\u08e1\\u09fe\\u0afa-\\u0aff\\u0b55\\u0c04\\u0c3c\\u0d00\\u0d3b\\u0d3c\\u0d81\\u0eba\\u0ece\\u180f\\u1885\\u1886\\u1abf-\\u1add\\u1ae0-\\u1aeb\\u1df6-\\u1dfb\\ua82c\\ua8c5\\ua8ff\\ua9bd\\u{10d24}-\\u{10d27}\\u{10d69}-\\u{10d6d}\\u{10eab}\\u{10eac}\\u{10efa}-\\u{10eff}\\u{10f46}-\\u{10f50}\\u{10f82}-\\u{10f85}\\u{11070}\\u{11073}\\u{11074}\\u{110c2}\\u{111c9}\\u{111cf}\\u{1123e}\\u{11241}\\u{1133b}\\u{113bb}-\\u{113c0}\\u{113ce}\\u{113d0}\\u{113d2}\\u{113e1}\\u{113e2}\\u{11438}-\\u{1143f}\\u{11442}-\\u{11444}\\u{11446}\\u{1145e}\\u{1182f}-\\u{11837}\\u{11839}\\u{1183a}\\u{1193b}\\u{1193c}\\u{1193e}\\u{11943}\\u{119d4}-\\u{119d7}\\u{119da}\\u{119db}\\u{119e0}\\u{11a01}-\\u{11a0a}\\u{11a33}-\\u{11a38}\\u{11a3b}-\\u{11a3e}\\u{11a47}\\u{11a51}-\\u{11a56}\\u{11a59}-\\u{11a5b}\\u{11a8a}-\\u{11a96}\\u{11a98}\\u{11a99}\\u{11b60}\\u{11b62}-\\u{11b64}\\u{11b66}\\u{11c30}-\\u{11c36}\\u{11c38}-\\u{11c3d}\\u{11c3f}\\u{11c92}-\\u{11ca7}\\u{11caa}-\\u{11cb0}\\u{11cb2}\\u{11cb3}\\u{11cb5}\\u{11cb6}\\u{11d31}-\\u{11d36}\\u{11d3a}\\u{11d3c}\\u{11d3d}\\u{11d3f}-\\u{11d45}\\u{11d47}\\u{11d90}\\u{11d91}\\u{11d95}\\u{11d97}\\u{11ef3}\\u{11ef4}\\u{11f00}\\u{11f01}\\u{11f36}-\\u{11f3a}\\u{11f40}\\u{11f42}\\u{11f5a}\\u{13440}\\u{13447}-\\u{13455}\\u{1611e}-\\u{16129}\\u{1612d}-\\u{1612f}\\u{16f4f}\\u{16fe4}\\u{1cf00}-\\u{1cf2d}\\u{1cf30}-\\u{1cf46}\\u{1e000}-\\u{1e006}\\u{1e008}-\\u{1e018}\\u{1e01b}-\\u{1e021}\\u{1e023}\\u{1e024}\\u{1e026}-\\u{1e02a}\\u{1e08f}\\u{1e130}-\\u{1e136}\\u{1e2ae}\\u{1e2ec}-\\u{1e2ef}\\u{1e4ec}-\\u{1e4ef}\\u{1e5ee}\\u{1e5ef}\\u{1e6e3}\\u{1e6e6}\\u{1e6ee}\\u{1e6ef}\\u{1e6f5}\\u{1e944}-\\u{1e94a}";
const NEW_MARKS =
  "\\u07fd\\u0897-\\u089f\\u08ca-\\u08d3\\u09fe\\u0afa-\\u0aff\\u0b55\\u0c04\\u0c3c\\u0cf3\\u0d00\\u0d3b\\u0d3c\\u0d81\\u0eba\\u0ece\\u1715\\u180f\\u1abf-\\u1add\\u1ae0-\\u1aeb\\u1cf7\\u1df6-\\u1dfa\\ua82c\\ua8ff\\u{10d24}-\\u{10d27}\\u{10d69}-\\u{10d6d}\\u{10eab}\\u{10eac}\\u{10efa}-\\u{10eff}\\u{10f46}-\\u{10f50}\\u{10f82}-\\u{10f85}\\u{11070}\\u{11073}\\u{11074}\\u{110c2}\\u{11145}\\u{11146}\\u{111c9}\\u{111ce}\\u{111cf}\\u{11241}\\u{1133b}\\u{113b8}-\\u{113c0}\\u{113c2}\\u{113c5}\\u{113c7}-\\u{113ca}\\u{113cc}-\\u{113d0}\\u{113d2}\\u{113e1}\\u{113e2}\\u{1145e}\\u{1182c}-\\u{1183a}\\u{11930}-\\u{11935}\\u{11937}\\u{11938}\\u{1193b}-\\u{1193e}\\u{11940}\\u{11942}\\u{11943}\\u{119d1}-\\u{119d7}\\u{119da}-\\u{119e0}\\u{119e4}\\u{11a01}-\\u{11a0a}\\u{11a33}-\\u{11a39}\\u{11a3b}-\\u{11a3e}\\u{11a47}\\u{11a51}-\\u{11a5b}\\u{11a8a}-\\u{11a99}\\u{11b60}-\\u{11b67}\\u{11d31}-\\u{11d36}\\u{11d3a}\\u{11d3c}\\u{11d3d}\\u{11d3f}-\\u{11d45}\\u{11d47}\\u{11d8a}-\\u{11d8e}\\u{11d90}\\u{11d91}\\u{11d93}-\\u{11d97}\\u{11ef3}-\\u{11ef6}\\u{11f00}\\u{11f01}\\u{11f03}\\u{11f34}-\\u{11f3a}\\u{11f3e}-\\u{11f42}\\u{11f5a}\\u{13440}\\u{13447}-\\u{13455}\\u{1611e}-\\u{1612f}\\u{16f4f}\\u{16f7f}-\\u{16f87}\\u{16fe4}\\u{16ff0}\\u{16ff1}\\u{1cf00}-\\u{1cf2d}\\u{1cf30}-\\u{1cf46}\\u{1e08f}\\u{1e130}-\\u{1e136}\\u{1e2ae}\\u{1e2ec}-\\u{1e2ef}\\u{1e4ec}-\\u{1e4ef}\\u{1e5ee}\\u{1e5ef}\\u{1e6e3}\\u{1e6e6}\\u{1e6ee}\\u{1e6ef}\\u{1e6f5}";
const NEW_NORMAL_FORMS =
  "\\u32ff\\ua7f1-\\ua7f4\\uab69\\u{105c9}\\u{105e4}\\u{10781}-\\u{10785}\\u{10787}-\\u{107b0}\\u{107b2}-\\u{107ba}\\u{11383}\\u{11385}\\u{1138e}\\u{11391}\\u{113c5}\\u{113c7}\\u{113c8}\\u{11938}\\u{16121}-\\u{16128}\\u{16d68}-\\u{16d6a}\\u{1ccd6}-\\u{1ccf9}\\u{1e030}-\\u{1e06d}\\u{1f16c}\\u{1fbf0}-\\u{1fbf9}";

/** Punctuation, and every ASCII sign. */
export const PUNCTUATION = new RegExp(`^(?![${NEW_PUNCTUATION}])[\\p{P}!-/:-@[-\`{-~\\u166d\\u{111c9}]$`, "u");

/** Marks that take no space, which BERT strips as accents. */
export const NONSPACING = new RegExp(`(?![${NEW_NONSPACING}])[\\p{Mn}\\u1734\\u{1171e}]`, "gu");

/** Combining marks, which `StripAccents` strips. */
export const MARKS = new RegExp(`(?![${NEW_MARKS}])[\\p{M}\\u1cf2\\u1cf3]`, "gu");

const UNNORMALIZED = new RegExp(`([${NEW_NORMAL_FORMS}]+)`, "u");

/** A normal form of Unicode 9. */
export function normalForm(text: string, form: "NFC" | "NFD" | "NFKC" | "NFKD"): string {
  // A character that the table does not know stays as it is, and joins nothing.
  return text
    .split(UNNORMALIZED)
    .map((piece, at) => (at % 2 === 1 ? piece : piece.normalize(form)))
    .join("");
}

/** Lower case, character by character: a sigma at the end of a word is none that is special. */
export function lowercase(text: string): string {
  return text.includes("\u03a3") ? Array.from(text, (char) => char.toLowerCase()).join("") : text.toLowerCase();
}

/** Whether text begins or ends with a character of a word. */
export const STARTS_WITH_WORD = new RegExp(`^${WORD}`, "u");
export const ENDS_WITH_WORD = new RegExp(`${WORD}$`, "u");

/** The `pattern` of a part: a literal text or a regular expression of Oniguruma, with the flags `g` and `u`. */
export function patternOf(part: Part, name = "pattern"): RegExp {
  const given = part.settings[name];
  if (isRecord(given) && typeof given["String"] === "string") {
    // An empty text is found nowhere.
    const literal = given["String"].replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");
    return new RegExp(literal === "" ? "[]" : literal, "gu");
  }
  if (isRecord(given) && typeof given["Regex"] === "string") return oniguruma(given["Regex"], part);
  return part.refuse(`has neither a String nor a Regex as its ${name}`);
}

function oniguruma(source: string, part: Part): RegExp {
  // Outside escapes and character classes: what JavaScript has no counterpart for, and would be read as something else.
  const bare = source.replace(/\\[\s\S]/gu, "x").replace(/\[\^?\]?[^\]]*\]/gu, "c");
  const strange = /\(\?>|[*+?]\+|\(\?[#~(]/.exec(bare)?.[0] ?? /\\[GKRXyYkg]/.exec(source.replaceAll("\\\\", ""))?.[0];
  if (strange) part.refuse(`has ${strange} in its regular expression ${source}, which JavaScript cannot do`);
  let pattern: RegExp | null;
  try {
    pattern = new SplitPreTokenizer({
      type: "Split",
      pattern: { Regex: translated(source) },
      behavior: "Isolated",
      invert: false,
    } as never).pattern;
  } catch (error) {
    return part.refuse(`has a regular expression that JavaScript cannot do, ${source}: ${(error as Error).message}`);
  }
  if (!pattern) return part.refuse("has no pattern");
  // Without regard to case, the long s is an s and the sign of Kelvin a k.
  const folded = pattern.source.replaceAll("[sS]", "[sS\\u017f]").replaceAll("[kK]", "[kK\\u212a]");
  return source.includes("(?i") ? new RegExp(folded, pattern.flags) : pattern;
}

/** What Oniguruma spells otherwise than JavaScript: `\x{4E00}`, `\p{^L}`, `a{,3}`, `(?i)` at the start. */
function translated(given: string): string {
  // Classes have more in them without regard to case than JavaScript puts there: those are left to be refused.
  const source = given.startsWith("(?i)") && !given.includes("[") ? `(?i:${given.slice(4)})` : given;
  let depth = 0;
  return source.replace(
    /\\x\{([0-9A-Fa-f]+)\}|\\([pP])\{\^([^}]+)\}|\\[\s\S]|[[\]]|\{,(\d+)\}/gu,
    (whole, code?: string, p?: string, name?: string, most?: string) => {
      if (whole === "[") depth += 1;
      if (whole === "]") depth = Math.max(0, depth - 1);
      if (code !== undefined) return `\\u{${code}}`;
      if (p !== undefined) return `\\${p === "p" ? "P" : "p"}{${name}}`;
      return most !== undefined && depth === 0 ? `{0,${most}}` : whole;
    },
  );
}

/** The places of matches, each once; an empty one right after another match is none. */
export function matches(text: string, pattern: RegExp): [number, number][] {
  // In nothing is nothing found, not even nothing.
  if (text === "") return [];
  const found: [number, number][] = [];
  let last = -1;
  for (const match of text.matchAll(pattern)) {
    const end = match.index + match[0].length;
    if (match[0] === "" && match.index === last) continue;
    found.push([match.index, end]);
    last = end;
  }
  return found;
}

/** A text with other content in the place of every match. */
export function replaced(text: string, pattern: RegExp, content: string): string {
  let out = "";
  let last = 0;
  for (const [start, end] of matches(text, pattern)) {
    out += text.slice(last, start) + content;
    last = end;
  }
  return out + text.slice(last);
}

/** The characters that bytes are written as: those that can be seen as they are, the others from U+0100. */
export const BYTE_CHARS: readonly string[] = (() => {
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => {
    const seen = (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad);
    return String.fromCharCode(seen ? byte : next++);
  });
})();

const UTF8 = new TextEncoder();

/** A text as the characters of its bytes. */
export function asByteChars(text: string): string {
  let chars = "";
  for (const byte of UTF8.encode(text)) chars += BYTE_CHARS[byte];
  return chars;
}

/** The bytes of a text. */
export function utf8(text: string): Uint8Array {
  return UTF8.encode(text);
}
