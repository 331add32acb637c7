// What tensors lost, as shades: equal steps of the logarithm between the least and the worst.

/** Shades of what was lost. */
export interface Shades {
  /** From 0, nothing lost, to 1, the worst. */
  of(loss: number): number;
  /** Losses whose shades make a legend, ascending; none where nothing was lost. */
  steps: number[];
}

const STEPS = 4;
/** The shade of the least loss: it is told apart from none. */
const FIRST = 0.2;

/** The shades of some losses. */
export function shadesOf(losses: number[]): Shades {
  const lost = losses.filter((loss) => loss > 0).map(Math.log10);
  if (lost.length === 0) return { of: () => 0, steps: [] };
  const [least, most] = [Math.min(...lost), Math.max(...lost)];
  const span = most - least;
  const of = (loss: number) => {
    if (loss <= 0) return 0;
    const part = span === 0 ? 1 : (Math.log10(loss) - least) / span;
    return FIRST + (1 - FIRST) * Math.min(1, Math.max(0, part));
  };
  const steps =
    span === 0 ? [10 ** most] : Array.from({ length: STEPS }, (_, i) => 10 ** (least + (span * i) / (STEPS - 1)));
  return { of, steps };
}
