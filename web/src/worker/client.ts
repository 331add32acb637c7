// The page's end of the worker: starts it at the first call, and turns messages into promises.

import { codes, type ErrorCode, StatepressError, throwIfAborted } from "../api/errors.js";
import type { Context, FromWorker, Host, Requests, ToWorker } from "./protocol.js";

interface Pending {
  resolve(answer: unknown): void;
  reject(error: StatepressError): void;
  context: Context;
}

/** A host in a worker of its own. */
export class WorkerHost implements Host {
  readonly #start: () => Worker;
  readonly #build: string | undefined;
  #worker: Worker | undefined;
  #started = 0;
  #next = 1;
  readonly #pending = new Map<number, Pending>();

  constructor(start: () => Worker, build?: string) {
    this.#start = start;
    this.#build = build;
  }

  call<K extends keyof Requests>(name: K, request: Requests[K][0], context: Context = {}): Promise<Requests[K][1]> {
    return new Promise((resolve, reject) => {
      throwIfAborted(context.signal);
      const worker = this.#running();
      const id = this.#next++;
      const abort = () => this.#post(worker, { type: "abort", id });
      const enough = () => this.#post(worker, { type: "enough", id });
      const settle = () => {
        context.signal?.removeEventListener("abort", abort);
        context.enough?.removeEventListener("abort", enough);
      };
      context.signal?.addEventListener("abort", abort);
      context.enough?.addEventListener("abort", enough);
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
        };
        this.#post(worker, { type: "call", id, name, request, told });
        if (context.enough?.aborted) enough();
      } catch (error) {
        this.#pending.delete(id);
        settle();
        reject(
          new StatepressError("bad-input", `cannot be sent to the worker: ${(error as Error).message}`, {}, error),
        );
      }
    });
  }

  #post(worker: Worker, message: ToWorker): void {
    worker.postMessage(message);
  }

  #running(): Worker {
    if (this.#worker) return this.#worker;
    const worker = this.#start();
    worker.onmessage = (event: MessageEvent<FromWorker>) => this.#receive(event.data);
    worker.onerror = (event) => {
      event.preventDefault();
      this.#fail(`the worker stopped: ${event.message || "its script could not be loaded"}`);
    };
    worker.onmessageerror = () => this.#fail("the worker sent something that cannot be read");
    // Handles of a worker that has crashed must not name anything in the next one.
    this.#post(worker, { type: "start", build: this.#build, firstHandle: 1 + this.#started * 2 ** 32 });
    this.#started += 1;
    this.#worker = worker;
    return worker;
  }

  #receive(message: FromWorker): void {
    const pending = this.#pending.get(message.id);
    if (!pending) return;
    switch (message.type) {
      case "progress":
        pending.context.onProgress?.(message.progress);
        break;
      case "tokens":
        pending.context.onTokens?.(message.tokens);
        break;
      case "costs":
        pending.context.onCosts?.(message.costs);
        break;
      case "point":
        pending.context.onPoint?.(message.point);
        break;
      case "answer":
        this.#pending.delete(message.id);
        pending.resolve(message.answer);
        break;
      case "error": {
        this.#pending.delete(message.id);
        const { code, message: words, facts } = message.error;
        const known = codes.includes(code as ErrorCode) ? (code as ErrorCode) : "internal";
        // The signal's reason is on this side of the worker.
        const cause = known === "aborted" ? pending.context.signal?.reason : undefined;
        pending.reject(new StatepressError(known, words, facts, cause));
        if (known === "crashed") this.#fail(words);
        break;
      }
    }
  }

  // Everything that the worker held is lost; the next call starts a new one.
  #fail(words: string): void {
    this.#worker?.terminate();
    this.#worker = undefined;
    const lost = [...this.#pending.values()];
    this.#pending.clear();
    for (const pending of lost) pending.reject(new StatepressError("crashed", words));
  }
}
