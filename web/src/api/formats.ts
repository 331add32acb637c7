// The formats that checkpoints are written in, and what the name of a file promises.

import { shown } from "./check.js";
import { StatepressError } from "./errors.js";

/** What `save` writes. */
export const formats = ["safetensors"] as const;

/** The name of a format. */
export type Format = (typeof formats)[number];

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
  if (promised === undefined || promised === format) return;
  const better = `${path.slice(0, -ending.length)}${format}`;
  const message = `${path} is named as ${promised} is, but would hold ${format}: name it ${better} (formats that can be written: ${formats.join(", ")})`;
  throw new StatepressError("bad-option", message, { option: "output", path, allowed: [...formats] });
}
