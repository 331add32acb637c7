// Workers beside the host of the library: each opens the checkpoints by itself, and does its share of what takes long.

import type { Data, Evaluated, Handle, Host, Made, Pair, Requests, Share } from "../worker/protocol.js";
import type { SharedWindow, ShareReport } from "../worker/wasm.js";
import type { Checkpoint } from "./checkpoint.js";
import type { ClosableHost, Environment } from "./environment.js";
import { StatepressError, throwIfAborted } from "./errors.js";
import type { Running } from "./options.js";
import type { Comparison, Evaluation, Finding, Progress, SearchCosts, TensorCosts } from "./types/statepress.js";

type Produced = Omit<Requests["compressJoined"][0], "checkpoint" | "shares">;
type Measured = Omit<Requests["searchCosts"][0], "checkpoint" | "share">;

/** What is done of a share of the windows, on models that are loaded, and of all shares. */
interface OnWindows<Models, T> {
  share(host: Host, models: Models, share: Share, context: Running): Promise<SharedWindow[]>;
  join(host: Host, models: Models, shares: SharedWindow[][]): Promise<T>;
}

/** Workers that share work until they are closed. */
export class Team {
  readonly #hosts: ClosableHost[];
  readonly #environment: Environment;
  /** What each has opened. */
  readonly #opened = new Map<Checkpoint, Promise<Handle[]>>();

  constructor(environment: Environment, workers: number) {
    this.#environment = environment;
    this.#hosts = Array.from({ length: workers }, () => environment.worker());
  }

  get workers(): number {
    return this.#hosts.length;
  }

  /** Waits until all have loaded the module. */
  async ready(signal: AbortSignal | undefined): Promise<void> {
    await Promise.all(this.#hosts.map((host) => host.call("recipes", {}, { signal })));
  }

  /** What `compress` would make, to the byte: each rounds its share, and one writes the file. */
  async compress(checkpoint: Checkpoint, request: Produced, running: Running): Promise<Requests["compress"][1]> {
    const began = performance.now();
    const { beside, ...followed } = request;
    const shares: Made<ShareReport>[] = [];
    /** Files that are of no use when this ends. */
    const passing: Data[] = [];
    try {
      await this.#each([checkpoint], running, async (host, [handle], index, context) => {
        const share = { index, count: this.workers };
        const made = await host.call("compressShare", { checkpoint: handle, ...followed, share }, context);
        shares[index] = made;
        passing.push(made.data);
      });
      const [host] = this.#hosts;
      const [handle] = await this.#open(checkpoint, running);
      if (!host || handle === undefined) throw new StatepressError("internal", "there is no worker");
      const request = { checkpoint: handle, ...followed, shares, ...(beside !== undefined && { beside }) };
      const { data, report } = await host.call("compressJoined", request, running);
      passing.push(data);
      const opened = await this.#environment.host.call("open", { data, produced: true }, running);
      passing.pop();
      const seconds = (performance.now() - began) / 1000;
      const held = shares.reduce((sum, share) => sum + share.report.peakMemory, 0);
      const message = `${this.workers} workers have each rounded a share: the file is the one that a single worker makes`;
      const findings: Finding[] = [...report.findings, { level: "info", code: "workers", message }];
      const whole = { ...report, seconds, peakMemory: Math.max(report.peakMemory, held), findings };
      return { ...opened, data, report: whole };
    } finally {
      const { host } = this.#environment;
      await Promise.all(passing.map((data) => host.call("discard", { data }).catch(() => {})));
    }
  }

  /** What `searchCosts` would measure; told of what there is all the while. */
  async costs(
    checkpoint: Checkpoint,
    request: Measured,
    running: Running & { onCosts?: ((costs: SearchCosts) => void) | undefined },
  ): Promise<SearchCosts> {
    const costs = new Costs(checkpoint);
    let all: SearchCosts | undefined;
    await this.#each([checkpoint], running, async (host, [handle], index, context) => {
      const onCosts = (told: SearchCosts) => {
        all = costs.put(index, told);
        running.onCosts?.(all);
      };
      const share = { index, count: this.workers };
      onCosts(await host.call("searchCosts", { checkpoint: handle, ...request, share }, { ...context, onCosts }));
    });
    if (!all) throw new StatepressError("internal", "there is no worker");
    // What is measured is often a file that only serves to be measured, and goes.
    await this.#release(checkpoint);
    return all;
  }

  /** What `evaluate` would give: each evaluates on a share of the windows. */
  evaluate(checkpoint: Checkpoint, request: Omit<Evaluated, "model">, running: Running): Promise<Evaluation> {
    return this.#windows([checkpoint], running, {
      share: (host, [model], share, context) => host.call("evaluateShare", { model, ...request, share }, context),
      join: (host, [model], shares) => host.call("evaluateJoined", { model, ...request, shares }, running),
    });
  }

  /** The card that `compare` would give: each compares on a share of the windows. */
  async compare(
    both: readonly [Checkpoint, Checkpoint],
    request: Omit<Pair, "a" | "b">,
    running: Running,
  ): Promise<Comparison> {
    const card = await this.#windows(both, running, {
      share: (host, [a, b], share, context) => host.call("compareShare", { a, b, ...request, share }, context),
      join: (host, [a, b], shares) => host.call("compareJoined", { a, b, ...request, shares }, running),
    });
    // What is compared is often a file that only serves to be measured, and goes.
    await this.#release(both[1]);
    return card;
  }

  /** What is to be told of windows that were shared. */
  told(did: "compared" | "evaluated"): Finding {
    const message = `${this.workers} workers have each ${did} on a share of the windows: the numbers are those of a single one, speeds those of one beside the others`;
    return { level: "info", code: "workers", message };
  }

  /** Has each measure a share of the windows on models of its own, and one join what came of it. */
  async #windows<const C extends readonly Checkpoint[], T>(
    checkpoints: C,
    running: Running,
    { share, join }: OnWindows<{ [N in keyof C]: Handle }, T>,
  ): Promise<T> {
    const shares: SharedWindow[][] = [];
    const models: { [N in keyof C]: Handle }[] = [];
    await this.#each(checkpoints, running, async (host, handles, index, context) => {
      const loaded: Handle[] = [];
      for (const checkpoint of handles) {
        loaded.push((await host.call("load", { checkpoint, backend: "cpu" }, context)).model);
      }
      const mine = loaded as { [N in keyof C]: Handle };
      models[index] = mine;
      shares[index] = await share(host, mine, { index, count: this.workers }, context);
    });
    const [host] = this.#hosts;
    const [first] = models;
    if (!host || !first) throw new StatepressError("internal", "there is no worker");
    const joined = await join(host, first, shares);
    const released = models.flatMap((loaded, at) =>
      loaded.map((handle) => this.#hosts[at]?.call("release", { handle })),
    );
    await Promise.all(released);
    return joined;
  }

  /** Ends all of them, whatever they do. */
  close(): void {
    for (const host of this.#hosts) host.close();
  }

  /** Has all do something at once. The first that fails stops the others. */
  async #each<const C extends readonly Checkpoint[]>(
    checkpoints: C,
    { signal, onProgress }: Running,
    work: (host: ClosableHost, handles: { [N in keyof C]: Handle }, index: number, context: Running) => Promise<void>,
  ): Promise<void> {
    const handles: Handle[][] = [];
    for (const checkpoint of checkpoints) handles.push(await this.#open(checkpoint, { signal }));
    throwIfAborted(signal);
    const stop = new AbortController();
    const aborted = () => stop.abort(signal?.reason);
    signal?.addEventListener("abort", aborted);
    const progress = onProgress && together(onProgress);
    const errors: unknown[] = [];
    const one = async (host: ClosableHost, index: number) => {
      const onProgress = progress && ((it: Progress) => progress(index, it));
      try {
        const mine = handles.map((of) => of[index]) as { [N in keyof C]: Handle };
        await work(host, mine, index, { signal: stop.signal, onProgress });
      } catch (error) {
        errors.push(error);
        stop.abort();
      }
    };
    await Promise.all(this.#hosts.map(one));
    signal?.removeEventListener("abort", aborted);
    // Those that are stopped by the first fail as well.
    if (errors.length > 0) throw errors[0];
  }

  async #release(checkpoint: Checkpoint): Promise<void> {
    const handles = await this.#opened.get(checkpoint);
    this.#opened.delete(checkpoint);
    await Promise.all(this.#hosts.map((host, at) => host.call("release", { handle: handles?.[at] ?? 0 })));
  }

  #open(checkpoint: Checkpoint, { signal }: Running): Promise<Handle[]> {
    const open = async (host: ClosableHost) => {
      const { checkpoint: handle, inspection } = await host.call("open", checkpoint.opening, { signal });
      if (inspection.fileBytes !== checkpoint.inspection.fileBytes) {
        const message = `${checkpoint.weightsName} was changed since it was opened`;
        throw new StatepressError("io", message, { path: checkpoint.weightsName, system: "changed" });
      }
      // What the first steps leave serves the share and whoever joins the shares, and the next recipe of a search.
      await host.call("keepFirstSteps", { checkpoint: handle, whether: true });
      return handle;
    };
    const opened = this.#opened.get(checkpoint) ?? Promise.all(this.#hosts.map(open));
    this.#opened.set(checkpoint, opened);
    return opened;
  }
}

/** Progress of several that do the same kind of work, as one: of those at the same stage, all that is done. */
function together(onProgress: (progress: Progress) => void): (index: number, progress: Progress) => void {
  const last: Progress[] = [];
  return (index, progress) => {
    last[index] = progress;
    const alike = last.filter(({ stage, unit }) => stage === progress.stage && unit === progress.unit);
    const sum = (of: "done" | "total") => alike.reduce((sum, it) => sum + it[of], 0);
    onProgress({ ...progress, done: sum("done"), total: sum("total") });
  };
}

/** What several measure of a search: each counts what the others measure as not measured. */
class Costs {
  readonly #order: Map<string, number>;
  /** Before anything was measured. */
  #before: SearchCosts | undefined;
  readonly #shares: SearchCosts[] = [];

  constructor({ inspection }: Checkpoint) {
    this.#order = new Map(inspection.tensors.map(({ name }, at) => [name, at]));
  }

  /** What a share has told: at first of nothing that is not known to all. Answers with what is there in all. */
  put(index: number, told: SearchCosts): SearchCosts {
    this.#before ??= told;
    this.#shares[index] = told;
    const before = this.#before;
    // Shares that have told nothing yet are holes, which are left out.
    const change = (of: "fixedBytes" | "unmeasured") =>
      this.#shares.reduce((sum, it) => sum + it[of] - before[of], before[of]);
    const named = ({ tensor, rows }: TensorCosts) => `${rows?.after ?? 0} ${tensor}`;
    const measured = new Map(this.#shares.flatMap(({ tensors }) => tensors.map((it) => [named(it), it])));
    // As the file has them, and the rows of each from the most used.
    const place = ({ tensor }: TensorCosts) => this.#order.get(tensor) ?? 0;
    const tensors = [...measured.values()].sort(
      (a, b) => place(a) - place(b) || (a.rows?.after ?? 0) - (b.rows?.after ?? 0),
    );
    return { ...told, fixedBytes: change("fixedBytes"), unmeasured: change("unmeasured"), tensors };
  }
}
