// The commands that say what a checkpoint is and what could be done with it: inspect, advise, plan, recipes. They read headers,
// unless they are to look at a tensor or to measure.

import { UsageError } from "./args.js";
import type { Run } from "./command.js";
import { builtin, inputOf, ofRecipe, readRecipe, readTokens } from "./files.js";
import { each, protocol, running, withCheckpoint } from "./opened.js";
import { changed, firstSteps } from "./recipes.js";
import * as show from "./show.js";
import { tensor } from "./tensor.js";

export function inspect(run: Run, files: string[]): Promise<number> {
  const { args, output, signal } = run;
  const name = args.text("tensor");
  const options = { bins: args.number("bins"), precisions: args.some("precision"), signal };
  for (const option of ["bins", "precision"] as const) {
    if (name === undefined && args.text(option) !== undefined) throw new UsageError(`--${option} needs --tensor`);
  }
  return each(run, files, (file) =>
    withCheckpoint(run, file, async (checkpoint) => {
      const { inspection } = checkpoint;
      output.findings(inspection.findings);
      if (name === undefined) {
        output.result(inspection, () => show.inspection(inspection));
        return;
      }
      const view = await checkpoint.tensor(name, options);
      output.findings([...view.findings, ...view.coded.flatMap(({ findings }) => findings)]);
      output.result(view, () => tensor(view));
    }),
  );
}

export async function advise(run: Run, file: string): Promise<number> {
  const { args, output } = run;
  const options = {
    target: args.one("target"),
    maxLoss: args.number("max-loss"),
    maxSize: args.number("max-size"),
    backend: args.one("backend"),
    ...running(run),
  };
  const tokens = await readTokens(run, "measure", "measure-ids");
  for (const option of ["ids-type", "window", "limit", "offset", "backend"] as const) {
    if (!tokens && args.text(option) !== undefined)
      throw new UsageError(`--${option} needs --measure or --measure-ids`);
  }
  await withCheckpoint(run, file, async (checkpoint) => {
    const measure = tokens && { ...protocol(args), ...inputOf(tokens, checkpoint) };
    const advice = await checkpoint.advise({ ...options, measure });
    output.findings([...checkpoint.inspection.findings, ...advice.findings]);
    output.result(advice, () => show.advice(advice));
  });
  return 0;
}

export async function plan(run: Run, files: string[]): Promise<number> {
  const asked = run.args.need("recipe");
  const named = await readRecipe(asked, run.signal);
  const recipe = await changed(run, named, firstSteps(run, false));
  return each(run, files, (file) =>
    withCheckpoint(run, file, async (checkpoint) => {
      const planned = await ofRecipe(asked, checkpoint.plan(recipe));
      run.output.findings([...checkpoint.inspection.findings, ...planned.findings]);
      run.output.result(planned, () => show.plan(planned));
    }),
  );
}

export async function listRecipes(run: Run): Promise<number> {
  const all = await builtin();
  run.output.result({ recipes: all }, () => show.recipes(all));
  return 0;
}
