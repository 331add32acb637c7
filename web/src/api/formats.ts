// The formats that checkpoints are written in, and what the name of a file promises.

import { shown } from "./check.js";
import { StatepressError } from "./errors.js";

/**
 * What `save` writes: our own layout; folders for transformers, of floats or of codes as a tool has them that it loads; ggml's types
 * for llama.cpp; a graph for onnxruntime.
 */
export const formats = ["safetensors", "plain", "bitsandbytes", "compressed-tensors", "gguf", "onnx"] as const;

/** Formats that are a folder of files. */
export const FOLDERS: readonly (typeof formats)[number][] = ["plain", "bitsandbytes", "compressed-tensors"];

/** Formats that can be opened again. */
export const OPENED: readonly (typeof formats)[number][] = ["safetensors", ...FOLDERS, "gguf"];

/** What `ggufType` may be: ggml's names. */
export const GGUF_TYPES = [
  ...(["F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K", "Q5_1", "Q5_0"] as const),
  ...(["Q4_K", "Q4_1", "Q4_0", "IQ4_NL"] as const),
] as const;

/** What `layout` may be: transformers' keys, or those of the checkpoint. */
export const LAYOUTS = ["hf", "original"] as const;

/** Whose keys weights have. */
export type Layout = (typeof LAYOUTS)[number];

/** The name of a format. */
export type Format = (typeof formats)[number];

/** A type of ggml. */
export type GgufType = (typeof GGUF_TYPES)[number];

/** What a file of each format is called by its ending, and in words; none where it is a folder. */
const NAMES: { [format in Format]?: { ending: string; promise: string } } = {
  safetensors: { ending: "safetensors", promise: "safetensors" },
  gguf: { ending: "gguf", promise: "GGUF" },
  onnx: { ending: "onnx", promise: "ONNX" },
};

// What people and programs expect in files of these endings.
const PROMISES: Record<string, string> = {
  safetensors: "safetensors",
  gguf: "GGUF",
  ggml: "GGML",
  pt: "PyTorch",
  pth: "PyTorch",
  ckpt: "PyTorch",
  bin: "PyTorch",
  pt2: "a PyTorch program",
  pkl: "a pickle",
  pickle: "a pickle",
  onnx: "ONNX",
  npy: "NumPy",
  npz: "NumPy",
  h5: "HDF5",
  hdf5: "HDF5",
  keras: "Keras",
  msgpack: "MessagePack",
  tflite: "TensorFlow Lite",
  pb: "TensorFlow",
  zip: "an archive",
  tar: "an archive",
  gz: "an archive",
  json: "JSON",
};

/** The format that was asked for, or the usual one. */
export function checkFormat(asked: string | undefined): Format {
  const format = asked ?? "safetensors";
  const found = formats.find((it) => it === format);
  if (found) return found;
  const message = `format is ${shown(format)}; allowed: ${formats.join(", ")}`;
  throw new StatepressError("bad-option", message, { option: "format", allowed: [...formats] });
}

/** Refuses a name by which everybody would take the file for something that it is not. */
export function checkName(path: string, format: Format): void {
  const ending = /\.([a-z0-9]+)$/i.exec(path)?.[1] ?? "";
  const promised = Object.hasOwn(PROMISES, ending.toLowerCase()) ? PROMISES[ending.toLowerCase()] : undefined;
  const own = NAMES[format];
  if (promised === undefined || promised === own?.promise) return;
  const stem = path.slice(0, -ending.length - 1);
  const better = own ? `${stem}.${own.ending}` : stem;
  const holds = own ? `would hold ${format}` : `would be a folder of ${format} files`;
  const message = `${path} is named as ${promised} is, but ${holds}: name it ${better} (formats that can be written: ${formats.join(", ")})`;
  throw new StatepressError("bad-option", message, { option: "output", path, allowed: [...formats] });
}

/** Whether a format is a folder of files. */
export function isFolder(format: Format): boolean {
  return FOLDERS.includes(format);
}

/** What a file of the format is called, without its folder. */
export function fileName(stem: string, format: Format): string {
  const own = NAMES[format];
  return own ? `${stem}.${own.ending}` : stem;
}
