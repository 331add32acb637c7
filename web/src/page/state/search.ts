// What a search for the best recipe has found, as it is drawn.

import type { Cost, SearchCosts, SearchPoint } from "statepress";
import type { Search } from "./state.js";

/** Points that can be told apart on a chart, and be gone through with the keys. */
const POINTS = 24;

/**
 * What was found, and a few others of the front, the smallest and the closest among them, about as far from each other as
 * can be; the smallest first.
 */
export function spread({ front, predicted }: Pick<Search, "front" | "predicted">): SearchPoint[] {
  const [smallest, closest] = [front[0], front.at(-1)];
  if (!smallest || !closest) return [];
  const step = Math.log(closest.bytes / smallest.bytes) / (POINTS - 1);
  const taken = [smallest];
  for (const point of front) {
    const from = taken.at(-1) ?? smallest;
    if (point === closest ? point !== from : Math.log(point.bytes / from.bytes) >= step) taken.push(point);
  }
  // A size that is kept to the byte may lie beside the front, where less room is left over.
  const others = taken.filter(({ bytes }) => bytes !== predicted.bytes);
  return [...others, predicted].sort((a, b) => a.bytes - b.bytes);
}

/** Which point has a size, where one has: nothing else was found by the search. */
export function pointOf(points: SearchPoint[], bytes: number | undefined): number | undefined {
  const at = points.findIndex((point) => point.bytes === bytes);
  return at < 0 ? undefined : at;
}

/** Tensors by what they cost alone, the costliest first: each at the coarsest precision that was measured. */
export function costliest({ tensors }: SearchCosts): { tensor: string; cost: Cost }[] {
  return tensors
    .flatMap(({ tensor, choices }) => {
      const cost = choices.find(({ measured }) => measured);
      return cost ? [{ tensor, cost }] : [];
    })
    .sort((a, b) => b.cost.kl - a.cost.kl);
}
