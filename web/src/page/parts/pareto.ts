// The Pareto front: points that no other point beats in one direction without losing in the other.

/** Which end of an axis is the better one. */
export type Better = "high" | "low";

/** A point with two qualities. */
export interface Point {
  x: number;
  y: number;
}

/** The points that none dominates, ordered by x; points with a NaN are left out, and of equal ones the first stays. */
export function paretoFront<P extends Point>(points: P[], better: { x: Better; y: Better }): P[] {
  const gain = (value: number, end: Better) => (end === "high" ? value : -value);
  const ordered = points
    .filter(({ x, y }) => !Number.isNaN(x) && !Number.isNaN(y))
    .map((point) => ({ point, x: gain(point.x, better.x), y: gain(point.y, better.y) }))
    .sort((a, b) => compare(b.x, a.x) || compare(b.y, a.y));
  const front: P[] = [];
  let best: number | undefined;
  // Best x first: a later point stays only when its y is better than all before it.
  for (const { point, y } of ordered) {
    if (best !== undefined && y <= best) continue;
    best = y;
    front.push(point);
  }
  return front.sort((a, b) => compare(a.x, b.x));
}

/** Like subtraction, but right for infinities. */
function compare(a: number, b: number): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
