// `serve`: the page and the built package over HTTP, on the loopback interface only.

import { readFile, stat } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { StatepressError } from "../api/errors.js";
import { acceptedEncoding, encoded } from "./serve-encoding.js";
import { HEADERS, pagePolicy } from "./serve-headers.js";
import { answerLocal, isLocal, newToken } from "./serve-local.js";
import { sendFile } from "./serve-send.js";

const TYPES: Record<string, string> = {
  ".html": "text/html; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".json": "application/json; charset=utf-8",
  ".txt": "text/plain; charset=utf-8",
  ".md": "text/plain; charset=utf-8",
  ".wasm": "application/wasm",
};

// Whose bytes shrink. Weights do not.
const COMPRESSIBLE = /; charset=utf-8$|^application\/wasm$/;

const PACKAGE = fileURLToPath(new URL("../../", import.meta.url));

// Address prefixes and the folders behind them. The demo checkpoint is part of a checkout, not of the npm package.
const ROOTS: [prefix: string, folder: string][] = [
  ["/statepress/dist/", join(PACKAGE, "dist")],
  ["/statepress/wasm/", join(PACKAGE, "wasm")],
  ["/demo/", join(PACKAGE, "../examples/demo")],
  ["/examples/", join(PACKAGE, "dist/examples")],
  ["/", join(PACKAGE, "dist/page")],
];

/** Starts serving; port 0 takes any free one. The address holds the token by which the page may open local paths. */
export async function serve(port: number): Promise<{ url: string; server: Server }> {
  const token = newToken();
  const server = createServer((request, response) => {
    answer(request, response, token).catch(() => refuse(response, 500));
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      const why: Record<string, string> = {
        EADDRINUSE: `port ${port} is in use`,
        EACCES: `port ${port} is not open to you: those below 1024 are the system's`,
      };
      const words = why[error.code ?? ""] ?? `port ${port}: ${error.message}`;
      reject(new StatepressError("io", `${words}; --port N takes another, --port 0 any free one`, { port }, error));
    });
    server.listen(port, "127.0.0.1", resolve);
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/#local=${token}`, server };
}

async function answer(request: IncomingMessage, response: ServerResponse, token: string): Promise<void> {
  for (const [name, value] of Object.entries(HEADERS)) response.setHeader(name, value);
  const address = request.url ?? "/";
  const url = URL.canParse(address, "http://localhost") ? new URL(address, "http://localhost") : undefined;
  if (!url) return refuse(response, 404);
  if (isLocal(url.pathname)) return answerLocal(request, url, response, token);
  if (request.method !== "GET" && request.method !== "HEAD") return refuse(response, 405);
  const path = fileAt(url.pathname);
  const about = path === undefined ? undefined : await stat(path).catch(() => undefined);
  if (path === undefined || !about?.isFile()) return refuse(response, 404);

  const type = TYPES[extname(path)] ?? "application/octet-stream";
  const encoding = COMPRESSIBLE.test(type) ? acceptedEncoding(request.headers["accept-encoding"]) : undefined;
  const etag = `"${[about.size, Math.round(1000 * about.mtimeMs)].map((it) => it.toString(36)).join("-")}${encoding ?? ""}"`;
  const headers: Record<string, string> = {
    "content-type": type,
    // A rebuilt package must be seen at the next reload: what is kept is asked about, which the tag makes cheap.
    "cache-control": "no-cache",
    etag,
    ...(COMPRESSIBLE.test(type) && { vary: "accept-encoding" }),
    ...(encoding && { "content-encoding": encoding }),
    ...(extname(path) === ".html" && { "content-security-policy": pagePolicy(await readFile(path, "utf8")) }),
  };
  if (isKnown(etag, request.headers["if-none-match"])) {
    response.writeHead(304, headers).end();
    return;
  }
  const bytes = encoding && (await encoded(path, about.mtimeMs, encoding));
  if (request.method === "GET" && !bytes) return sendFile(response, path, about.size, headers);
  response.writeHead(200, { ...headers, "content-length": bytes?.length ?? about.size });
  // Node sends no body after HEAD.
  response.end(bytes);
}

function isKnown(etag: string, known: string | undefined): boolean {
  if (known === undefined) return false;
  const tags = known.split(",").map((tag) => tag.trim().replace(/^W\//, ""));
  return tags.includes("*") || tags.includes(etag);
}

// The file behind an address, never outside its folder.
function fileAt(pathname: string): string | undefined {
  let path: string;
  try {
    path = decodeURIComponent(pathname);
  } catch {
    return undefined;
  }
  const [prefix, folder] = ROOTS.find(([start]) => path.startsWith(start)) ?? ["/", PACKAGE];
  const inside = normalize(`/${path.slice(prefix.length)}`);
  if (inside.includes("\0")) return undefined;
  return join(folder, /[\\/]$/.test(inside) ? `${inside}index.html` : inside);
}

function refuse(response: ServerResponse, status: number): void {
  if (!response.headersSent) response.writeHead(status, { "content-type": "text/plain" });
  response.end(`${status}\n`);
}
