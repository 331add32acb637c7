// A worker thread of Node with a host in it.

import { Worker } from "node:worker_threads";
import type { FromWorker, ToWorker } from "./protocol.js";
import { temporary } from "./temporary-node.js";
import type { Thread } from "./thread.js";

/** What a thread sends: also the files that have to go with the process, as nothing is cleared away in a thread that is ended. */
export type FromThread = FromWorker | { type: "temporary"; path: string };

/** A worker thread. It keeps the process running until it is terminated. */
export function nodeThread(): Thread {
  // What the program was started with says how to read its own script, not this one.
  const worker = new Worker(new URL("./worker-node.js", import.meta.url), { execArgv: [] });
  return {
    post: (message: ToWorker) => worker.postMessage(message),
    listen(receive, stopped) {
      worker.on("message", (message: FromThread) => {
        if (message.type === "temporary") temporary(message.path);
        else receive(message);
      });
      worker.on("error", (error: Error) => stopped(`the worker stopped: ${error.message}`));
      worker.on("exit", () => stopped("the worker ended"));
      worker.on("messageerror", () => stopped("the worker sent something that cannot be read"));
    },
    terminate: () => void worker.terminate(),
  };
}
