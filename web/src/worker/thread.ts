// A thread that a host runs in, as the one that started it sees it: a worker of a page, or of Node.

import type { FromWorker, ToWorker } from "./protocol.js";

/** A thread with a host in it. */
export interface Thread {
  post(message: ToWorker): void;
  /** Says where messages go, and where why it has stopped by itself. */
  listen(receive: (message: FromWorker) => void, stopped: (words: string) => void): void;
  /** Ends it, whatever it does. */
  terminate(): void;
}

// Spelled out, so that bundlers see what is loaded.
const ours = () => new Worker(new URL("./worker.js", import.meta.url), { type: "module" });

/** A worker of a page, or of another worker. */
export function webThread(start = ours): Thread {
  const worker = start();
  return {
    post: (message) => worker.postMessage(message),
    listen(receive, stopped) {
      worker.onmessage = (event: MessageEvent<FromWorker>) => receive(event.data);
      worker.onerror = (event) => {
        event.preventDefault();
        stopped(`the worker stopped: ${event.message || "its script could not be loaded"}`);
      };
      worker.onmessageerror = () => stopped("the worker sent something that cannot be read");
    },
    terminate: () => worker.terminate(),
  };
}
