// Labels beside points: each goes where it covers nothing, or is left out.

import type { Box } from "./nearby.js";

/** A point with a label to place. */
export interface Labelled {
  x: number;
  y: number;
  /** Pixels. */
  width: number;
}

/** Where a label stands: the anchor of its text, on the middle line. */
export interface Placed {
  x: number;
  y: number;
  anchor: "start" | "middle" | "end";
}

const HEIGHT = 14;
const RADIUS = 7;

/** A place for each label in order (earlier ones choose first), undefined where there is none. */
export function placeLabels(points: Labelled[], frame: Box): (Placed | undefined)[] {
  const taken: Box[] = points.map(({ x, y }) => ({
    x: x - RADIUS,
    y: y - RADIUS,
    width: 2 * RADIUS,
    height: 2 * RADIUS,
  }));
  return points.map((point, own) => {
    for (const place of places(point)) {
      const box = boxOf(place, point.width);
      if (!contains(frame, box)) continue;
      if (taken.some((other, i) => i !== own && overlap(box, other))) continue;
      taken.push(box);
      return place;
    }
    return undefined;
  });
}

function places({ x, y }: Labelled): Placed[] {
  return [
    { x: x + 14, y, anchor: "start" },
    { x: x - 14, y, anchor: "end" },
    { x, y: y - 18, anchor: "middle" },
    { x, y: y + 18, anchor: "middle" },
    { x: x + 8, y: y - 15, anchor: "start" },
    { x: x + 8, y: y + 15, anchor: "start" },
    { x: x - 8, y: y - 15, anchor: "end" },
    { x: x - 8, y: y + 15, anchor: "end" },
  ];
}

function boxOf({ x, y, anchor }: Placed, width: number): Box {
  const left = anchor === "start" ? x : anchor === "end" ? x - width : x - width / 2;
  return { x: left, y: y - HEIGHT / 2, width, height: HEIGHT };
}

function contains(outer: Box, inner: Box): boolean {
  return (
    inner.x >= outer.x &&
    inner.y >= outer.y &&
    inner.x + inner.width <= outer.x + outer.width &&
    inner.y + inner.height <= outer.y + outer.height
  );
}

function overlap(a: Box, b: Box): boolean {
  return a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;
}
