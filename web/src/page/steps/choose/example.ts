// A tensor that shows well what codes do: a matrix of a layer, large enough to have a shape, quick to read.

import type { Inspection } from "statepress";

const SMALLEST = 4096;
const LARGEST_BYTES = 32e6;

/** The name of one, if there is any. */
export function example({ tensors }: Inspection): string | undefined {
  const matrices = tensors.filter(
    ({ shape, params, bytes, buffer, tiedTo }) =>
      shape.length === 2 && params >= SMALLEST && bytes <= LARGEST_BYTES && !buffer && tiedTo === undefined,
  );
  const inLayers = matrices.filter((tensor) => /\.\d+\./.test(tensor.name));
  return (inLayers.length > 0 ? inLayers : matrices).sort((a, b) => b.params - a.params)[0]?.name;
}
