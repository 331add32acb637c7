import { expect, test } from "vitest";
import { difference } from "./difference.js";

const tokens = (...texts: string[]) => texts.map((text) => ({ id: text.codePointAt(0) ?? 0, text, probability: 0.25 }));

test("it is said in words, with tokens that cannot be seen named", () => {
  expect(difference(tokens("a", "b"), tokens("a", "b"))).toBe("Both say the same, all 2 tokens of it.");
  expect(difference(tokens("a", " b"), tokens("a", "\n"))).toBe(
    "The same for 1 token: then the original says “b” (25.0 % likely), the compressed one says a line break (25.0 % likely).",
  );
  expect(difference(tokens("a"), [])).toBe(
    "They part at the first token: then the original says “a” (25.0 % likely), the compressed one ends.",
  );
  expect(difference(tokens("a", "b", ""), tokens("a", "b", " "))).toMatch(
    /^The same for 2 tokens: .* part of a char.* a space/,
  );
});
