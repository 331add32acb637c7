// What two texts have in common, however they are laid out.

import { expect, test } from "vitest";
import heldout from "../../../../examples/demo/heldout.txt?raw";
import { splitText } from "./calibration.js";
import { overlapOf, PASSAGE } from "./overlap.js";

const other = Array.from({ length: 400 }, (_, i) => `sentence ${i * i} of another text`).join(". ");

test("the same text is found however its lines end, and so is one that stands in what was read", () => {
  expect(overlapOf(heldout, heldout)).toBe("whole");
  expect(overlapOf(`${heldout.replaceAll("\n", "\r\n")}\r\n`, heldout)).toBe("whole");
  expect(overlapOf(`${other} ${heldout}`, heldout)).toBe("whole");
  expect(overlapOf("a few words of it", "few words")).toBe("whole");
});

test("a passage is found wherever it begins, in the shorter text and in the longer one", () => {
  const words = heldout.replace(/\s+/g, " ");
  for (const from of [0, 1, 57, 99, 100, 101, 1234, 30_000]) {
    const passage = words.slice(from, from + PASSAGE);
    const [before, after] = [other.slice(0, 333 + from), other.slice(333 + from)];
    expect(overlapOf(`${before}${passage}${after}`, heldout), `from ${from}`).toBe("passage");
    expect(overlapOf(heldout, `${before}${passage}${after}`), `from ${from}`).toBe("passage");
  }
  expect(overlapOf(heldout.slice(500, 560), heldout), "all of a short one").toBe("passage");
});

test("texts of their own have nothing in common, be it that a few words are", () => {
  expect(overlapOf(other, heldout)).toBeUndefined();
  const half = heldout.slice(2000, 2000 + PASSAGE / 2 - 10);
  expect(overlapOf(`${other}${half}${other}`, heldout)).toBeUndefined();
  expect(overlapOf("", heldout)).toBeUndefined();
  const [first, last] = splitText(heldout);
  expect(overlapOf(first, last), "no article is in both parts").toBeUndefined();
});
