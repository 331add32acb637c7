// The commands that measure a model: evaluate, compare, bench.

import { resolve } from "node:path";
import { scorecard } from "../api/card.js";
import {
  type Checkpoint,
  type Comparison,
  compare,
  compareByText,
  type Model,
  StatepressError,
  type TextComparison,
  tokensDiffer,
} from "../api/node.js";
import { hasOffset } from "../api/offset.js";
import { refusePreset } from "../api/presets.js";
import { type Args, UsageError } from "./args.js";
import type { Run } from "./command.js";
import { ofRecipe, readRecipe, readTokens, type Tokens } from "./files.js";
import { about, load, protocol, running, withCheckpoint, workersOf } from "./opened.js";
import * as show from "./show.js";

/** Exit code of `compare --check` where the verdict is not success. */
const NO_SUCCESS = 3;

async function evaluated(run: Run): Promise<Tokens> {
  const tokens = await readTokens(run, "text", "ids");
  if (!tokens) throw new UsageError("either --text or --ids is needed");
  return tokens;
}

export async function evaluate(run: Run, file: string): Promise<number> {
  const { args, output } = run;
  const asked = { ...protocol(args), workers: workersOf(args), ...running(run) };
  const backend = args.one("backend");
  const tokens = await evaluated(run);
  await withCheckpoint(run, file, async (checkpoint) => {
    output.findings(checkpoint.inspection.findings);
    const model = await load(run, checkpoint, backend);
    const input = tokens(model.info.vocabSize);
    const evaluation = await model.evaluate("text" in input ? input.text : input.ids, asked);
    output.findings(evaluation.findings);
    output.result(evaluation, () => show.evaluation(evaluation, hasOffset(checkpoint.inspection)));
  });
  return 0;
}

export async function compareFiles(run: Run, a: string, b: string): Promise<number> {
  const { args, output } = run;
  const asked = {
    ratioTarget: args.number("ratio-target"),
    lossTarget: args.number("loss-target"),
    ...protocol(args),
    ...running(run),
  };
  const backend = args.one("backend");
  const backendB = args.one("backend-b") ?? backend;
  const tokens = await evaluated(run);
  const secondTokens = await readTokens(run, "second-text", "second-ids");
  refuseSame(args);
  const both = async (base: Checkpoint, other: Checkpoint) => {
    output.findings([...base.inspection.findings, ...other.inspection.findings]);
    const model = await about(a, load(run, base, backend));
    const input = tokens(model.info.vocabSize);
    const compressed = await about(b, load(run, other, backendB));
    // Ids are of one vocabulary: only a text can be put through two that differ.
    const why = "text" in input ? tokensDiffer(base, other) : undefined;
    const second = secondTokens?.(model.info.vocabSize);
    if (why !== undefined) {
      if (second) {
        const message = `--second-text is for two models of the same tokens, and ${why}`;
        throw new StatepressError("bad-option", message, { option: "second-text" });
      }
      output.note(`compared by text: ${why}`);
      // Each reads the text by a tokenizer of its own: whose is missing is said.
      await about(a, tokenizing(model));
      await about(b, tokenizing(compressed));
    }
    const comparison =
      "text" in input && why !== undefined
        ? await compareByText(model, compressed, { ...asked, ...input, why, workers: workersOf(args) })
        : await compare(model, compressed, { ...asked, ...input, second, workers: workersOf(args) });
    const ofSecond = "second" in comparison ? (comparison.second?.findings ?? []) : [];
    output.findings([...comparison.a.findings, ...comparison.b.findings, ...ofSecond]);
    const columns = show.columns(
      { file: a, weights: args.text("weights") ?? taken(base) },
      { file: b, weights: args.text("weights-b") ?? taken(other) },
    );
    output.result(comparison, () => show.card(comparison, ...columns));
    return args.flag("check") ? check(run, comparison) : 0;
  };
  const beside = { tokenizer: args.text("tokenizer-b") ?? args.text("tokenizer"), weights: args.text("weights-b") };
  return withCheckpoint(run, a, (base) => withCheckpoint(run, b, (other) => both(base, other), beside));
}

// The same text under another name is refused where it is compared.
function refuseSame(args: Args): void {
  for (const [option, other] of [
    ["text", "second-text"],
    ["ids", "second-ids"],
  ] as const) {
    const [first, second] = [args.text(option), args.text(other)];
    if (first !== undefined && second !== undefined && resolve(first) === resolve(second)) {
      throw new UsageError(`--${other} takes another file than --${option}, not ${second} again`);
    }
  }
}

async function tokenizing(model: Model): Promise<void> {
  model.encode("");
}

// Which weights were taken, of a file that holds several.
function taken({ inspection }: Checkpoint): string | undefined {
  return inspection.weights.length > 1 ? inspection.weights[0]?.path : undefined;
}

// One line, also where findings are not wanted: it is why the exit code is what it is.
function check({ output }: Run, comparison: Comparison | TextComparison): number {
  if (!("verdict" in comparison)) {
    output.say("check: no verdict: what was compared by text has none");
    return NO_SUCCESS;
  }
  if (comparison.verdict.result === "success") return 0;
  output.say(`check: ${scorecard(comparison)}`);
  return NO_SUCCESS;
}

export async function bench(run: Run, file: string): Promise<number> {
  const { args, output } = run;
  const repeats = args.number("repeats");
  const backend = args.one("backend");
  const asked = args.text("recipe") ?? "int8";
  const recipe = await readRecipe(asked, run.signal);
  refusePreset(recipe);
  await withCheckpoint(run, file, async (checkpoint) => {
    output.findings(checkpoint.inspection.findings);
    const model = await load(run, checkpoint, backend);
    const speed = await model.bench({ repeats, explain: args.flag("explain"), ...running(run) });
    const compressed = await ofRecipe(asked, checkpoint.compress(recipe, running(run)));
    const report = compressed.report;
    compressed.dispose();
    if (!report) throw new StatepressError("internal", "compressing left no report");
    const result = {
      ...speed,
      compressBytesPerSecond: report.bytes.before / report.seconds,
      recipe: report.recipe.name,
    };
    output.result(result, () => show.bench(result));
  });
  return 0;
}
