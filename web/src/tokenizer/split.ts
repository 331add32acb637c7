// Pre-tokenizers: text to the pieces that the model takes one by one.

import type { Part } from "./part.js";
import { asByteChars, matches, PUNCTUATION, patternOf, WORD } from "./unicode.js";

/** A piece of the text. */
export interface Piece {
  text: string;
  /** Whether it begins where the whole text does: some prepend a space there and nowhere else. */
  first: boolean;
}

/** Pieces to smaller pieces. */
export type Splitter = (pieces: Piece[]) => Piece[];

const BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"] as const;

/** What becomes of what is matched. */
type Behavior = (typeof BEHAVIORS)[number];

/** The places of matches in a text, in order, none empty unless the pattern says so. */
type Finder = (text: string) => [number, number][];

const GPT2 =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;
const WORDS = new RegExp(`${WORD}+|(?:(?!${WORD})\\P{White_Space})+`, "gu");

/** The pre-tokenizer of a `tokenizer.json`. */
export function splitter(part: Part): Splitter {
  switch (part.type) {
    case "Sequence": {
      const all = part.list("pretokenizers").map(splitter);
      return (pieces) => all.reduce((it, next) => next(it), pieces);
    }
    case "ByteLevel": {
      const cut = part.flag("use_regex", true) ? each(by(GPT2), "Isolated") : (pieces: Piece[]) => pieces;
      const prefixed = part.flag("add_prefix_space", true)
        ? map((text) => (text.startsWith(" ") ? text : ` ${text}`))
        : map((text) => text);
      return (pieces) => map(asByteChars)(cut(prefixed(pieces)));
    }
    case "Metaspace":
      return metaspace(part);
    case "Split": {
      const invert = part.flag("invert", false);
      return each(by(patternOf(part)), part.one("behavior", BEHAVIORS), invert);
    }
    case "Punctuation":
      return each(chars(PUNCTUATION), part.one("behavior", BEHAVIORS, "Isolated"));
    case "Digits":
      return each(chars(/^\p{N}$/u), part.flag("individual_digits", false) ? "Isolated" : "Contiguous");
    case "Whitespace":
      return each(by(WORDS), "Removed", true);
    case "WhitespaceSplit":
      return each(by(/\p{White_Space}/gu), "Removed");
    case "BertPreTokenizer": {
      const words = each(by(/\p{White_Space}/gu), "Removed");
      const signs = each(chars(PUNCTUATION), "Isolated");
      return (pieces) => signs(words(pieces));
    }
    case "CharDelimiterSplit": {
      const delimiter = part.text("delimiter");
      return each(by(new RegExp(`\\u{${delimiter.codePointAt(0)?.toString(16) ?? "0"}}`, "gu")), "Removed");
    }
    case "FixedLength": {
      const length = part.count("length", 5);
      if (length === 0) part.refuse("has the length 0");
      return each(by(new RegExp(`[\\s\\S]{1,${length}}`, "gu")), "Isolated");
    }
    default:
      return part.refuse();
  }
}

/** How a `Metaspace` begins a text; old files say it by `add_prefix_space`. */
export function prependScheme(part: Part): "always" | "first" | "never" {
  const legacy = part.settings["add_prefix_space"] === false ? "never" : "always";
  return part.one("prepend_scheme", ["always", "first", "never"], legacy);
}

function metaspace(part: Part): Splitter {
  const sign = part.text("replacement", "▁");
  const scheme = prependScheme(part);
  const prepended: Splitter = (pieces) =>
    pieces.map(({ text, first }) => {
      const replaced = text.replaceAll(" ", sign);
      const wanted = scheme === "always" || (scheme === "first" && first);
      return { text: wanted && !replaced.startsWith(sign) ? sign + replaced : replaced, first };
    });
  if (!part.flag("split", true)) return prepended;
  const cut = each((text) => positions(text, sign), "MergedWithNext");
  return (pieces) => cut(prepended(pieces));
}

function map(change: (text: string) => string): Splitter {
  return (pieces) => pieces.map(({ text, first }) => ({ text: change(text), first }));
}

function by(pattern: RegExp): Finder {
  return (text) => matches(text, pattern);
}

/** Every character of a class, each for itself. */
function chars(pattern: RegExp): Finder {
  return (text) => {
    const found: [number, number][] = [];
    let at = 0;
    for (const char of text) {
      if (pattern.test(char)) found.push([at, at + char.length]);
      at += char.length;
    }
    return found;
  };
}

function positions(text: string, sign: string): [number, number][] {
  const found: [number, number][] = [];
  for (let at = text.indexOf(sign); at >= 0; at = text.indexOf(sign, at + sign.length)) {
    found.push([at, at + sign.length]);
  }
  return found;
}

/** Splits every piece where something is found, or, inverted, where it is not. */
function each(find: Finder, behavior: Behavior, invert = false): Splitter {
  return (pieces) =>
    pieces.flatMap(({ text, first }) =>
      cut(text, find(text), behavior, invert)
        .filter(([start, end]) => end > start)
        .map(([start, end]) => ({ text: text.slice(start, end), first: first && start === 0 })),
    );
}

function cut(text: string, found: [number, number][], behavior: Behavior, invert: boolean): [number, number][] {
  // The whole text, as what is matched and what is between.
  const spans: { start: number; end: number; match: boolean }[] = [];
  let last = 0;
  for (const [start, end] of found) {
    if (start > last) spans.push({ start: last, end: start, match: invert });
    spans.push({ start, end, match: !invert });
    last = end;
  }
  if (last < text.length) spans.push({ start: last, end: text.length, match: invert });

  const out: [number, number][] = [];
  let before: boolean | undefined;
  if (behavior === "MergedWithNext") spans.reverse();
  for (const { start, end, match } of spans) {
    const neighbour = out.at(-1);
    if (behavior === "Removed") {
      if (!match) out.push([start, end]);
    } else if (neighbour && behavior === "Contiguous" && match === before) {
      neighbour[1] = end;
    } else if (neighbour && behavior === "MergedWithPrevious" && match && !before) {
      neighbour[1] = end;
    } else if (neighbour && behavior === "MergedWithNext" && match && !before) {
      neighbour[0] = start;
    } else {
      out.push([start, end]);
    }
    before = match;
  }
  return behavior === "MergedWithNext" ? out.reverse() : out;
}
