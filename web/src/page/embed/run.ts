// One comparison from the first byte to the last number: load, compress, continue the prompt with both, measure.
//
// All that is opened here is closed here, however it ends. The work itself happens in the package's worker.

import type { BackendInfo, Comparison, CompressReport, Inspection, Progress, Token } from "statepress";
import type { Settings } from "./attributes.js";
import { fetchCheckpoint, fetchText } from "./files.js";

/** How work is stopped and followed. */
export interface Watched {
  signal: AbortSignal;
  onProgress(progress: Progress): void;
}

/** One of the two models. */
export type Side = "original" | "compressed";

/** Whoever shows what comes out, as it does. */
export interface Audience extends Watched {
  opened(inspection: Inspection): void;
  compressed(report: CompressReport, file: Blob): void;
  continues(side: Side, token: Token): void;
  /** Both texts are complete. */
  continued(original: Token[], compressed: Token[]): void;
  measured(comparison: Comparison): void;
}

/** What `statepress-done` carries; there is no comparison without a text to measure on. */
export interface Outcome {
  comparison: Comparison | undefined;
  report: CompressReport;
  /** What computed the original, and what the compressed one. */
  backends: [BackendInfo, BackendInfo];
}

/** Runs a comparison. */
export async function run(settings: Settings, audience: Audience): Promise<Outcome> {
  const { signal, onProgress } = audience;
  const held: { dispose(): void }[] = [];
  const keep = <T extends { dispose(): void }>(it: T): T => {
    held.push(it);
    return it;
  };
  try {
    // The package is part of what is loaded only when it is wanted.
    const { compare, open } = await import("statepress");
    const files = await fetchCheckpoint(settings.src, audience);
    const text = settings.text && (await fetchText(settings.text, audience));

    const original = keep(await open(files, { signal }));
    audience.opened(original.inspection);
    const compressed = keep(await original.compress(settings.recipe, { signal, onProgress }));
    const report = compressed.report as CompressReport;
    audience.compressed(report, await compressed.save("blob"));

    const options = { backend: settings.backend, signal, onProgress };
    const models = {
      original: keep(await original.load(options)),
      compressed: keep(await compressed.load(options)),
    };
    const continued = async (side: Side) => {
      const tokens: Token[] = [];
      onProgress({ stage: "generate", done: 0, total: settings.tokens, unit: "tokens", item: side });
      // Temperature 0 takes the likeliest token each time: what differs is the model, not the dice.
      const asked = { maxTokens: settings.tokens, temperature: 0, signal };
      for await (const token of models[side].generate(settings.prompt, asked)) {
        tokens.push(token);
        audience.continues(side, token);
        onProgress({ stage: "generate", done: tokens.length, total: settings.tokens, unit: "tokens", item: side });
      }
      return tokens;
    };
    audience.continued(await continued("original"), await continued("compressed"));

    let comparison: Comparison | undefined;
    if (text !== undefined) {
      // How far ahead a model predicts is hardly ever in its file, and everything measured depends on it.
      const assumed = original.inspection.spec["prediction_offset"]?.origin === "assumed";
      const offset = assumed ? ("detect" as const) : undefined;
      comparison = await compare(models.original, models.compressed, { text, offset, signal, onProgress });
      audience.measured(comparison);
    }
    return { comparison, report, backends: [models.original.backend, models.compressed.backend] };
  } finally {
    for (const it of held) it.dispose();
  }
}
