// The command search: the best recipe under a target, carried out and measured.

import { resolve } from "node:path";
import { checkFormat } from "../api/formats.js";
import { type SearchTarget, StatepressError, search as searched } from "../api/node.js";
import { checkTarget } from "../api/target.js";
import { type Args, UsageError } from "./args.js";
import type { Run } from "./command.js";
import { save, writeJson } from "./compress.js";
import { destinations } from "./destinations.js";
import { calibrationOf, readTokens } from "./files.js";
import { running, withCheckpoint } from "./opened.js";
import { firstSteps } from "./recipes.js";
import * as show from "./show.js";

export async function search(run: Run, file: string): Promise<number> {
  const { args, output, signal } = run;
  const target = targetOf(args);
  const out = args.need("output");
  const tokens = await readTokens(run, "calibrate", "calibrate-ids");
  if (!tokens) throw new UsageError("a text for the model to read is needed: --calibrate TEXT or --calibrate-ids BIN");
  const place = (await destinations(run, [file], out, checkFormat(args.one("format")))).get(file);
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
    const calibration = calibrationOf(tokens, checkpoint);
    const asked = {
      calibration,
      fast: args.flag("fast"),
      coded: args.flag("coded"),
      first: firstSteps(run, true),
      beside: place.file,
    };
    const found = await searched(checkpoint, target, { ...running(run), ...asked });
    const { compressed, recipe, predicted, measured, reached, front, costs, findings } = found;
    try {
      const { report } = compressed;
      if (!report) throw new StatepressError("internal", "compressing left no report");
      const told = [...findings, ...report.findings];
      output.findings(told);
      if (!reached) output.note("the target is missed by what was measured; this is the closest that was tried");
      await save(run, compressed, place);
      if (recipeOut !== undefined) await writeJson(recipeOut, recipe, how);
      const result = {
        ...report,
        findings: told,
        predicted,
        measured,
        reached,
        front: front.map(({ ratio, kl, bytes }) => ({ ratio, kl, bytes })),
        tensorCosts: costs.tensors,
        ...(place.file !== undefined && { file: place.file }),
        ...(place.reportFile !== undefined && { reportFile: place.reportFile }),
      };
      output.result(result, () => show.found(found, report, place.file ?? "standard output"));
    } finally {
      compressed.dispose();
    }
  });
  return 0;
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
