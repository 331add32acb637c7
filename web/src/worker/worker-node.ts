// The worker thread that the library starts in Node, where work is shared.

import { parentPort } from "node:worker_threads";
import { answering } from "./answering.js";
import { nodePlatform } from "./platform-node.js";
import type { ToWorker } from "./protocol.js";
import { announced } from "./temporary-node.js";
import type { FromThread } from "./thread-node.js";

const post = (message: FromThread, transfer?: ArrayBuffer[]) => parentPort?.postMessage(message, transfer);

announced((path) => post({ type: "temporary", path }));
const receive = answering(nodePlatform, post);
parentPort?.on("message", (message: ToWorker) => receive(message));
