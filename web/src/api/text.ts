// Bytes to text: every text that comes from a file, a stream or a drop is read here, so that all are read alike.
//
// Texts are UTF-8. A byte order mark at the start is no part of them; what is no UTF-8 is refused with what it seems to be,
// because a model would be measured on characters that nobody wrote.

import { checkText, shown } from "./check.js";
import { StatepressError } from "./errors.js";

/**
 * The text of a file or a stream, without its byte order mark.
 *
 * @throws StatepressError `bad-input` with `name`, the place of the first byte that is wrong, and what would help.
 */
export function decodeText(bytes: Uint8Array, name: string): string {
  if (!(bytes instanceof Uint8Array)) {
    throw new StatepressError("bad-input", `decodeText takes a Uint8Array, not ${shown(bytes)}`);
  }
  const refuse = (what: string, offset: number, help: string): never => {
    const message = `${name} is not UTF-8 text: ${what}; ${help}`;
    throw new StatepressError("bad-input", message, { file: name, offset });
  };
  const wide = wideEncoding(bytes);
  if (wide) refuse(`it seems to be ${wide}`, 0, converted(wide));
  try {
    return withoutMark(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch {
    const offset = firstWrong(bytes);
    if (offset === undefined) return refuse(`its ${bytes.length} bytes are more than one text can hold`, 0, "cut it");
    const { what, help } = guess(bytes, offset);
    const byte = (bytes[offset] ?? 0).toString(16).padStart(2, "0");
    return refuse(`byte ${offset} is 0x${byte}, and ${what}`, offset, help);
  }
}

/** A text without a byte order mark at its start. */
export function withoutMark(text: string): string {
  checkText("withoutMark", text);
  return text.startsWith("\ufeff") ? text.slice(1) : text;
}

function converted(from: string): string {
  return `save it as UTF-8, or convert it by iconv -f ${from} -t UTF-8`;
}

const MARKS: [string, number[]][] = [
  ["UTF-32LE", [0xff, 0xfe, 0, 0]],
  ["UTF-32BE", [0, 0, 0xfe, 0xff]],
  ["UTF-16LE", [0xff, 0xfe]],
  ["UTF-16BE", [0xfe, 0xff]],
];

/** Bytes that are looked at to tell two-byte characters. */
const LOOKED_AT = 4096;

/** The encoding of two or four bytes a character that bytes seem to be in; those without a mark may be valid UTF-8. */
function wideEncoding(bytes: Uint8Array): string | undefined {
  const marked = MARKS.find(([, mark]) => bytes.length >= mark.length && mark.every((byte, at) => bytes[at] === byte));
  if (marked) return marked[0];
  const pairs = Math.min(bytes.length, LOOKED_AT) >> 1;
  if (pairs < 2) return undefined;
  // The upper bytes of most scripts are control characters where no text has any: 0 of Latin, 4 of Cyrillic.
  const odd = [0, 0];
  for (let at = 0; at < 2 * pairs; at += 1) {
    const byte = bytes[at] ?? 0;
    const control = byte < 0x20 && !(byte >= 9 && byte <= 13);
    if (control) odd[at % 2] = (odd[at % 2] ?? 0) + 1;
  }
  const share = odd.map((count) => count / pairs);
  const most = pairs < 8 ? 1 : 0.5;
  const [first = 0, second = 0] = share;
  if (second >= most && first <= 0.1) return "UTF-16LE";
  if (first >= most && second <= 0.1) return "UTF-16BE";
  return undefined;
}

/** The place of the first byte that no UTF-8 has there; undefined where all is well. */
function firstWrong(bytes: Uint8Array): number | undefined {
  for (let at = 0; at < bytes.length; ) {
    const length = characterAt(bytes, at);
    if (length === 0) return at;
    at += length;
  }
  return undefined;
}

/** Bytes of the character at a place; 0 where there is none. */
function characterAt(bytes: Uint8Array, at: number): number {
  const [first = 0, second = 0] = [bytes[at], bytes[at + 1]];
  if (first < 0x80) return 1;
  const length =
    first >= 0xc2 && first < 0xe0 ? 2 : first < 0xf0 && first >= 0xe0 ? 3 : first < 0xf5 && first >= 0xf0 ? 4 : 0;
  if (length === 0) return 0;
  // No surrogates, nothing beyond U+10FFFF, nothing longer than it must be.
  const least = first === 0xe0 ? 0xa0 : first === 0xf0 ? 0x90 : 0x80;
  const most = first === 0xed ? 0x9f : first === 0xf4 ? 0x8f : 0xbf;
  if (second < least || second > most) return 0;
  for (let next = at + 2; next < at + length; next += 1) {
    if (((bytes[next] ?? 0) & 0xc0) !== 0x80) return 0;
  }
  return length;
}

/** Whether bytes are the beginning of a character, of which the rest lacks. */
function isBegun(bytes: Uint8Array): boolean {
  if (bytes.length === 0 || bytes.length > 3) return false;
  // Which second bytes there may be depends on the first.
  return [0x80, 0x90, 0xa0].some((second) => {
    const whole = [...bytes, ...[second, 0x80, 0x80].slice(bytes.length === 1 ? 0 : 1)];
    return characterAt(Uint8Array.from(whole), 0) > bytes.length;
  });
}

const SIGNATURES: [string, number[]][] = [
  ["a zip archive", [0x50, 0x4b, 3, 4]],
  ["a gzip archive", [0x1f, 0x8b]],
  ["a zstd archive", [0x28, 0xb5, 0x2f, 0xfd]],
  ["an xz archive", [0xfd, 0x37, 0x7a, 0x58, 0x5a]],
  ["a PDF document", [0x25, 0x50, 0x44, 0x46]],
  ["a Parquet file", [0x50, 0x41, 0x52, 0x31]],
];

/** What bytes that are no UTF-8 from a place on may be, and what would help. */
function guess(bytes: Uint8Array, offset: number): { what: string; help: string } {
  const kind = SIGNATURES.find(([, start]) => start.every((byte, at) => bytes[at] === byte));
  if (kind) return { what: `it is ${kind[0]}`, help: "give the text that is in it" };
  if (bytes[offset] === 0xed && (bytes[offset + 1] ?? 0) >> 5 === 5) {
    const help = 'join the halves: in Python, text.encode("utf-16", "surrogatepass").decode("utf-16")';
    return { what: "it begins half of a surrogate pair, which UTF-8 does not have", help };
  }
  if (isBegun(bytes.subarray(offset))) {
    // Where nothing before is a character of UTF-8, a last letter with an accent looks the same.
    const plain = bytes.subarray(0, offset).every((it) => it < 0x80);
    return plain
      ? {
          what: "it ends in the middle of a character, or is Latin-1",
          help: `fetch it again if it was cut, else ${converted("WINDOWS-1252")}`,
        }
      : { what: "it ends in the middle of a character", help: "it was cut: fetch or write it again" };
  }
  let control = 0;
  let high = 0;
  let characters = 0;
  let wrong = 0;
  const end = Math.min(bytes.length, offset + (LOOKED_AT << 4));
  for (let at = Math.max(0, offset - LOOKED_AT); at < end; ) {
    const byte = bytes[at] ?? 0;
    const length = characterAt(bytes, at);
    if (byte < 9 || (byte > 13 && byte < 32)) control += 1;
    if (byte >= 0x80) high += 1;
    if (length > 1) characters += 1;
    if (length === 0) wrong += 1;
    at += Math.max(1, length);
  }
  const seen = end - Math.max(0, offset - LOOKED_AT);
  if (control > seen / 50) return { what: "it seems to be no text at all", help: "give a text file" };
  if (characters > 4 * wrong) return { what: "the rest seems to be UTF-8", help: "take out the damaged bytes" };
  if (high > seen / 4) {
    return {
      what: "it seems to be in an older encoding, such as Latin-1, Windows-1251, Shift-JIS or GB18030",
      help: converted("ENCODING"),
    };
  }
  return { what: "it seems to be Latin-1 (Windows-1252)", help: converted("WINDOWS-1252") };
}
