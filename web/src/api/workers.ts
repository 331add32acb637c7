// How many workers share what takes long, and starting them when there is something to share.

import type { Input } from "../worker/protocol.js";
import { shown } from "./check.js";
import type { Environment } from "./environment.js";
import { asStatepressError, badOption } from "./errors.js";
import type { Model } from "./model.js";
import type { EvaluationProtocol } from "./options.js";
import type { Team } from "./team.js";
import type { Finding } from "./types/statepress.js";

/** More than anybody has use for. */
export const MOST_WORKERS = 64;

/** Parameters from which on workers take less time than they save. */
const MANY = 16e6;

/** The most workers where nobody says how many. */
const USUAL = 8;

/** Bytes that all of these may take together. */
const ROOM = 2 ** 31;

/** Bytes that each takes beside its model, for sums, what a search holds, and the compressed model that it compares. */
const EACH = 2 ** 29;

/** The workers of one job; none where one host does all of it. */
export class Workers {
  /** What there is to know of them once they were asked for. */
  readonly findings: Finding[] = [];
  readonly #environment: Environment;
  readonly #count: number;
  readonly #isAsked: boolean;
  #team: Promise<Team | undefined> | undefined;

  /** As many as are asked for, else as many as the machine and the parameters of its models suggest. None is started yet. */
  constructor(environment: Environment, params: number, asked: number | undefined) {
    this.#environment = environment;
    this.#isAsked = asked !== undefined;
    this.#count = howMany(environment, params, asked);
  }

  /**
   * Starts them at the first call, `most` of them at the most. Undefined where there are none, and where those that nobody has
   * asked for cannot be started.
   */
  team(signal?: AbortSignal, most = Number.POSITIVE_INFINITY): Promise<Team | undefined> {
    this.#team ??= this.#start(Math.min(this.#count, most), signal);
    return this.#team;
  }

  /** Those who share the windows of a text that models read, each some; undefined where one does it all. */
  async forWindows(input: Input, protocol: EvaluationProtocol, models: readonly Model[]): Promise<Team | undefined> {
    if (this.#count === 1) return undefined;
    const why = models.map((it) => it.whyAlone).find((it) => it !== undefined);
    if (why !== undefined) return this.alone(why);
    const { windowsOf } = await import("./windows.js");
    const infos = models.map(({ info }) => info);
    const windows = await windowsOf(this.#environment.host, input, protocol, infos);
    return windows < 2 ? this.alone("there are not two windows") : this.team(protocol.signal, windows);
  }

  /** There are none for that reason, which whoever has asked for several is told once. */
  alone(why: string): undefined {
    if (!this.#isAsked || this.#count === 1 || this.findings.length > 0) return;
    const message = `one worker does what ${this.#count} would have shared: ${why}`;
    this.findings.push({ level: "info", code: "alone", message });
  }

  async #start(count: number, signal: AbortSignal | undefined): Promise<Team | undefined> {
    if (count === 1) return undefined;
    // Few pages have models that are large enough: the others do without its code.
    const { Team } = await import("./team.js");
    const team = new Team(this.#environment, count);
    try {
      await team.ready(signal);
      return team;
    } catch (thrown) {
      team.close();
      const error = asStatepressError(thrown, signal);
      if (this.#isAsked || error.code === "aborted") throw error;
      const message = `one worker does what ${count} would have shared, which cannot be started: ${error.message}`;
      this.findings.push({ level: "info", code: "alone", message });
      return undefined;
    }
  }

  /** Ends them. */
  async close(): Promise<void> {
    const team = await this.#team?.catch(() => undefined);
    team?.close();
  }
}

function howMany({ cores }: Environment, params: number, asked: number | undefined): number {
  if (asked === undefined) {
    const room = Math.floor(ROOM / (4 * params + EACH));
    return params < MANY ? 1 : Math.max(1, Math.min(cores, room, USUAL));
  }
  if (Number.isSafeInteger(asked) && asked >= 1 && asked <= MOST_WORKERS) return asked;
  throw badOption("workers", shown(asked), `a whole number from 1 to ${MOST_WORKERS}`);
}
