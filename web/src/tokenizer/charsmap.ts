// The `Precompiled` normalizer: a map of characters as sentencepiece compiles it.
//
// The map is a double-array trie over UTF-8 (darts-clone) and the texts that its values point into, zero-terminated.
// Layout: u32 size of the trie in bytes, little-endian; the trie; the texts.

import { utf8 } from "./unicode.js";

/** Clusters of more bytes are mapped character by character only. */
const LONGEST_CLUSTER = 5;

/** The normalizer of a map in base64. */
export function charsmap(base64: string): (text: string) => string {
  // In old files it is empty: nothing is mapped then.
  if (base64 === "") return (text) => text;
  const bytes = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const size = bytes.length < 4 ? 0 : view.getUint32(0, true);
  if (size === 0 || size % 4 !== 0 || size + 4 > bytes.length) throw new Error("precompiled_charsmap is damaged");
  const trie = Uint32Array.from({ length: size / 4 }, (_, n) => view.getUint32(4 + 4 * n, true));
  const texts = bytes.subarray(4 + size);
  const known = new Map<string, string | undefined>();

  const look = (text: string): string | undefined => {
    if (!known.has(text)) {
      const at = shortest(trie, utf8(text));
      const end = at === undefined ? -1 : texts.indexOf(0, at);
      const mapped = at === undefined ? undefined : texts.subarray(at, end < 0 ? undefined : end);
      known.set(text, mapped && new TextDecoder("utf-8", { ignoreBOM: true }).decode(mapped));
    }
    return known.get(text);
  };
  const clusters = new Intl.Segmenter("und", { granularity: "grapheme" });
  return (text) => {
    let out = "";
    for (const { segment } of clusters.segment(text)) {
      const whole = utf8(segment).length <= LONGEST_CLUSTER ? look(segment) : undefined;
      if (whole !== undefined) out += whole;
      else for (const char of segment) out += look(char) ?? char;
    }
    return out;
  };
}

/** The value of the shortest key that a text begins with. The longest would be right; Python's library takes this one. */
function shortest(trie: Uint32Array, key: Uint8Array): number | undefined {
  const unitAt = (at: number) => trie[at] ?? 0;
  const offset = (unit: number) => (unit >>> 10) << ((unit & 0x200) >>> 6);
  let at = offset(unitAt(0));
  for (const byte of key) {
    if (byte === 0) return undefined;
    at ^= byte;
    const unit = unitAt(at);
    if ((unit & 0x800000ff) >>> 0 !== byte) return undefined;
    at ^= offset(unit);
    if ((unit >>> 8) & 1) return unitAt(at) & 0x7fffffff;
  }
  return undefined;
}
