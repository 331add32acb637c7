// The worker that a page's library starts: a LocalHost behind messages.

import { asStatepressError } from "../api/errors.js";
import { LocalHost } from "./host.js";
import { webPlatform } from "./platform-web.js";
import type { Context, FromWorker, Requests, ToWorker } from "./protocol.js";

const scope = globalThis as unknown as {
  postMessage(message: FromWorker, transfer?: Transferable[]): void;
  onmessage: (event: MessageEvent<ToWorker>) => void;
};

let host: LocalHost | undefined;
const running = new Map<number, AbortController>();

scope.onmessage = ({ data: message }) => {
  switch (message.type) {
    case "start":
      host = new LocalHost(webPlatform, message.build, message.firstHandle);
      break;
    case "call":
      void answer(message.id, message.name, message.request, message);
      break;
    case "abort":
      running.get(message.id)?.abort();
      break;
  }
};

async function answer(
  id: number,
  name: keyof Requests,
  request: unknown,
  told: { progress: boolean; costs: boolean },
): Promise<void> {
  const controller = new AbortController();
  running.set(id, controller);
  const context: Context = {
    signal: controller.signal,
    onProgress: told.progress ? (it) => scope.postMessage({ type: "progress", id, progress: it }) : undefined,
    onTokens: (tokens) => scope.postMessage({ type: "tokens", id, tokens }),
    onCosts: told.costs ? (costs) => scope.postMessage({ type: "costs", id, costs }) : undefined,
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
