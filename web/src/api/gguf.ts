// The tokenizer that a GGUF file holds itself.

import { fromGgml } from "../tokenizer/ggml.js";
import type { Handle, Host } from "../worker/protocol.js";
import { TokenizerChoice } from "./tokenizers.js";

/** The tokenizer in a GGUF file that is open; where there is none in it, `beside` says what was found beside it. */
export async function tokenizerIn(
  host: Host,
  checkpoint: Handle,
  name: string,
  beside: TokenizerChoice,
): Promise<TokenizerChoice> {
  const { text } = await host.call("vocabulary", { checkpoint });
  const made = fromGgml(JSON.parse(text ?? "{}"));
  if ("reason" in made) return beside.findings.length > 0 ? beside : TokenizerChoice.none(made.reason, true);
  // That nothing else was found is of no interest now; that something was ignored is.
  const ignored = beside.findings.filter(({ code }) => code !== "no-tokenizer");
  return TokenizerChoice.inside({ name: `tokenizer of ${name}`, json: made.json }, [...ignored, ...made.findings]);
}
