// The second text that a run is measured on, where one is given: best of another kind than the one that the model has read
// while it is compressed.

import { judgedText, type NamedText, type Objection, readText } from "./calibration.js";
import { type Overlap, overlapOf } from "./overlap.js";
import { readsText } from "./recipes.js";
import type { Asked } from "./state.js";

/** The second text; undefined where none is asked for. */
export function secondText({ second: { from, own, typed } }: Asked): NamedText | undefined {
  if (from === "none") return undefined;
  return from === "own" ? (own ?? { name: "a text file", text: "" }) : { name: "a text that you typed", text: typed };
}

/** What speaks against the second text. The held-out text may not be here yet. */
export function objectionToSecond(asked: Asked, heldout = ""): Objection | undefined {
  const second = secondText(asked);
  if (!second) return undefined;
  if (second.text.trim() === "") {
    return { level: "info", message: "The second text is not there yet: give it one, or measure on one text only." };
  }
  if (plain(second.text) === plain(judgedText(asked, heldout).text)) {
    return { level: "error", message: "The second text is the one that is measured on already: take another one." };
  }
  if (!readsText(asked.recipe) || !overlap(readText(asked, heldout).text, second.text)) return undefined;
  const message =
    "Something of the second text is in the text that the model reads while it is compressed: on it, it may look better " +
    "than it is. Better take two texts that have nothing in common.";
  return { level: "warning", message };
}

const plain = (text: string) => text.replace(/\s+/g, " ").trim();

// Kept, because it is asked for whenever any setting changes.
let compared: { read: string; second: string; overlap: Overlap | undefined } | undefined;

function overlap(read: string, second: string): Overlap | undefined {
  if (compared?.read !== read || compared.second !== second) {
    compared = { read, second, overlap: overlapOf(read, second) };
  }
  return compared.overlap;
}
