// Where two continuations part.

/** The place of the first token that is not the same. A side that has ended differs from one that goes on; one that is still being said does not. */
export function firstDifference(
  a: readonly { id: number }[],
  b: readonly { id: number }[],
  ended = true,
): number | undefined {
  const length = ended ? Math.max(a.length, b.length) : Math.min(a.length, b.length);
  for (let at = 0; at < length; at++) if (a[at]?.id !== b[at]?.id) return at;
  return undefined;
}
