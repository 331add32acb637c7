// The command search: the best recipe under a target, carried out and measured.

import { resolve } from "node:path";
import {
  type Checkpoint,
  type Recipe,
  type SearchOptions,
  type SearchTarget,
  StatepressError,
  search as searched,
} from "../api/node.js";
import { checkTarget } from "../api/target.js";
import { type Args, UsageError } from "./args.js";
import type { Run } from "./command.js";
import { formatOf, original, save, writeJson, written } from "./compress.js";
import { checkExportable, type Destination, destinations } from "./destinations.js";
import { calibrationOf, readTokens } from "./files.js";
import { peakBytes } from "./memory.js";
import { running, withCheckpoint } from "./opened.js";
import { firstSteps } from "./recipes.js";
import * as show from "./show.js";

export async function search(run: Run, file: string): Promise<number> {
  const { args, output, signal } = run;
  const target = targetOf(args);
  const out = args.need("output");
  const tokens = await readTokens(run, "calibrate", "calibrate-ids");
  if (!tokens) throw new UsageError("a text for the model to read is needed: --calibrate TEXT or --calibrate-ids BIN");
  const place = (await destinations(run, [file], out, formatOf(run))).get(file);
  if (!place) throw new StatepressError("internal", `${file} has no destination`);
  const recipeOut = args.text("recipe-out");
  const how = { force: args.flag("force"), inputs: place.inputs, signal };
  // Said before the work rather than after it.
  if (recipeOut !== undefined) {
    for (const [other, option] of [
      [place.file, "--output"],
      [place.reportFile, "--report"],
    ] as const) {
      if (other !== undefined && resolve(other) === resolve(recipeOut)) {
        throw new UsageError(`--recipe-out and ${option} name the same file, ${recipeOut}`);
      }
    }
    await checkTarget(recipeOut, how);
  }
  await withCheckpoint(run, file, async (checkpoint) => {
    output.findings(checkpoint.inspection.findings);
    await checkExportable(run, checkpoint, place.format);
    const asked = {
      target,
      calibration: calibrationOf(tokens, checkpoint),
      fast: args.flag("fast"),
      coded: args.flag("coded"),
      gradients: args.flag("gradients"),
      first: firstSteps(run, true),
      workers: args.number("workers"),
    };
    const recipe = await find(run, checkpoint, asked, place);
    if (recipeOut !== undefined) await writeJson(recipeOut, recipe, how);
  });
  return 0;
}

/** What is searched for, and how. */
interface Sought extends Pick<SearchOptions, "calibration" | "gradients" | "fast" | "coded" | "first" | "workers"> {
  target: SearchTarget;
}

/** Searches for the best recipe, writes what it makes of a checkpoint, and says what came of it. Answers with the recipe. */
export async function find(
  run: Run,
  checkpoint: Checkpoint,
  { target, ...asked }: Sought,
  place: Destination,
): Promise<Recipe> {
  const { output } = run;
  const found = await searched(checkpoint, target, { ...running(run), ...asked, beside: place.beside });
  const { compressed, recipe, reached, front, costs } = found;
  try {
    if (!compressed.report) throw new StatepressError("internal", "compressing left no report");
    const report = { ...compressed.report, findings: [...found.findings, ...compressed.report.findings] };
    output.findings(report.findings);
    if (!reached) output.note("the target is missed by what was measured; this is the closest that was tried");
    const exported = await save(run, compressed, report, place);
    const result = {
      ...report,
      ...written(place, exported),
      front: front.map(({ ratio, kl, bytes }) => ({ ratio, kl, bytes })),
      tensorCosts: costs.tensors,
      ...(place.file !== undefined && { file: place.file }),
      ...(place.reportFile !== undefined && { reportFile: place.reportFile }),
      checkpoint: original(checkpoint),
      peakBytes: peakBytes(),
    };
    output.result(result, () => show.found(found, report, place.file ?? "standard output"));
    return recipe;
  } finally {
    compressed.dispose();
  }
}

// Exactly one of the three options.
function targetOf(args: Args): SearchTarget {
  const [budget, maxLoss, maxKl] = [args.text("budget"), args.number("max-loss"), args.number("max-kl")];
  const given = [budget, maxLoss, maxKl].filter((it) => it !== undefined);
  if (given.length !== 1) throw new UsageError("exactly one of --budget, --max-loss and --max-kl is needed");
  // Elsewhere the option may be 0; here that would be no loss at all.
  if (maxLoss === 0) throw new UsageError("--max-loss takes a number above 0, not '0'");
  if (maxLoss !== undefined) return { maxLoss };
  if (maxKl !== undefined) return { maxKl };
  const text = budget ?? "";
  const ratio = text.endsWith("x");
  const size = text.trim() === "" ? Number.NaN : Number(ratio ? text.slice(0, -1) : text);
  if (!(Number.isFinite(size) && size > 1)) {
    throw new UsageError(`--budget takes a ratio above 1 (8x) or bytes, not '${text}'`);
  }
  // Nobody wants a thousandth of a model, or a model of a thousand bytes.
  return ratio || size <= 1000 ? { ratio: size } : { bytes: size };
}
