// One number of a state over many tokens, h_t = a h_{t-1} + 1, with the exact factor and with a rounded one.

/** Codes to round with, coarsest first: integers with one scale for all values, or half precision. */
export const CODES = ["INT4", "INT5", "INT6", "INT7", "INT8", "FP16"] as const;

/** One of them. */
export type Code = (typeof CODES)[number];

/** What is rounded: the logarithm that the file stores, or the rate itself. */
export type Rounded = "A_log" | "A";

/** Both runs, and how far apart they are. */
export interface Experiment {
  /** The factor, exact and rounded. */
  factor: { exact: number; rounded: number };
  /** The state after each token. */
  states: { exact: number[]; rounded: number[] };
  /** Relative error of the factor, which is that of one step. */
  oneStep: number;
  /** Relative error of the last state. */
  atEnd: number;
}

/** Steps until half of a state is left. */
export function halfLife(aLog: number, dt: number): number {
  return Math.LN2 / (dt * Math.exp(aLog));
}

/** The values as a code gives them back. */
export function coded(values: number[], code: Code): number[] {
  if (code === "FP16") return values.map(half);
  const largest = 2 ** (Number(code.slice(3)) - 1) - 1;
  const scale = Math.max(...values.map(Math.abs)) / largest;
  return scale === 0 ? values : values.map((value) => halfEven(value / scale) * scale);
}

// Ties go to the even neighbour, as in the package's own codes.
function halfEven(x: number): number {
  const up = Math.round(x);
  return up - x === 0.5 && up % 2 !== 0 ? up - 1 : up;
}

// 11 significant bits, fewer below 2^-14. What is beyond 65504 does not occur here.
function half(x: number): number {
  if (x === 0) return 0;
  const step = 2 ** (Math.max(Math.floor(Math.log2(Math.abs(x))), -14) - 10);
  return halfEven(x / step) * step;
}

/** The state after each of some tokens, with the same input, 1, at every token. */
export function run(factor: number, tokens: number): number[] {
  const states: number[] = [];
  let state = 0;
  for (let t = 0; t < tokens; t++) {
    state = factor * state + 1;
    states.push(state);
  }
  return states;
}

/** Rounds the rates of a layer, and follows the state that fades slowest: it is hit hardest. */
export function experiment(aLogs: number[], what: Rounded, code: Code, dt: number, tokens: number): Experiment {
  const slowest = aLogs.indexOf(Math.min(...aLogs));
  const rates = aLogs.map(Math.exp);
  const roundedRates = what === "A" ? coded(rates, code) : coded(aLogs, code).map(Math.exp);
  const factorOf = (rate: number[]) => Math.exp(-dt * (rate[slowest] ?? 0));
  const factor = { exact: factorOf(rates), rounded: factorOf(roundedRates) };
  const states = { exact: run(factor.exact, tokens), rounded: run(factor.rounded, tokens) };
  const last = (of: number[]) => of.at(-1) ?? 0;
  return {
    factor,
    states,
    oneStep: Math.abs(factor.rounded / factor.exact - 1),
    atEnd: Math.abs(last(states.rounded) / last(states.exact) - 1),
  };
}
