// The worker that a page's library starts: a LocalHost behind messages.

import { asStatepressError } from "../api/errors.js";
import { LocalHost } from "./host.js";
import { webPlatform } from "./platform-web.js";
import type { Context, FromWorker, Requests, Told, ToWorker } from "./protocol.js";

const scope = globalThis as unknown as {
  postMessage(message: FromWorker, transfer?: Transferable[]): void;
  onmessage: (event: MessageEvent<ToWorker>) => void;
};

let host: LocalHost | undefined;
/** What stops a call, and what has it end early. */
const running = new Map<number, { abort: AbortController; enough: AbortController }>();

scope.onmessage = ({ data: message }) => {
  switch (message.type) {
    case "start":
      host = new LocalHost(webPlatform, message.build, message.firstHandle);
      break;
    case "call":
      void answer(message.id, message.name, message.request, message.told);
      break;
    case "abort":
      running.get(message.id)?.abort.abort();
      break;
    case "enough":
      running.get(message.id)?.enough.abort();
      break;
  }
};

async function answer(id: number, name: keyof Requests, request: unknown, told: Told): Promise<void> {
  const controllers = { abort: new AbortController(), enough: new AbortController() };
  running.set(id, controllers);
  const context: Context = {
    signal: controllers.abort.signal,
    enough: controllers.enough.signal,
    onProgress: told.progress ? (it) => scope.postMessage({ type: "progress", id, progress: it }) : undefined,
    onTokens: (tokens) => scope.postMessage({ type: "tokens", id, tokens }),
    onCosts: told.costs ? (costs) => scope.postMessage({ type: "costs", id, costs }) : undefined,
    onPoint: told.points ? (point) => scope.postMessage({ type: "point", id, point }) : undefined,
  };
  try {
    if (!host) throw new Error("called before it was started");
    const result = await host.call(name, request as never, context);
    const transfer = result instanceof Float32Array ? [result.buffer as ArrayBuffer] : [];
    scope.postMessage({ type: "answer", id, answer: result }, transfer);
  } catch (thrown) {
    const { code, message, facts } = asStatepressError(thrown);
    scope.postMessage({ type: "error", id, error: { code, message, facts } });
  } finally {
    running.delete(id);
  }
}
