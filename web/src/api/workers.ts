// How many workers share what is calibrated, and starting them.

import { shown } from "./check.js";
import type { Environment } from "./environment.js";
import { badOption, StatepressError } from "./errors.js";
import type { Team } from "./team.js";
import type { Finding, Inspection } from "./types/statepress.js";

/** Parameters from which on workers take less time than they save. */
const MANY = 16e6;

/** Bytes that the models of all workers may take together where nobody says how many there are to be. */
const ROOM = 2 ** 31;

/** More than anybody has use for. */
const MOST = 64;

/** Workers, which whoever asked for them closes; none where one host does the work. */
export interface Workers {
  team?: Team;
  /** What there is to know of that. */
  findings: Finding[];
}

/**
 * Starts as many workers as are asked for, else as many as the machine and the size of the model suggest; none where there is
 * nothing to share.
 */
export async function startWorkers(
  environment: Environment,
  inspection: Inspection,
  asked: number | undefined,
  isShared = true,
): Promise<Workers> {
  const workers = howMany(environment, inspection, asked);
  if (workers === 1 || !isShared) return { findings: [] };
  // Few pages have models that are large enough: the others do without its code.
  const { Team } = await import("./team.js");
  const team = new Team(environment, workers);
  try {
    await team.ready();
    return { team, findings: [] };
  } catch (error) {
    team.close();
    const isMissing = error instanceof StatepressError && error.code === "unsupported";
    if (asked !== undefined || !isMissing) throw error;
    const message = `one worker did what ${workers} would have shared: ${error.message}`;
    return { findings: [{ level: "info", code: "alone", message }] };
  }
}

function howMany({ cores }: Environment, { params }: Inspection, asked: number | undefined): number {
  if (asked === undefined) {
    return params < MANY ? 1 : Math.max(1, Math.min(cores, Math.floor(ROOM / (4 * params))));
  }
  if (Number.isSafeInteger(asked) && asked >= 1 && asked <= MOST) return asked;
  throw badOption("workers", shown(asked), `a whole number from 1 to ${MOST}`);
}
