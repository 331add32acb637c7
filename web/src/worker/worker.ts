// The worker that a page's library starts.

import { answering } from "./answering.js";
import { webPlatform } from "./platform-web.js";
import type { FromWorker, ToWorker } from "./protocol.js";

const scope = globalThis as unknown as {
  postMessage(message: FromWorker, transfer?: Transferable[]): void;
  onmessage: (event: MessageEvent<ToWorker>) => void;
};

const receive = answering(webPlatform, (message, transfer) => scope.postMessage(message, transfer));
scope.onmessage = ({ data }) => receive(data);
