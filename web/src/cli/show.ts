// Results as text for people.

import { resolve, sep } from "node:path";
import type { TextComparison } from "../api/by-text.js";
import { computes, grouped, qualityCard, scorecard } from "../api/card.js";
import type { Found } from "../api/search.js";
import type {
  Advice,
  Comparison,
  CompressReport,
  Evaluation,
  ExportReport,
  Inspection,
  Plan,
  Pruned,
  Recipe,
  Recommendation,
  Training,
  TrainingPoint,
} from "../api/types/statepress.js";
import type { BenchResult, Generation } from "../worker/protocol.js";
import type { AdapterInfo, Explained } from "../worker/wasm.js";
import { table } from "./output.js";
import { rounding } from "./tensor.js";

const shape = (dims: number[]) => `[${dims.join(", ")}]`;

/** A place of weights in words: only programs call the top of a file `bare`. */
const placeOf = (path: string) => (path === "bare" ? "the top level of the file (bare)" : path);

const candidate = ({ path, tensors, params }: Inspection["weights"][number]) =>
  `${placeOf(path)} (${grouped(tensors)} tensors, ${grouped(params)} numbers)`;

export function inspection(it: Inspection): string {
  const facts = table([
    ["format", `${it.format}, weights at ${placeOf(it.wrapper)}`],
    ...(it.weights.length > 1
      ? [["other weights in the file (--weights)", it.weights.slice(1).map(candidate).join(", ")]]
      : []),
    ["family", it.family],
    ["parameters", grouped(it.params)],
    ["weights", `${grouped(it.bytes)} bytes of ${grouped(it.fileBytes)}`],
    ...(it.files ? [["shards", it.files.map(({ name }) => name).join(", ")]] : []),
    ...(it.recipe ? [["recipe", it.recipe.name]] : []),
  ]);
  const fields = Object.entries(it.spec).map(([name, { value, origin, from }]) => [
    name,
    JSON.stringify(value) ?? "",
    origin,
    from,
  ]);
  const tensors = it.tensors.map((tensor) => [
    tensor.name,
    shape(tensor.shape),
    tensor.dtype,
    grouped(tensor.bytes),
    tensor.role ?? "",
    remarks(tensor),
  ]);
  return [
    facts,
    table([["field", "value", "origin", "from"], ...fields]),
    table([["tensor", "shape", "dtype", "bytes", "role", ""], ...tensors], [3]),
  ].join("\n\n");
}

function remarks({ tiedTo, buffer, segments, coded }: Inspection["tensors"][number]): string {
  if (tiedTo) return `same as ${tiedTo}`;
  if (buffer) return "buffer";
  const rows = segments ? [`rows: ${segments.map(({ label, rows }) => `${label} ${rows}`).join(", ")}`] : [];
  return [...(coded ? ["entropy-coded"] : []), ...rows].join("; ");
}

/** Advice: what is recommended and what not, what else there is, and the rules behind it. */
export function advice(it: Advice): string {
  const { measure } = it;
  const pieces = (title: string, list: Recommendation[]) =>
    list.flatMap((piece) => [`${title} ${piece.recipe}, ${figures(piece, measure)}`, `    ${piece.why}`, by(piece)]);
  const others = it.techniques.flatMap((technique) => [
    `also: ${technique.technique}`,
    `    ${technique.why}`,
    `    ${technique.command}`,
    by(technique),
  ]);
  const rules = [...it.recommended, ...it.avoid, ...it.techniques].flatMap((piece) => piece.rules);
  const once = [...new Map(rules.map((rule) => [rule.id, rule])).values()];
  return [
    ...pieces("recommended:", it.recommended),
    ...pieces("avoid:", it.avoid),
    ...others,
    ...(measure && isOpen(it) ? [`measure: ${measure.command} (about ${seconds(measure)})`] : []),
    "",
    "rules:",
    ...once.flatMap(({ id, title, source, url }) => [`  ${id}: ${title}`, `      ${source}${url ? `, ${url}` : ""}`]),
  ].join("\n");
}

// Whether anything of the advice is not this model's own.
const isOpen = ({ recommended, avoid }: Advice) =>
  [...recommended, ...avoid].some((it) => it.measuredOn !== "this file");

const by = ({ rules }: Pick<Recommendation, "rules">) => `    by ${rules.map(({ id }) => id).join(", ")}`;

const seconds = ({ seconds }: { seconds: number }) =>
  seconds < 90 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;

// What is known of a recipe; a loss that nobody has measured is unknown, and how to have it is said.
function figures(it: Recommendation, offer: Advice["measure"]): string {
  const { expectedRatio, expectedLoss, lossStderr, kl, tokensPerSecond, verdict, risk, basis, measuredOn } = it;
  const measured = offer && `, measure: about ${seconds(offer)}`;
  const sure = lossStderr === undefined ? "" : ` ± ${lossStderr.toFixed(2)}`;
  return [
    ...(expectedRatio === undefined ? [] : [`${expectedRatio.toFixed(2)}x`]),
    ...(expectedLoss === undefined
      ? [basis === "literature" ? "from literature" : `loss unknown${measured ?? ""}`]
      : [`loss ${signed(expectedLoss)} %${sure}, KL ${kl?.toExponential(1)}, measured on ${measuredOn}`]),
    ...(tokensPerSecond === undefined ? [] : [`${tokensPerSecond.toFixed(0)} tokens/s`]),
    ...(verdict ? [verdict.result.toUpperCase()] : []),
    `risk ${risk}`,
  ].join(", ");
}

export function plan(it: Plan): string {
  const measured = it.tensors.some((tensor) => tensor.error) ? ["mse", "largest error", "cosine"] : [];
  const tensors = it.tensors.map((tensor) => [
    tensor.name,
    tensor.rows?.map(({ rows, precision }) => `${rows} ${precision}`).join(", ") ?? tensor.precision,
    tensor.rule,
    grouped(tensor.bytesBefore),
    grouped(tensor.bytesAfter),
    ...(tensor.error ? rounding(tensor.error) : measured.map(() => "")),
    tensor.why ?? "",
  ]);
  const reasoned = it.tensors.some((tensor) => tensor.why !== undefined);
  const head = ["tensor", "precision", "rule", "bytes before", "bytes after", ...measured, reasoned ? "why" : ""];
  const numbers = [3, 4, ...measured.map((_, i) => 5 + i)];
  return `${table([head, ...tensors], numbers)}\n\n${table(totals(it))}`;
}

/** What a prune step left, in every place: `inner: 192 of 256 in 4 places`. */
function pruned({ step, paramsBefore, paramsAfter, places }: Pruned): string[] {
  const [before, after] = [places.map((place) => place.before), places.map((place) => place.after)];
  const range = (all: number[]) => [...new Set([Math.min(...all), Math.max(...all)])].map(grouped).join(" to ");
  const left =
    places.length === 0 ? "nothing to remove" : `${range(after)} of ${range(before)} left in each of ${places.length}`;
  return ["pruned", `${step.kind}: ${left}, ${grouped(paramsBefore)} -> ${grouped(paramsAfter)} parameters`];
}

function totals({ recipe, pruned: steps = [], bytes, matched, unmatched }: Plan): string[][] {
  return [
    ["recipe", recipe.name],
    ...steps.map(pruned),
    ["bytes", `${grouped(bytes.before)} -> ${grouped(bytes.after)}, ${bytes.ratio.toFixed(2)}x`],
    ...(bytes.memory === bytes.after ? [] : [["in memory", `${grouped(bytes.memory)} bytes: codes are packed there`]]),
    ["matched", `${grouped(matched.params)} parameters in ${matched.tensors} tensors, ${matched.percent.toFixed(1)} %`],
    [
      "unmatched",
      `${grouped(unmatched.params)} parameters in ${unmatched.tensors} tensors, ${unmatched.percent.toFixed(1)} %`,
    ],
  ];
}

export function compressed(
  it: CompressReport,
  file: string,
  reportFile: string | undefined,
  exported?: ExportReport | undefined,
): string {
  const { fileBytes } = exported ?? it;
  return table([
    ...totals(it),
    ["file", `${file}, ${grouped(fileBytes)} bytes${exported ? ` of ${exported.format}` : ""}`],
    ...(reportFile === undefined ? [] : [["report", reportFile]]),
    ["time", `${it.seconds.toFixed(2)} s, at most ${grouped(it.peakMemory)} bytes of tensors at once`],
  ]);
}

/** What a search found. */
export function found({ predicted, measured, costs }: Found, report: CompressReport, file: string): string {
  const loss = (kl: number, change: number) => `${kl.toFixed(4)} nats a token, perplexity ${signed(change)} %`;
  return table([
    ...totals(report),
    ["predicted loss", loss(predicted.kl, predicted.perplexityChange)],
    ["measured loss", `${loss(measured.kl, measured.perplexityChange)} on ${grouped(measured.tokens)} tokens`],
    [
      "costs measured",
      `${grouped(new Set(costs.tensors.map(({ tensor }) => tensor)).size)} tensors on ${grouped(costs.tokens)} tokens`,
    ],
    ["file", `${file}, ${grouped(report.fileBytes)} bytes`],
  ]);
}

/** One look at the held-out text while training. */
export function look({ step, seconds, loss, kl, perplexity }: TrainingPoint): string {
  const away = kl === undefined ? "" : `, KL ${kl.toFixed(4)}`;
  const trained = loss === undefined ? "" : `, loss ${loss.toFixed(4)}`;
  const held = `held-out perplexity ${perplexity.toFixed(2)}${away}`;
  return `step ${grouped(step)}: ${held}${trained} (${seconds.toFixed(0)} s)`;
}

/** What training made. */
export function trained(report: CompressReport, training: Training, file: string): string {
  const { best, validation, params, steps, tokens, seconds, stopped } = training;
  const first = validation[0]?.perplexity ?? Number.NaN;
  const speed = `${grouped(Math.round(tokens / Math.max(seconds, 1e-9)))} tokens per second`;
  return table([
    ...(report.pruned ?? []).map(pruned),
    ["parameters", grouped(params)],
    ["bytes", `${grouped(report.bytes.before)} -> ${grouped(report.bytes.after)}, ${report.bytes.ratio.toFixed(2)}x`],
    ["perplexity", `${first.toFixed(2)} -> ${best.perplexity.toFixed(2)} at step ${grouped(best.step)}, held-out text`],
    ["training", `${grouped(steps)} steps in ${seconds.toFixed(0)} s, ${speed}`],
    ["ended", ending(stopped)],
    ["file", `${file}, ${grouped(report.fileBytes)} bytes`],
  ]);
}

function ending(stopped: Training["stopped"]): string {
  if (typeof stopped !== "string") {
    return `diverged at step ${grouped(stopped.diverged.step)}: ${stopped.diverged.what} is no number`;
  }
  return { finished: "all steps were done", noBetter: "it became no better", asked: "it was told to" }[stopped];
}

const signed = (percent: number) => `${percent < 0 ? "" : "+"}${percent.toFixed(2)}`;

/** `ahead`: whether how far ahead the model predicts is a question. */
export function evaluation(it: Evaluation, ahead: boolean): string {
  return table([
    ["perplexity", `${it.perplexity.toFixed(4)} ± ${(it.perplexity * it.nllStderr).toFixed(4)}`],
    ["nll", `${it.nll.toFixed(6)} ± ${it.nllStderr.toFixed(6)} nats per token`],
    ["tokens", `${grouped(it.tokens)} predicted in ${it.windows} windows of ${it.window}; ${it.dropped} dropped`],
    ...(ahead ? [["offset", `${it.offset}`]] : []),
    [
      "speed",
      `${grouped(Math.round(it.tokensPerSecond))} tokens per second (${computes(it)}, ${it.seconds.toFixed(2)} s)`,
    ],
  ]);
}

/** The quality card, headed by its verdict: what was compared by text has none. */
export function card(comparison: Comparison | TextComparison, base: string, other: string): string {
  const lines = qualityCard(comparison).map((line) => [line.label, line.base, line.compressed]);
  const heading = "verdict" in comparison ? `${scorecard(comparison)}\n\n` : "";
  return `${heading}${table([["", base, other], ...lines], [1, 2])}`;
}

/** A file in the heading of a column, and which weights in it were asked for. */
interface Column {
  file: string;
  weights: string | undefined;
}

/** What two columns are called: files by as many parts of their paths as tell them apart, and weights by where they are. */
export function columns(a: Column, b: Column): [string, string] {
  const paths = [a, b].map(({ file }) => resolve(file).split(sep).reverse());
  const [first = [], second = []] = paths;
  const same = first.join(sep) === second.join(sep);
  const apart = first.findIndex((part, at) => part !== second[at]);
  const parts = same ? 1 : Math.max(1, apart + 1);
  const name = ({ weights }: Column, path: string[]) =>
    `${path.slice(0, parts).reverse().join(sep)}${weights === undefined ? "" : `: ${weights}`}`;
  const [left, right] = [name(a, first), name(b, second)];
  // The same weights of the same file: which is which is all that is left to say.
  return left === right ? [`${left} (a)`, `${right} (b)`] : [left, right];
}

export function generated(it: Generation & { text: string; ids: number[] }, shown: boolean): string {
  const { prefill, decode } = it.tokensPerSecond;
  const speed = `(${it.ids.length} tokens, ${it.stop}; ${prefill.toFixed(0)} tokens/s prefill, ${decode.toFixed(0)} decode)`;
  const text = it.text === "" ? it.ids.join(",") : it.text;
  return shown ? speed : `${text}\n${speed}`;
}

export function bench(it: BenchResult & { compressBytesPerSecond: number; recipe: string }): string {
  const speed = table([
    ["decode", `${it.decodeTokensPerSecond.toFixed(0)} tokens/s (${it.decodeTokens} tokens)`],
    ["prefill", `${it.prefillTokensPerSecond.toFixed(0)} tokens/s (${it.prefillTokens} tokens)`],
    ["compress", `${(it.compressBytesPerSecond / 1e6).toFixed(1)} MB/s (${it.recipe})`],
    ["backend", `${it.backend}, ${it.build} build; median of ${it.repeats}`],
    ...(it.adapter ? [["adapter", adapter(it.adapter)]] : []),
  ]);
  return it.explain ? `${speed}\n\n${explained(it.explain)}` : speed;
}

/** What a GPU is and offers. */
export function adapter({ name, api, features, software, maxBuffer }: AdapterInfo): string {
  const buffers = `buffers of ${Math.round(maxBuffer / 2 ** 20)} MiB`;
  return [name, `by ${api}`, ...features, buffers, ...(software ? ["software"] : [])].join(", ");
}

// What one decoded token costs on the GPU.
function explained(rows: Explained[]): string {
  const sum = (of: (row: Explained) => number) => rows.reduce((total, row) => total + of(row), 0);
  const total: Explained = {
    kernel: "a token",
    precisions: "",
    dispatches: sum((it) => it.dispatches),
    weights: sum((it) => it.weights),
    activations: sum((it) => it.activations),
  };
  const lines = [...rows, total].map((it) => [
    it.kernel,
    it.precisions,
    `${it.dispatches}`,
    grouped(it.weights),
    grouped(it.activations),
  ]);
  return table([["kernel", "matrices", "dispatches", "bytes of weights", "of activations"], ...lines], [2, 3, 4]);
}

export function recipes(all: Pick<Recipe, "name" | "description">[]): string {
  return table(all.map(({ name, description }) => [name, description ?? ""]));
}
