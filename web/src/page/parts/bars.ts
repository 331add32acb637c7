// Lengths of bars: from zero, or from a power of ten below the smallest on a logarithmic scale.

/** Where a bar lies on its track, as fractions of the track. */
export interface Span {
  from: number;
  length: number;
}

/** One span for each value; nothing for values that are not finite, and a sliver for the smallest that are not zero. */
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
  return values.map((value) => {
    if (!Number.isFinite(value) || value === 0) return size > 0 ? { from: -low / size, length: 0 } : NOTHING;
    const length = Math.max(Math.abs(value) / size, 0.004);
    return { from: value < 0 ? -low / size - length : -low / size, length };
  });
}

const NOTHING: Span = { from: 0, length: 0 };
