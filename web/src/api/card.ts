// The quality card: a comparison as lines for people, the same on the command line and in a page.

import type { Comparison } from "./types/statepress.js";

/** One line: a value for the base, for the compressed model, or about the difference (in `compressed`). */
export interface CardLine {
  /** A word for programs: `perplexity`, `kl-mean`, ... */
  id: string;
  label: string;
  base: string;
  compressed: string;
}

/** The lines of the quality card. KL divergence comes first: it sees damage that perplexity hides. */
export function qualityCard(comparison: Comparison): CardLine[] {
  const { a, b, bytes, kl, verdict } = comparison;
  const perplexity = (it: typeof a) => `${fixed(it.perplexity, 3)} ± ${fixed(it.perplexity * it.nllStderr, 3)}`;
  // The difference of the mean NLLs has a standard error of its own, over the same tokens: far below that of either.
  const change = 100 * (b.perplexity / a.perplexity) * comparison.nllDifferenceStderr;
  const line = (id: string, label: string, base: string, compressed: string) => ({ id, label, base, compressed });
  return [
    line("bytes", "weights, bytes", grouped(bytes.a), grouped(bytes.b)),
    line("file-bytes", "file, bytes", grouped(bytes.fileA), grouped(bytes.fileB)),
    line("ratio", "ratio", "", `${fixed(bytes.ratio, 2)}x`),
    line("kl-mean", "KL divergence, mean (nats)", "", scientific(kl.mean)),
    line("kl-median", "KL divergence, median", "", scientific(kl.median)),
    line("kl-p99", "KL divergence, 99th percentile", "", scientific(kl.p99)),
    line("kl-max", "KL divergence, largest", "", scientific(kl.max)),
    line("noise-floor", "KL divergence of rounding alone", "", scientific(comparison.noiseFloor)),
    line("top1", "top-1 agreement", "", `${fixed(100 * comparison.top1Agreement, 2)} %`),
    line("perplexity", "perplexity", perplexity(a), perplexity(b)),
    line("change", "perplexity change", "", `${signed(comparison.perplexityChange, 3)} % ± ${fixed(change, 3)}`),
    line("backend", "computed by", computes(a), computes(b)),
    line("speed", "tokens per second, evaluating", fixed(a.tokensPerSecond, 0), fixed(b.tokensPerSecond, 0)),
    line("tokens", "tokens predicted", grouped(a.tokens), grouped(b.tokens)),
    line("verdict", `verdict (ratio ${verdict.ratioTarget}x, loss ${verdict.lossTarget} %)`, "", verdict.result),
  ];
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
