// Stopping at once: a step of work on a GPU may take seconds, and nobody who has pressed "Cancel" waits for it.

import { StatepressError } from "statepress";

/** The answer of some work, or the end of it as soon as it is called off; what comes of it later goes to `late`. */
export function promptly<T>(signal: AbortSignal, work: Promise<T>, late: (answer: T) => void = () => {}): Promise<T> {
  return new Promise((resolve, reject) => {
    let stopped = false;
    const stop = () => {
      stopped = true;
      reject(new StatepressError("aborted", "stopped on request"));
    };
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop, { once: true });
    work
      .then((answer) => (stopped ? late(answer) : resolve(answer)), reject)
      .finally(() => signal.removeEventListener("abort", stop));
  });
}
