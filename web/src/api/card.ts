// The quality card: a comparison as lines for people, the same on the command line and in a page.

import type { TextComparison } from "./by-text.js";
import { shown } from "./check.js";
import { StatepressError } from "./errors.js";
import { isRecord } from "./record.js";
import type { Compared, SecondComparison } from "./second.js";
import type { Comparison, Evaluation } from "./types/statepress.js";

/** One line: a value for the base, for the other model, or about the difference (in `compressed`). */
export interface CardLine {
  /** A word for programs: `perplexity`, `kl-mean`, ... */
  id: string;
  label: string;
  base: string;
  compressed: string;
}

/**
 * The lines of the quality card: the verdict, sizes, and then KL divergence, which sees damage that perplexity hides. Of a comparison by text
 * bits per byte come first: what cannot be compared says so.
 */
export function qualityCard(comparison: Compared | TextComparison): CardLine[] {
  const parts: Record<string, unknown> = isRecord(comparison) ? comparison : {};
  const whole = [parts["a"], parts["b"], parts["bytes"]].every(isRecord);
  if (!whole || !(isRecord(parts["kl"]) || "bitsPerByteChange" in parts)) {
    throw new StatepressError("bad-input", `the quality card is made of a comparison, not of ${shown(comparison)}`);
  }
  return "kl" in comparison ? byToken(comparison) : byText(comparison);
}

const line = (id: string, label: string, base: string, compressed: string) => ({ id, label, base, compressed });

function byToken(comparison: Compared): CardLine[] {
  const { a, b, kl, verdict, perplexityChangeStderr: change, second } = comparison;
  const { compression, degradation } = verdict;
  return [
    line(
      "verdict",
      `verdict (at least ${compression.limit}x, at most ${degradation.limit} % lost)`,
      "",
      verdict.result,
    ),
    ...sizes(comparison),
    line("kl-mean", "KL divergence, mean (nats)", "", scientific(kl.mean)),
    line("kl-median", "KL divergence, median", "", scientific(kl.median)),
    line("kl-p99", "KL divergence, 99th percentile", "", scientific(kl.p99)),
    line("kl-max", "KL divergence, largest", "", scientific(kl.max)),
    line("noise-floor", "KL divergence of rounding alone", "", scientific(comparison.noiseFloor)),
    line("top1", "top-1 agreement", "", `${fixed(100 * comparison.top1Agreement, 2)} %`),
    line("perplexity", "perplexity", perplexity(a), perplexity(b)),
    line("change", "perplexity change", "", `${signed(comparison.perplexityChange, 3)} % ± ${fixed(change, 3)}`),
    ...(second ? onSecond(second) : []),
    ...speeds(comparison),
  ];
}

function onSecond({
  tokens,
  kl,
  top1Agreement,
  perplexityChange,
  perplexityChangeStderr,
}: SecondComparison): CardLine[] {
  const change = `${signed(perplexityChange, 3)} % ± ${fixed(perplexityChangeStderr, 3)}`;
  return [
    line("second-kl-mean", "second text: KL divergence, mean (nats)", "", scientific(kl.mean)),
    line("second-kl-p99", "second text: KL divergence, 99th percentile", "", scientific(kl.p99)),
    line("second-top1", "second text: top-1 agreement", "", `${fixed(100 * top1Agreement, 2)} %`),
    line("second-change", "second text: perplexity change", "", change),
    line("second-tokens", "second text: tokens predicted", grouped(tokens), grouped(tokens)),
  ];
}

/** The verdict of a comparison by tokens in one line: `SUCCESS: 3.82x smaller (1.5x wanted), ...`. */
export function scorecard({ verdict: { result, compression, degradation } }: Comparison): string {
  const ratio = `${fixed(compression.value, 2)}x smaller (at least ${compression.limit}x wanted)`;
  const loss = `perplexity ${signed(degradation.value, 2)} % (at most ${signed(degradation.limit, 0)} % allowed)`;
  return `${result.toUpperCase()}: ${ratio}, ${loss}`;
}

function byText(comparison: TextComparison): CardLine[] {
  const { a, b, bitsPerByteChange } = comparison;
  const none = "not defined";
  return [
    ...sizes(comparison),
    line("bits-per-byte", "bits per byte of text", fixed(a.bitsPerByte, 4), fixed(b.bitsPerByte, 4)),
    line("bits-change", "bits per byte, change", "", `${signed(bitsPerByteChange, 2)} %`),
    line("kl-mean", "KL divergence", "", none),
    line("top1", "top-1 agreement", "", none),
    line("perplexity", "perplexity, each of its own tokens", perplexity(a), perplexity(b)),
    line("text-speed", "bytes of text per second", fixed(a.bytesPerSecond, 0), fixed(b.bytesPerSecond, 0)),
    ...speeds(comparison),
    line("text-bytes", "bytes of text", grouped(comparison.textBytes), grouped(comparison.textBytes)),
  ];
}

function sizes({ bytes }: Pick<Comparison, "bytes">): CardLine[] {
  return [
    line("bytes", "weights, bytes", grouped(bytes.a), grouped(bytes.b)),
    line("file-bytes", "file, bytes", grouped(bytes.fileA), grouped(bytes.fileB)),
    line("ratio", "ratio", "", `${fixed(bytes.ratio, 2)}x`),
  ];
}

function speeds({ a, b }: Pick<Comparison, "a" | "b">): CardLine[] {
  return [
    line("backend", "computed by", computes(a), computes(b)),
    line("speed", "tokens per second, evaluating", fixed(a.tokensPerSecond, 0), fixed(b.tokensPerSecond, 0)),
    line("tokens", "tokens predicted", grouped(a.tokens), grouped(b.tokens)),
  ];
}

function perplexity(it: Evaluation): string {
  return `${fixed(it.perplexity, 3)} ± ${fixed(it.perplexity * it.nllStderr, 3)}`;
}

/** What computed: `cpu`, or the GPU's name. */
export function computes({ backend, adapter }: { backend: string; adapter?: string }): string {
  return adapter ? `${backend}: ${adapter}` : backend;
}

/** 7619624 as "7,619,624". */
export function grouped(value: number): string {
  return new Intl.NumberFormat("en").format(value);
}

function fixed(value: number, digits: number): string {
  return value.toFixed(digits);
}

function signed(value: number, digits: number): string {
  return `${value > 0 ? "+" : ""}${value.toFixed(digits)}`;
}

function scientific(value: number): string {
  return value === 0 ? "0" : value.toExponential(2);
}
