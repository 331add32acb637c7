// What takes gradients to know of a checkpoint, for whoever rounds its weights: a host whose module trains takes them.

import type { Input } from "../worker/protocol.js";
import type { Checkpoint } from "./checkpoint.js";
import type { Environment } from "./environment.js";
import type { Running } from "./options.js";
import type { Fisher } from "./types/statepress.js";

/** What the loss of a checkpoint's model feels while it reads a text. */
export async function gradients(
  environment: Environment,
  checkpoint: Checkpoint,
  input: Input,
  { signal, onProgress }: Running,
): Promise<Fisher> {
  const host = environment.trainer();
  const { checkpoint: handle } = await host.call("open", checkpoint.opening, { signal });
  try {
    return await host.call("gradients", { checkpoint: handle, input }, { signal, onProgress });
  } finally {
    await host.call("release", { handle }).catch(() => {});
  }
}

/** What an option `gradients` stands for: taken now, or taken before. */
export async function fisherOf(
  environment: Environment,
  checkpoint: Checkpoint,
  asked: true | Fisher,
  input: Input,
  running: Running,
): Promise<Fisher> {
  return asked === true ? gradients(environment, checkpoint, input, running) : asked;
}
