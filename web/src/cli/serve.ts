// `serve`: the page and the built package over HTTP, on the loopback interface only.

import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { StatepressError } from "../api/errors.js";

const TYPES: Record<string, string> = {
  ".html": "text/html; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".json": "application/json; charset=utf-8",
  ".txt": "text/plain; charset=utf-8",
  ".md": "text/plain; charset=utf-8",
  ".wasm": "application/wasm",
  ".safetensors": "application/octet-stream",
};

const PACKAGE = fileURLToPath(new URL("../../", import.meta.url));

// Address prefixes and the folders behind them. The demo checkpoint is part of a checkout, not of the npm package.
const ROOTS: [prefix: string, folder: string][] = [
  ["/statepress/dist/", join(PACKAGE, "dist")],
  ["/statepress/wasm/", join(PACKAGE, "wasm")],
  ["/demo/", join(PACKAGE, "../examples/demo")],
  ["/", join(PACKAGE, "dist/page")],
];

/** Starts serving; port 0 takes any free one. */
export async function serve(port: number): Promise<{ url: string; server: Server }> {
  const server = createServer((request, response) => {
    answer(request.method ?? "GET", request.url ?? "/", response).catch(() => refuse(response, 500));
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      const message = error.code === "EADDRINUSE" ? `port ${port} is in use` : error.message;
      reject(new StatepressError("io", message, { port }));
    });
    server.listen(port, "127.0.0.1", resolve);
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, server };
}

async function answer(method: string, address: string, response: ServerResponse): Promise<void> {
  if (method !== "GET" && method !== "HEAD") return refuse(response, 405);
  const path = resolve(address);
  const about = path === undefined ? undefined : await stat(path).catch(() => undefined);
  if (path === undefined || !about?.isFile()) return refuse(response, 404);
  response.writeHead(200, {
    "content-type": TYPES[extname(path)] ?? "application/octet-stream",
    "content-length": about.size,
    // A rebuilt package must be seen at the next reload.
    "cache-control": "no-cache",
  });
  if (method === "HEAD") response.end();
  else createReadStream(path).pipe(response);
}

// The file behind an address, never outside its folder.
function resolve(address: string): string | undefined {
  let path: string;
  try {
    path = decodeURIComponent(new URL(address, "http://localhost").pathname);
  } catch {
    return undefined;
  }
  const [prefix, folder] = ROOTS.find(([start]) => path.startsWith(start)) ?? ["/", PACKAGE];
  const inside = normalize(`/${path.slice(prefix.length)}`);
  if (inside.includes("\0")) return undefined;
  return join(folder, inside === "/" ? "index.html" : inside);
}

function refuse(response: ServerResponse, status: number): void {
  if (!response.headersSent) response.writeHead(status, { "content-type": "text/plain" });
  response.end(`${status}\n`);
}
