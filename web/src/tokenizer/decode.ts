// Decoders: tokens back to text.

import type { Part } from "./part.js";
import { prependScheme } from "./split.js";
import { BYTE_CHARS, patternOf, replaced, utf8 } from "./unicode.js";

/** Tokens to texts; what the last one gives is joined. */
export type Decoder = (tokens: string[]) => string[];

/** Bytes to text; a byte order mark is a character like any other. */
const LOSSY = new TextDecoder("utf-8", { ignoreBOM: true });
const STRICT = new TextDecoder("utf-8", { ignoreBOM: true, fatal: true });

/** The decoder of a `tokenizer.json`. */
export function decoder(part: Part): Decoder {
  switch (part.type) {
    case "Sequence": {
      const all = part.list("decoders").map(decoder);
      return (tokens) => all.reduce((it, next) => next(it), tokens);
    }
    case "ByteLevel":
      return byteLevel;
    case "ByteFallback":
      return byteFallback;
    case "Fuse":
      return (tokens) => [tokens.join("")];
    case "Metaspace": {
      const sign = part.text("replacement", "▁");
      const dropped = prependScheme(part) !== "never";
      // Of the first token every sign goes: it stands for the space that was prepended.
      return (tokens) => tokens.map((token, at) => token.replaceAll(sign, at === 0 && dropped ? "" : " "));
    }
    case "Replace": {
      const pattern = patternOf(part);
      const content = part.text("content");
      return (tokens) => tokens.map((token) => replaced(token, pattern, content));
    }
    case "Strip":
      return strip(part);
    case "WordPiece": {
      const prefix = part.text("prefix", "##");
      const cleanup = part.flag("cleanup", true);
      return (tokens) =>
        tokens.map((token, at) => {
          const continues = token.startsWith(prefix);
          const text = at === 0 ? token : continues ? token.slice(prefix.length) : ` ${token}`;
          return cleanup ? clean(text) : text;
        });
    }
    case "BPEDecoder": {
      const suffix = part.text("suffix", "</w>");
      // An empty one is found around every character, which a text as a pattern would cut in halves.
      const pattern = suffix === "" ? /(?:)/gu : suffix;
      return (tokens) => tokens.map((it, at) => it.replaceAll(pattern, at === tokens.length - 1 ? "" : " "));
    }
    default:
      return part.refuse("is not supported: it would not decode as in Python");
  }
}

const BYTES = new Map(BYTE_CHARS.map((char, byte) => [char, byte]));

function byteLevel(tokens: string[]): string[] {
  const bytes: number[] = [];
  for (const token of tokens) {
    const own = Array.from(token, (char) => BYTES.get(char));
    // A token that is no bytes, as added ones may be, is text.
    if (own.every((byte) => byte !== undefined)) for (const byte of own) bytes.push(byte);
    else for (const byte of utf8(token)) bytes.push(byte);
  }
  return [LOSSY.decode(Uint8Array.from(bytes))];
}

function byteFallback(tokens: string[]): string[] {
  const out: string[] = [];
  let bytes: number[] = [];
  const flush = () => {
    try {
      if (bytes.length > 0) out.push(STRICT.decode(Uint8Array.from(bytes)));
    } catch {
      // One sign for each byte, and not for each character that was begun.
      for (const _ of bytes) out.push("\ufffd");
    }
    bytes = [];
  };
  for (const token of tokens) {
    const digits = /^<0x([0-9A-Fa-f]{2})>$/.exec(token)?.[1];
    if (digits !== undefined) {
      bytes.push(Number.parseInt(digits, 16));
      continue;
    }
    flush();
    out.push(token);
  }
  flush();
  return out;
}

function strip(part: Part): Decoder {
  const content = part.text("content");
  const most = { start: part.count("start", 0), stop: part.count("stop", 0) };
  return (tokens) =>
    tokens.map((token) => {
      const chars = Array.from(token);
      let start = 0;
      while (start < most.start && chars[start] === content) start += 1;
      let stop = chars.length;
      while (chars.length - stop < most.stop && stop > 0 && chars[stop - 1] === content) stop -= 1;
      return chars.slice(start, Math.max(start, stop)).join("");
    });
}

/** Spaces before signs go, and some of English. */
function clean(text: string): string {
  const rules: [string, string][] = [
    [" .", "."],
    [" ?", "?"],
    [" !", "!"],
    [" ,", ","],
    [" ' ", "'"],
    [" n't", "n't"],
    [" 'm", "'m"],
    [" do not", " don't"],
    [" 's", "'s"],
    [" 've", "'ve"],
    [" 're", "'re"],
  ];
  return rules.reduce((it, [from, to]) => it.replaceAll(from, to), text);
}
