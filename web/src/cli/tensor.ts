// One tensor looked at, as text: its numbers, how they are spread, and what became of them in each precision.

import { grouped } from "../api/card.js";
import type { CodedView, RoundingError, TensorView } from "../api/types/statepress.js";
import { table } from "./output.js";

/** Columns of a histogram; more bins are put together. */
const WIDTH = 64;

const HEIGHTS = "▁▂▃▄▅▆▇█";

export function tensor(it: TensorView): string {
  const { min, max, mean, std, absMax, zeros, nonFinite, kurtosis } = it.statistics;
  const facts = table([
    ["tensor", it.name],
    ["shape", `[${it.shape.join(", ")}] ${it.dtype}`],
    ["parameters", `${grouped(it.params)}, ${grouped(zeros)} zero, ${grouped(nonFinite)} not finite`],
    ["range", `${short(min)} to ${short(max)}, largest magnitude ${short(absMax)}`],
    ["mean", `${short(mean)} ± ${short(std)}`],
    ["kurtosis", `${kurtosis.toFixed(2)}, a normal distribution has 0`],
  ]);
  const spread = table([
    [it.dtype.toLowerCase(), bars(it.histogram.counts)],
    ...it.coded.map((coded) => [coded.precision, bars(coded.histogram)]),
    ["", `${short(it.histogram.from)} to ${short(it.histogram.to)}`],
  ]);
  return [facts, spread, ...(it.coded.length > 0 ? [precisions(it.coded)] : [])].join("\n\n");
}

/** Mean squared and largest error, and cosine; a tensor with numbers that became infinite has none. */
export function rounding({ mse, maxAbs, cosine }: RoundingError): string[] {
  const exponential = (value: number | null) => value?.toExponential(2) ?? "infinite";
  return [exponential(mse), exponential(maxAbs), cosine?.toFixed(6) ?? "none"];
}

function precisions(coded: CodedView[]): string {
  const head = ["precision", "stored", "bytes", "bits each", "mse", "largest error", "cosine", "clipped", "scale"];
  const rows = coded.map(({ precision, stored, bytes, bitsPerWeight, error, block }) => [
    precision,
    stored,
    grouped(bytes),
    bitsPerWeight.toFixed(2),
    ...rounding(error),
    grouped(error.clipped),
    // Of the block that holds the largest magnitude.
    block.scale === null ? "" : `${short(block.scale)}, ${block.levels.length} levels`,
  ]);
  return table([head, ...rows], [2, 3, 4, 5, 6, 7]);
}

// A bin that is not empty is seen, however few are in it.
function bars(counts: number[]): string {
  const columns = new Array<number>(Math.min(WIDTH, counts.length)).fill(0);
  for (const [i, count] of counts.entries()) {
    const column = Math.floor((i * columns.length) / counts.length);
    columns[column] = (columns[column] ?? 0) + count;
  }
  const most = Math.max(...columns);
  const height = (count: number) => HEIGHTS[Math.ceil((count / most) * HEIGHTS.length) - 1] ?? " ";
  return columns.map(height).join("");
}

function short(value: number): string {
  return `${Number(value.toPrecision(4))}`;
}
