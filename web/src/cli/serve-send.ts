// Sends a file without holding it.

import { open } from "node:fs/promises";
import type { ServerResponse } from "node:http";
import { pipeline } from "node:stream/promises";
import { StatepressError } from "../api/errors.js";

/** Answers with the first `size` bytes of a file. What cannot be opened is an error before anything was sent. */
export async function sendFile(
  response: ServerResponse,
  path: string,
  size: number,
  headers: Record<string, string> = {},
): Promise<void> {
  const file = await open(path).catch((error: NodeJS.ErrnoException) => {
    throw new StatepressError("io", `${path} cannot be read: ${error.message}`, { path }, error);
  });
  response.writeHead(200, { "content-type": "application/octet-stream", ...headers, "content-length": size });
  if (size === 0) {
    await file.close();
    response.end();
    return;
  }
  // The length was promised: bytes that are appended meanwhile are not sent. A file that shrank, a read that failed and
  // a reader that left all end the connection, which is how the other side sees that something is missing.
  const stream = file.createReadStream({ end: size - 1 });
  await pipeline(stream, response).catch(() => response.destroy());
}
