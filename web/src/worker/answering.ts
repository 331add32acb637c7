// The other end of a WorkerHost: a LocalHost that answers messages, in whatever kind of worker.

import { asStatepressError } from "../api/errors.js";
import { LocalHost } from "./host.js";
import type { Platform } from "./platform.js";
import type { Context, FromWorker, Requests, Stop, Told, ToWorker } from "./protocol.js";

/** Sends a message. */
type Post = (message: FromWorker, transfer?: ArrayBuffer[]) => void;

/** What takes the messages of whoever started this worker. */
export function answering(platform: Platform, post: Post): (message: ToWorker) => void {
  let host: LocalHost | undefined;
  /** What ends each call before its time. */
  const running = new Map<number, Record<Stop, AbortController>>();

  async function answer(id: number, name: keyof Requests, request: unknown, told: Told): Promise<void> {
    const controllers = { abort: new AbortController(), enough: new AbortController(), pause: new AbortController() };
    running.set(id, controllers);
    const context: Context = {
      signal: controllers.abort.signal,
      enough: controllers.enough.signal,
      pause: controllers.pause.signal,
      onProgress: told.progress ? (it) => post({ type: "progress", id, progress: it }) : undefined,
      onTokens: (tokens) => post({ type: "tokens", id, tokens }),
      onCosts: told.costs ? (costs) => post({ type: "costs", id, costs }) : undefined,
      onPoint: told.points ? (point) => post({ type: "point", id, point }) : undefined,
      onSnapshot: told.snapshots
        ? (snapshot) => post({ type: "snapshot", id, snapshot }, [snapshot.buffer])
        : undefined,
    };
    try {
      if (!host) throw new Error("called before it was started");
      const result = await host.call(name, request as never, context);
      const transfer = result instanceof Float32Array ? [result.buffer as ArrayBuffer] : [];
      post({ type: "answer", id, answer: result }, transfer);
    } catch (thrown) {
      const { code, message, facts } = asStatepressError(thrown);
      post({ type: "error", id, error: { code, message, facts } });
    } finally {
      running.delete(id);
    }
  }

  return (message) => {
    switch (message.type) {
      case "start":
        host = new LocalHost(platform, message.build, message.firstHandle);
        break;
      case "call":
        void answer(message.id, message.name, message.request, message.told);
        break;
      default:
        running.get(message.id)?.[message.type].abort();
    }
  };
}
