// The end of a worker of whoever started it: starts it at the first call, and turns messages into promises.

import { asStatepressError, codes, type ErrorCode, StatepressError, throwIfAborted } from "../api/errors.js";
import type { Context, FromWorker, Host, Requests, Stop } from "./protocol.js";
import type { Thread } from "./thread.js";

interface Pending {
  resolve(answer: unknown): void;
  reject(error: StatepressError): void;
  context: Context;
  /** What a function of the caller has thrown that was told of something: the call fails with it. */
  thrown?: { error: unknown };
}

/** A host in a worker of its own. */
export class WorkerHost implements Host {
  readonly #start: () => Thread;
  readonly #build: string | undefined;
  #thread: Thread | undefined;
  #started = 0;
  #next = 1;
  readonly #pending = new Map<number, Pending>();

  constructor(start: () => Thread, build?: string) {
    this.#start = start;
    this.#build = build;
  }

  call<K extends keyof Requests>(name: K, request: Requests[K][0], context: Context = {}): Promise<Requests[K][1]> {
    return new Promise((resolve, reject) => {
      throwIfAborted(context.signal);
      const thread = this.#running();
      const id = this.#next++;
      const { signal: abort, enough, pause } = context;
      const stops = Object.entries({ abort, enough, pause }).map(([type, signal]) => {
        return { signal, stop: () => thread.post({ type: type as Stop, id }) };
      });
      const settle = () => {
        for (const { signal, stop } of stops) signal?.removeEventListener("abort", stop);
      };
      for (const { signal, stop } of stops) signal?.addEventListener("abort", stop);
      this.#pending.set(id, {
        context,
        resolve: (answer) => {
          settle();
          resolve(answer as Requests[K][1]);
        },
        reject: (error) => {
          settle();
          reject(error);
        },
      });
      try {
        const told = {
          progress: context.onProgress !== undefined,
          costs: context.onCosts !== undefined,
          points: context.onPoint !== undefined,
          snapshots: context.onSnapshot !== undefined,
        };
        thread.post({ type: "call", id, name, request, told });
        for (const { signal, stop } of stops) if (signal?.aborted) stop();
      } catch (error) {
        this.#pending.delete(id);
        settle();
        reject(
          new StatepressError("bad-input", `cannot be sent to the worker: ${(error as Error).message}`, {}, error),
        );
      }
    });
  }

  /** Ends the worker and whatever it does; the next call starts a new one. */
  close(): void {
    this.#fail("the worker was closed");
  }

  #running(): Thread {
    if (this.#thread) return this.#thread;
    const thread = this.#begun();
    thread.listen(
      (message) => this.#receive(message),
      // One that was ended says so when another may be there already.
      (words) => this.#thread === thread && this.#fail(words),
    );
    // Handles of a worker that has crashed must not name anything in the next one.
    thread.post({ type: "start", build: this.#build, firstHandle: 1 + this.#started * 2 ** 32 });
    this.#started += 1;
    this.#thread = thread;
    return thread;
  }

  #receive(message: FromWorker): void {
    const pending = this.#pending.get(message.id);
    if (!pending) return;
    switch (message.type) {
      case "progress":
        this.#tell(message.id, pending, () => pending.context.onProgress?.(message.progress));
        break;
      case "tokens":
        this.#tell(message.id, pending, () => pending.context.onTokens?.(message.tokens));
        break;
      case "costs":
        this.#tell(message.id, pending, () => pending.context.onCosts?.(message.costs));
        break;
      case "point":
        this.#tell(message.id, pending, () => pending.context.onPoint?.(message.point));
        break;
      case "snapshot":
        this.#tell(message.id, pending, () => pending.context.onSnapshot?.(message.snapshot));
        break;
      case "answer":
        this.#pending.delete(message.id);
        if (pending.thrown) pending.reject(asStatepressError(pending.thrown.error));
        else pending.resolve(message.answer);
        break;
      case "error": {
        this.#pending.delete(message.id);
        const { code, message: words, facts } = message.error;
        const known = codes.includes(code as ErrorCode) ? (code as ErrorCode) : "internal";
        // The signal's reason is on this side of the worker.
        const cause = known === "aborted" ? pending.context.signal?.reason : undefined;
        const error = new StatepressError(known, words, facts, cause);
        pending.reject(pending.thrown ? asStatepressError(pending.thrown.error) : error);
        if (known === "crashed") this.#fail(words);
        break;
      }
    }
  }

  #begun(): Thread {
    try {
      return this.#start();
    } catch (error) {
      throw new StatepressError("unsupported", `no worker can be started: ${(error as Error).message}`, {}, error);
    }
  }

  // What the caller's function throws fails the call, as it does where there is no worker between the two.
  #tell(id: number, pending: Pending, tell: () => void): void {
    if (pending.thrown) return;
    try {
      tell();
    } catch (error) {
      pending.thrown = { error };
      this.#thread?.post({ type: "abort", id });
    }
  }

  // Everything that the worker held is lost; the next call starts a new one.
  #fail(words: string): void {
    this.#thread?.terminate();
    this.#thread = undefined;
    const lost = [...this.#pending.values()];
    this.#pending.clear();
    for (const pending of lost) pending.reject(new StatepressError("crashed", words));
  }
}
