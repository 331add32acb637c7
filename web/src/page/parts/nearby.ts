// Neighbours on a plane: which box an arrow key moves to, and which sample a pointer is nearest to.

/** A box in pixels. */
export interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}

export type Direction = "left" | "right" | "up" | "down";

/** The direction of an arrow key. */
export function directionOf(key: string): Direction | undefined {
  const match = /^Arrow(Left|Right|Up|Down)$/.exec(key);
  return match?.[1]?.toLowerCase() as Direction | undefined;
}

/** Index of the box to reach from `from`: the nearest of those that lie wholly that way, sideways as little as may be. */
export function neighbour(boxes: Box[], from: number, direction: Direction): number | undefined {
  const start = boxes[from];
  if (!start) return undefined;
  const horizontal = direction === "left" || direction === "right";
  const sign = direction === "right" || direction === "down" ? 1 : -1;
  let best: number | undefined;
  let least = Number.POSITIVE_INFINITY;
  boxes.forEach((box, i) => {
    if (i === from) return;
    const dx = box.x + box.width / 2 - start.x - start.width / 2;
    const dy = box.y + box.height / 2 - start.y - start.height / 2;
    const [forward, aside] = horizontal ? [dx * sign, Math.abs(dy)] : [dy * sign, Math.abs(dx)];
    const reach = forward - (horizontal ? box.width + start.width : box.height + start.height) / 2;
    // Rounded boxes may overlap by a pixel.
    if (forward <= 0.5 || reach < -1) return;
    const apart = horizontal
      ? gap(box.y, box.height, start.y, start.height)
      : gap(box.x, box.width, start.x, start.width);
    const cost = reach + 3 * apart + 0.3 * aside;
    if (cost < least) [best, least] = [i, cost];
  });
  return best;
}

/** Pixels between two spans; 0 where they overlap. */
function gap(a: number, aSize: number, b: number, bSize: number): number {
  return Math.max(0, a - (b + bSize), b - (a + aSize));
}

/** Index of the value nearest to `x` in ascending `values`; -1 when there is none. */
export function nearestIndex(values: number[], x: number): number {
  let low = 0;
  let high = values.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((values[middle] ?? 0) < x) low = middle + 1;
    else high = middle;
  }
  const before = values[low - 1];
  const here = values[low];
  if (here === undefined) return -1;
  return before !== undefined && x - before <= here - x ? low - 1 : low;
}
