// Into how many windows a text is cut, as the engine does it: for those who share them.

import type { Host, Input } from "../worker/protocol.js";
import type { ModelInfo } from "../worker/wasm.js";
import type { EvaluationProtocol } from "./options.js";

/** The window of models that set no limit to a sequence. */
const UNLIMITED_WINDOW = 256;

/** The widest window that is taken unasked: what perplexities of models with long contexts are usually quoted for. */
const LARGEST_WINDOW = 2048;

/** The window, in tokens, that models are read in where none is asked for: the shorter of their longest sequences. */
export function usualWindow(models: readonly Pick<ModelInfo, "maxTokens">[]): number {
  const most = Math.min(...models.map(({ maxTokens }) => maxTokens ?? Number.POSITIVE_INFINITY));
  return most === Number.POSITIVE_INFINITY ? UNLIMITED_WINDOW : Math.min(most, LARGEST_WINDOW);
}

/** How many there are; 0 where the protocol is none that is allowed. */
export async function windowsOf(
  host: Host,
  input: Input,
  { window, limit }: EvaluationProtocol,
  models: readonly Pick<ModelInfo, "maxTokens">[],
): Promise<number> {
  const { tokens } = await host.call("count", { input });
  const windows = Math.floor(Math.min(tokens, limit ?? tokens) / (window ?? usualWindow(models)));
  return Number.isFinite(windows) ? windows : 0;
}
