// The command distill: a student is made of a teacher, trained, and written.

import { checkFormat } from "../api/formats.js";
import { distill as distilled, StatepressError } from "../api/node.js";
import { UsageError } from "./args.js";
import type { Run } from "./command.js";
import { save } from "./compress.js";
import { destinations } from "./destinations.js";
import { calibrationOf, readTokens } from "./files.js";
import { running, withCheckpoint } from "./opened.js";
import { pruning } from "./recipes.js";
import * as show from "./show.js";

export async function distill(run: Run, file: string): Promise<number> {
  const { args, output } = run;
  const out = args.need("output");
  const student = pruning(args, "student", true);
  if (student.length === 0) {
    throw new UsageError("what makes the student smaller is needed: --student inner=0.5, --student width=0.5, ...");
  }
  const text = await readTokens(run, "text", "ids");
  if (!text) throw new UsageError("a text to train on is needed: --text FILE or --ids BIN");
  const heldOut = await readTokens(run, "held-out", "held-out-ids");
  const place = (await destinations(run, [file], out, checkFormat(undefined))).get(file);
  if (!place) throw new StatepressError("internal", `${file} has no destination`);
  await withCheckpoint(run, file, async (teacher) => {
    output.findings(teacher.inspection.findings);
    const made = await distilled(teacher, {
      student,
      init: args.one("init"),
      text: calibrationOf(text, teacher),
      heldOut: heldOut && calibrationOf(heldOut, teacher),
      steps: args.number("steps"),
      minutes: args.number("minutes"),
      batch: args.number("batch"),
      window: args.number("window"),
      alpha: args.number("alpha"),
      temperature: args.number("temperature"),
      learningRate: args.number("learning-rate"),
      patience: args.number("patience"),
      seed: args.number("seed"),
      onPoint: (point) => output.note(show.look(point)),
      beside: place.beside,
      ...running(run),
    });
    try {
      const { report } = made;
      if (!report?.training) throw new StatepressError("internal", "training left no report");
      output.findings(report.findings);
      await save(run, made, report, place);
      const { training, ...written } = report;
      const { file: path, reportFile } = place;
      const paths = { ...(path !== undefined && { file: path }), ...(reportFile !== undefined && { reportFile }) };
      // The seconds are those of training: writing takes none.
      const result = { ...written, ...training, ...paths };
      output.result(result, () => show.trained(report, training, place.file ?? "standard output"));
    } finally {
      made.dispose();
    }
  });
  return 0;
}
