// Exports: a checkpoint as it is, written as the files that another tool loads, by the host whose module can.

import { fromVocab } from "../tokenizer/pair.js";
import type { Handle, Host, TokenizerFile } from "../worker/protocol.js";
import type { Checkpoint } from "./checkpoint.js";
import type { Environment, FolderFile } from "./environment.js";
import { asStatepressError, badOption, StatepressError } from "./errors.js";
import { type Format, GGUF_TYPES, isFolder, LAYOUTS } from "./formats.js";
import { isVocabName, TOKENIZER_CONFIG } from "./names.js";
import type { SaveOptions, SaveTarget } from "./options.js";
import { isRecord } from "./record.js";

/** Writes it to where `save` says. */
export async function exportTo(
  environment: Environment,
  checkpoint: Checkpoint,
  target: SaveTarget,
  options: SaveOptions & { format: Format },
): Promise<Blob | undefined> {
  const { format, signal, onProgress, onExport } = options;
  if (isFolder(format) && (target === "blob" || target instanceof WritableStream)) {
    const what = target === "blob" ? "a Blob" : "a stream";
    throw new StatepressError("bad-input", `${format} is a folder of files, and ${what} is one: give a folder`);
  }
  const host = environment.exporter();
  return withOpened(host, checkpoint, signal, async (handle) => {
    const request = { checkpoint: handle, options: asked(checkpoint, options) };
    const { report, config, data } = await host.call("export", request, { signal, onProgress });
    try {
      if (!isFolder(format)) {
        const saved = await environment.save(data, target, options);
        onExport?.(report);
        return saved;
      }
      // Without weights nobody takes a folder for a model: they come last.
      const texts = [
        ...(config === undefined ? [] : [{ name: "config.json", data: config }]),
        ...tokenizer(checkpoint.tokenizer.file),
      ];
      const files = [...texts, { name: "model.safetensors", data }];
      await environment.saveFolder(files, target, options);
      onExport?.({ ...report, files: files.map((it) => it.name) });
      return undefined;
    } finally {
      await host.call("discard", { data });
    }
  });
}

/** Refuses what could not be exported. */
export async function checkExport(
  environment: Environment,
  checkpoint: Checkpoint,
  options: SaveOptions & { format: Format },
): Promise<void> {
  const host = environment.exporter();
  await withOpened(host, checkpoint, options.signal, (handle) =>
    host.call("exportable", { checkpoint: handle, options: asked(checkpoint, options) }, { signal: options.signal }),
  );
}

async function withOpened<T>(
  host: Host,
  checkpoint: Checkpoint,
  signal: AbortSignal | undefined,
  use: (handle: Handle) => Promise<T>,
): Promise<T> {
  try {
    const { checkpoint: handle } = await host.call("open", checkpoint.opening, { signal });
    try {
      return await use(handle);
    } finally {
      await host.call("release", { handle }).catch(() => {});
    }
  } catch (thrown) {
    throw asStatepressError(thrown, signal);
  }
}

/** What the module is asked for. */
function asked(checkpoint: Checkpoint, { format, ggufType, layout }: SaveOptions & { format: Format }): object {
  if (ggufType !== undefined && !GGUF_TYPES.includes(ggufType)) {
    throw badOption("ggufType", JSON.stringify(ggufType), GGUF_TYPES.join(", "));
  }
  if (ggufType !== undefined && format !== "gguf") {
    throw badOption("ggufType", ggufType, `none, as ${format} has no types of ggml`);
  }
  if (layout !== undefined && !LAYOUTS.includes(layout)) {
    throw badOption("layout", JSON.stringify(layout), LAYOUTS.join(", "));
  }
  if (layout !== undefined && format !== "plain") {
    throw badOption("layout", layout, `none, as ${format} has keys of its own`);
  }
  if (isFolder(format)) {
    return { format, ...(layout && { layout }), ...(checkpoint.config !== undefined && { config: checkpoint.config }) };
  }
  if (format !== "gguf") return { format };
  const name = checkpoint.weightsName.replace(/\.\w+$/, "");
  return { format, name, ...(ggufType && { ggufType }), ...vocabulary(checkpoint.tokenizer.file) };
}

/** The tokenizer's files, under the names by which they are found. */
function tokenizer(file: TokenizerFile | undefined): FolderFile[] {
  // A SentencePiece model is no text, and was not read.
  if (!file || file.json === "") return [];
  const texts: [string, string | undefined][] = [
    [isVocabName(file.name) ? file.name : "tokenizer.json", file.json],
    ["merges.txt", file.merges],
    [TOKENIZER_CONFIG, file.config],
  ];
  return texts.flatMap(([name, data]) => (data === undefined || data === "" ? [] : [{ name, data }]));
}

/** The text of a `tokenizer.json`: of a pair of files the one that transformers makes of them. */
function vocabulary(file: TokenizerFile | undefined): { tokenizer?: string } {
  if (!file || file.json === "") return {};
  if (!isVocabName(file.name)) return { tokenizer: file.json };
  try {
    const vocab: unknown = JSON.parse(file.json);
    return isRecord(vocab) ? { tokenizer: JSON.stringify(fromVocab(vocab, file)) } : {};
  } catch {
    // Then the file has no vocabulary, which it says.
    return {};
  }
}
