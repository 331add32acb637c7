// Both models continue the same prompt, one after the other, so that each has the machine to itself.

import type { Checkpoint, Generation, Token } from "statepress";
import { type Asked, type BackendChoice, backendsOf } from "../state/state.js";
import type { OpenCheckpoint } from "./open-checkpoint.js";

/** Tokens that a trial adds to the prompt. */
const TOKENS = 48;

/** Continues the prompt with the original and with the file of a run. */
export async function tryBoth(opened: OpenCheckpoint, trial: number, run: number): Promise<void> {
  const produced = opened.produced(run);
  if (!produced) return;
  const { asked } = opened.state;
  const signal = opened.begin("trial");
  opened.tell({ type: "trying", trial, run, asked });
  const [first, second] = backendsOf(asked);
  try {
    await say(opened, { trial, side: 0, checkpoint: opened.checkpoint, backend: first }, asked, signal);
    await say(opened, { trial, side: 1, checkpoint: produced, backend: second }, asked, signal);
    opened.tell({ type: "trialEnded", trial, problem: undefined });
  } catch (error) {
    opened.tell({ type: "trialEnded", trial, problem: opened.failed(error) });
  }
}

/** Who says it. */
interface Speaker {
  trial: number;
  side: 0 | 1;
  checkpoint: Checkpoint;
  backend: BackendChoice;
}

async function say(opened: OpenCheckpoint, speaker: Speaker, asked: Asked, signal: AbortSignal): Promise<void> {
  const { trial, side, checkpoint, backend: wanted } = speaker;
  const { prompt, temperature, seed } = asked;
  const model = await checkpoint.load({ backend: wanted, signal });
  try {
    const { name, adapter, reason } = model.backend;
    opened.tell({ type: "loaded", trial, side, backend: { name, adapter, reason } });
    const tokens = model.generate(prompt, { maxTokens: TOKENS, temperature, seed, signal });
    // Not a for loop: what a generator returns at its end is how fast it was.
    for (;;) {
      const next: IteratorResult<Token, Generation> = await tokens.next();
      if (next.done) {
        opened.tell({ type: "tried", trial, side, tokensPerSecond: next.value.tokensPerSecond });
        return;
      }
      opened.tell({ type: "said", trial, side, token: next.value });
    }
  } finally {
    model.dispose();
  }
}
