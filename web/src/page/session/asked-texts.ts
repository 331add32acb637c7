// The texts that are asked for: what a model reads while it is compressed, and what it is measured on.

import { StatepressError } from "statepress";
import { judgedText, type NamedText, type Objection, readText, stops } from "../state/calibration.js";
import { objectionToSecond, secondText } from "../state/second.js";
import type { Asked, Opened } from "../state/state.js";
import { heldout } from "./demo.js";
import type { OpenCheckpoint } from "./open-checkpoint.js";

/** What the model reads while it is compressed; an error where something speaks against that. */
export async function calibrationOf(
  { state }: OpenCheckpoint,
  asked: Asked,
  objectionTo: (asked: Asked, checkpoint: Opened, heldout: string) => Objection | undefined,
): Promise<string> {
  const [read, heldout] = [await calibrationTextOf(asked), await heldoutFor(asked)];
  const objection = state.checkpoint && objectionTo(asked, state.checkpoint, heldout);
  if (objection && stops(objection)) throw new StatepressError("bad-input", objection.message.replace(/\.$/, ""));
  return read.text;
}

/** The text that the model reads while it is compressed. */
export async function calibrationTextOf(asked: Asked): Promise<NamedText> {
  return readText(asked, asked.calibration.from === "demo" ? await heldout() : "");
}

/** The text that is measured on. */
export async function textOf(asked: Asked): Promise<NamedText> {
  return judgedText(asked, await heldoutFor(asked));
}

/** The second text that is measured on, where one is asked for; an error where something speaks against it. */
export async function secondOf(asked: Asked): Promise<NamedText | undefined> {
  const objection = objectionToSecond(asked, await heldoutFor(asked));
  if (objection && stops(objection)) throw new StatepressError("bad-input", objection.message.replace(/\.$/, ""));
  return secondText(asked);
}

// The held-out text may not be served: texts of one's own do without it.
async function heldoutFor({ text }: Asked): Promise<string> {
  return text === "own" || text === "typed" ? "" : heldout();
}
