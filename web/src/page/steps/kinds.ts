// Precisions as colours, and tensor names as parts of a model.

import { type Inspection, PRECISIONS, type PrecisionShare, type StoredAs } from "statepress";

/** A precision, what is kept as it is, or whatever else a file stores. */
export type Kind = StoredAs | "other";

/** What files call precisions that recipes call otherwise. */
const KINDS: Record<string, Kind> = {
  f32: "fp32",
  f16: "fp16",
  qi8: "int8",
  i8: "int8",
  qi4: "int4",
};

/** What the type of a stored tensor is called in a recipe; `nf4 (bitsandbytes)` is one of its kind. */
export function kindOf(dtype: string): Kind {
  const [name = ""] = dtype.toLowerCase().split(" ", 1);
  return KINDS[name] ?? PRECISIONS.find((it) => it === name) ?? "other";
}

/** Its colour. */
export function colourOf(kind: Kind): string {
  return `var(--kind-${kind})`;
}

/** A colour for each of a few roles. */
export function colourOfRole(at: number | undefined, roles: number): string {
  if (at === undefined) return colourOf("other");
  const hue = Math.round((360 * at) / roles);
  return `light-dark(oklch(52% 0.14 ${hue}), oklch(80% 0.11 ${hue}))`;
}

/** The colour of damage, from 0, none, to 1, the most: lighter or darker of one hue, so that every eye can order it. */
export function heatOf(part: number): string {
  return `color-mix(in oklab, var(--heat) ${Math.round(100 * part)}%, var(--paper))`;
}

/** Whether a tensor is stored by a recipe: no buffer, and no second name of another. */
export function isWeight({ buffer, tiedTo }: Inspection["tensors"][number]): boolean {
  return !buffer && tiedTo === undefined;
}

/** The part of the model that a tensor belongs to: `layers.0`, `embedding`. */
export function partOf(name: string): string {
  const layer = /^(?:.*?\.)?(layers|blocks|h)\.\d+/.exec(name);
  return layer?.[0] ?? name.split(".")[0] ?? name;
}

/** A tensor's name within its part: in a layer the layer is known; elsewhere "weight" alone says nothing. */
export function labelIn(name: string): string {
  const part = partOf(name);
  return /\d$/.test(part) ? name.slice(part.length + 1) : name;
}

/** The colour of the precision that holds most parameters. */
export function largestShare(shares: PrecisionShare[]): string {
  const [largest] = [...shares].sort((a, b) => b.params - a.params);
  return colourOf(largest?.precision ?? "other");
}
