// Axes of the charts: a value to a position, and ticks with their texts. A logarithmic axis shows zero behind a break.

import { scaleLinear, scaleLog } from "d3-scale";
import { powerOfTen } from "./format.js";

/** A tick: where it stands in pixels and what it says. */
export interface Tick {
  at: number;
  text: string;
}

/** One axis of a chart. */
export interface Axis {
  /** Position of a value in pixels; NaN when the value has none. */
  at(value: number): number;
  ticks: Tick[];
  /** Where the axis is broken between zero and its smallest power, in pixels. */
  breakAt?: number;
}

/** What an axis is made for. */
export interface AxisOptions {
  values: number[];
  /** Pixels of the smallest and the largest value. */
  range: [number, number];
  /** About how many ticks. */
  ticks: number;
  /** The axis begins at zero (linear axes). */
  zero?: boolean;
  /** Ends are rounded outwards to ticks (linear axes). */
  nice?: boolean;
}

/** Pixels that a logarithmic axis gives to zero. */
const ZERO_GAP = 30;

/** A linear axis over the finite values. */
export function linearAxis({ values, range, ticks, zero = false, nice = true }: AxisOptions): Axis {
  let [low, high] = extent(zero ? [0, ...values] : values) ?? [0, 1];
  if (low === high) {
    // A single value stands in the middle of some room.
    const room = low === 0 ? 1 : Math.abs(low) * 0.1;
    if (zero && low >= 0) high += room;
    else [low, high] = [low - room, high + room];
  }
  const scale = scaleLinear([low, high], range);
  if (nice) scale.nice(ticks);
  const at = scale.ticks(ticks);
  const texts = tickTexts(at);
  return {
    at: (value) => (Number.isFinite(value) ? scale(value) : Number.NaN),
    ticks: at.map((value, i) => ({ at: scale(value), text: texts[i] ?? "" })),
  };
}

/** A logarithmic axis over the positive values; zero (and less, which cannot be shown) stands apart before a break. */
export function logAxis({ values, range, ticks }: AxisOptions): Axis {
  const positive = values.filter((value) => Number.isFinite(value) && value > 0);
  const hasZero = values.some((value) => value <= 0 && Number.isFinite(value));
  const [from, to] = range;
  const zeroAt = from;
  const gap = hasZero ? Math.sign(to - from) * Math.min(ZERO_GAP, Math.abs(to - from) / 3) : 0;
  const [low, high] = padded(extent(positive) ?? [1, 10]);
  const scale = scaleLog([low, high], [from + gap, to]);
  const at = positive.length === 0 && hasZero ? [] : logTicks(low, high, ticks);
  const texts = tickTexts(at);
  const marks = at.map((value, i) => ({ at: scale(value), text: texts[i] ?? "" }));
  if (hasZero) marks.unshift({ at: zeroAt, text: "0" });
  const axis: Axis = {
    at: (value) => (Number.isFinite(value) ? (value > 0 ? scale(value) : zeroAt) : Number.NaN),
    ticks: marks,
  };
  if (hasZero) axis.breakAt = from + gap / 2;
  return axis;
}

/** Smallest and largest of the finite values. */
export function extent(values: number[]): [number, number] | undefined {
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  for (const value of values) {
    if (!Number.isFinite(value)) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return low <= high ? [low, high] : undefined;
}

/** A little room at both ends of a logarithmic domain, so that no point sits on the frame. */
function padded([low, high]: [number, number]): [number, number] {
  const room = low === high ? 2 : (high / low) ** 0.06;
  return [low / room, high * room];
}

/** Powers of ten inside the domain; with 2 and 5 between them when there is room; plain steps inside one decade. */
export function logTicks(low: number, high: number, atMost: number): number[] {
  const first = Math.ceil(Math.log10(low) - 1e-9);
  const last = Math.floor(Math.log10(high) + 1e-9);
  const step = Math.max(1, Math.ceil((last - first + 1) / atMost));
  const powers: number[] = [];
  for (let power = first; power <= last; power += step) powers.push(Number(`1e${power}`));
  if (powers.length >= 3) return powers;
  for (const parts of [
    [1, 3],
    [1, 2, 5],
  ]) {
    const finer: number[] = [];
    for (let power = first - 1; power <= last; power += 1) {
      for (const part of parts) {
        const value = Number(`${part}e${power}`);
        if (value >= low && value <= high) finer.push(value);
      }
    }
    if (finer.length >= 3 && finer.length <= atMost) return finer;
  }
  const plain = scaleLinear([low, high], [0, 1]).ticks(Math.min(4, atMost));
  return plain.filter((value) => value > 0);
}

/** Texts for the ticks of one axis: the same number of decimals on all, prefixes for large and powers for extreme. */
export function tickTexts(values: number[]): string[] {
  const sizes = values.map(Math.abs).filter((size) => size > 0);
  if (sizes.length === 0) return values.map(() => "0");
  const largest = Math.max(...sizes);
  const smallest = Math.min(...sizes);
  if (largest >= 1e6 * smallest || smallest < 1e-4 || largest >= 1e12) return values.map(powerText);
  if (largest >= 1e4) return values.map((value) => minus(prefixedText(value)));
  const decimals = Math.max(...values.map(decimalsOf));
  // Decades have each their own decimals: 0.01, 0.1, 1.
  const own = largest >= 50 * smallest && smallest < 1 && values.length > 1 && isGeometric(sizes);
  return values.map((value) => minus(value.toFixed(own ? decimalsOf(value) : decimals)));
}

function isGeometric(sizes: number[]): boolean {
  return sizes.every((size) => /^[1235]e/.test(size.toExponential(6).replace(/\.0+e/, "e")));
}

function decimalsOf(value: number): number {
  const [mantissa = "", exponent = "0"] = Number(value.toPrecision(9)).toExponential().split("e");
  return Math.max(0, (mantissa.split(".")[1]?.length ?? 0) - Number(exponent));
}

function prefixedText(value: number): string {
  if (value === 0) return "0";
  const power = Math.min(3, Math.max(0, Math.floor(Math.log10(Math.abs(value)) / 3 + 1e-9)));
  const scaled = Number((value / 1000 ** power).toPrecision(6));
  return power === 0 ? `${scaled}` : `${scaled} ${["", "k", "M", "G"][power]}`;
}

function powerText(value: number): string {
  if (value === 0) return "0";
  const [mantissa = "1", exponent = "0"] = Number(value.toPrecision(3)).toExponential().split("e");
  const power = Number(exponent);
  if (power >= -1 && power <= 3) return minus(`${Number(value.toPrecision(3))}`);
  if (mantissa === "1") return powerOfTen(power);
  return minus(`${mantissa}×${powerOfTen(power)}`);
}

function minus(text: string): string {
  return text.replace(/^-/, "−");
}

/** About how many pixels a small text is wide: enough to reserve room before it is drawn. */
export function textWidth(text: string, fontSize = 11): number {
  return Math.ceil(text.length * fontSize * 0.58);
}

/** Pixels that the widest tick text needs. */
export function ticksWidth(ticks: Tick[]): number {
  return Math.max(0, ...ticks.map(({ text }) => textWidth(text)));
}
