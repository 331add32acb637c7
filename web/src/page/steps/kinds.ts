// Precisions as colours, and tensor names as parts of a model.

import type { PrecisionShare, StoredAs } from "statepress";

/** A precision, what is kept as it is, or whatever else a file stores. */
export type Kind = StoredAs | "other";

const KINDS: Record<string, Kind> = {
  F32: "fp32",
  F16: "fp16",
  BF16: "bf16",
  QI8: "int8",
  I8: "int8",
  QI4: "int4",
  INT8: "int8",
  INT6: "int6",
  INT5: "int5",
  INT4: "int4",
  NF4: "nf4",
  INT3: "int3",
  LM3: "lm3",
  INT2: "int2",
  LM2: "lm2",
};

/** What the type of a stored tensor is called in a recipe; `nf4 (bitsandbytes)` is one of its kind. */
export function kindOf(dtype: string): Kind {
  return KINDS[dtype.toUpperCase().split(" ", 1)[0] ?? ""] ?? "other";
}

/** Its colour. */
export function colourOf(kind: Kind): string {
  return `var(--kind-${kind})`;
}

/** The part of the model that a tensor belongs to: `layers.0`, `embedding`. */
export function partOf(name: string): string {
  const layer = /^(?:.*?\.)?(layers|blocks|h)\.\d+/.exec(name);
  return layer?.[0] ?? name.split(".")[0] ?? name;
}

/** The colour of the precision that holds most parameters. */
export function largestShare(shares: PrecisionShare[]): string {
  const [largest] = [...shares].sort((a, b) => b.params - a.params);
  return colourOf(largest?.precision ?? "other");
}
