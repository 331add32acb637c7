// What is worth drawing of a code: the largest error, and the levels that can be told apart.

/** The value that a code moves furthest. */
export interface LargestError {
  index: number;
  value: number;
  decoded: number;
  error: number;
}

/** The largest error; undefined when nothing is moved. */
export function largestError(values: number[], decoded: number[]): LargestError | undefined {
  let worst: LargestError | undefined;
  values.forEach((value, index) => {
    const other = decoded[index];
    if (other === undefined) return;
    const error = Math.abs(value - other);
    if (error > (worst?.error ?? 0)) worst = { index, value, decoded: other, error };
  });
  return worst;
}

/** All levels when they are at least 3 pixels apart on average, else those that something was moved to. */
export function visibleLevels(levels: number[], decoded: number[], pixels: number): number[] {
  const distinct = [...new Set(levels)].filter(Number.isFinite);
  if (distinct.length * 3 <= pixels) return distinct;
  const used = new Set(decoded.map(Math.fround));
  return distinct.filter((level) => used.has(Math.fround(level)));
}
