// Lengths of bars: from zero, or from a power of ten below the smallest on a logarithmic scale.

/** Where a bar lies on its track, as fractions of the track. */
export interface Span {
  from: number;
  length: number;
}

/** One span for each value; nothing for values that are not finite, a sliver for the smallest that are not zero. */
export function barSpans(values: number[], logarithmic: boolean): Span[] {
  const finite = values.filter(Number.isFinite);
  if (logarithmic) {
    const positive = finite.filter((value) => value > 0).map(Math.log10);
    const low = Math.floor(Math.min(...positive) - 0.1);
    const high = Math.max(...positive);
    return values.map((value) =>
      Number.isFinite(value) && value > 0 ? { from: 0, length: (Math.log10(value) - low) / (high - low) } : NOTHING,
    );
  }
  const low = Math.min(0, ...finite);
  const high = Math.max(0, ...finite);
  const size = high - low;
  if (size === 0) return values.map(() => NOTHING);
  const zero = Math.abs(low) / size;
  return values.map((value) => {
    if (!Number.isFinite(value) || value === 0) return { from: zero, length: 0 };
    const length = Math.max(Math.abs(value) / size, SLIVER);
    // A sliver at the end of the track stays on it.
    const from = value < 0 ? zero - length : zero;
    return { from: Math.min(1 - length, Math.max(0, from)), length };
  });
}

/** The least that can be seen. */
const SLIVER = 0.004;

const NOTHING: Span = { from: 0, length: 0 };
