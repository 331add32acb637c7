// `/local`: lets the page that `serve` serves open paths of this machine that the user pastes into it.
//
//   GET /local                 {"local": true, "cwd"}
//   GET /local/list?path=PATH  {"path", "files": [{"name", "size", "path"}]}: the file, or the files directly in a folder; absolute paths
//   GET /local/file?path=PATH  the bytes
//
// Nobody else may read the user's files through this server: neither another page in the user's browser, nor another
// user or process of this machine. Every request must carry the token of this start, which is in the address that is
// announced and in nothing that is served; in a header that a page of another origin cannot send without asking first (a
// CORS preflight, which is refused). And it must be addressed to the loopback interface by name: a foreign name that was
// made to resolve to it (DNS rebinding) has an origin of its own choice.

import { randomBytes, timingSafeEqual } from "node:crypto";
import type { Stats } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";
import { homedir } from "node:os";
import { basename, join, resolve } from "node:path";
import { type ErrorCode, StatepressError } from "../api/errors.js";
import { sendFile } from "./serve-send.js";

/** One file that can be asked for. */
interface LocalFile {
  name: string;
  size: number;
  path: string;
}

const STATUS: Partial<Record<ErrorCode, number>> = { "bad-option": 400, "bad-input": 404 };

/** What a request must know: 128 random bits. */
export function newToken(): string {
  return randomBytes(16).toString("base64url");
}

/** Whether an address belongs here. */
export function isLocal(pathname: string): boolean {
  return pathname === "/local" || pathname.startsWith("/local/");
}

/** Answers a request for `/local` or below. */
export async function answerLocal(
  request: IncomingMessage,
  url: URL,
  response: ServerResponse,
  token: string,
): Promise<void> {
  response.setHeader("cache-control", "no-store");
  try {
    if (!isOurPage(request, token)) {
      const message = "only the page at the address that `statepress serve` printed may ask for files";
      return refuse(response, 403, "unsupported", message);
    }
    if (request.method !== "GET") return refuse(response, 405, "unsupported", `${request.method} is not GET`);
    switch (url.pathname) {
      case "/local":
        return sendJson(response, 200, { local: true, cwd: process.cwd() });
      case "/local/list":
        return sendJson(response, 200, await list(asked(url)));
      case "/local/file": {
        const path = asked(url);
        const about = await look(path);
        if (!about.isFile()) throw new StatepressError("bad-input", `${path} is not a file`, { path });
        return await sendFile(response, path, about.size);
      }
      default:
        return refuse(response, 404, "bad-input", `there is no ${url.pathname}`);
    }
  } catch (thrown) {
    if (!(thrown instanceof StatepressError)) throw thrown;
    refuse(response, STATUS[thrown.code] ?? 500, thrown.code, thrown.message);
  }
}

function isOurPage({ headers, socket }: IncomingMessage, token: string): boolean {
  const hosts = ["127.0.0.1", "localhost"].map((name) => `${name}:${socket.localPort}`);
  // The default port is left out.
  if (socket.localPort === 80) hosts.push("127.0.0.1", "localhost");
  const { host = "", origin, "sec-fetch-site": site } = headers;
  return (
    isSame(headers["x-statepress"], token) &&
    hosts.includes(host) &&
    (origin === undefined || origin === `http://${host}`) &&
    (site === undefined || site === "same-origin")
  );
}

// In a time that does not depend on where the two differ.
function isSame(given: string | string[] | undefined, token: string): boolean {
  const [a, b] = [Buffer.from(String(given)), Buffer.from(token)];
  return a.length === b.length && timingSafeEqual(a, b);
}

// The path that was asked for, absolute.
function asked(url: URL): string {
  const path = url.searchParams.get("path") ?? "";
  if (path === "" || path.includes("\0")) throw new StatepressError("bad-option", "path is missing");
  const home = path === "~" || path.startsWith("~/") || path.startsWith("~\\");
  return resolve(home ? join(homedir(), path.slice(1)) : path);
}

async function list(path: string): Promise<{ path: string; files: LocalFile[] }> {
  const about = await look(path);
  if (about.isFile()) {
    return { path, files: [{ name: basename(path), size: about.size, path }] };
  }
  if (!about.isDirectory()) throw new StatepressError("bad-input", `${path} is neither a file nor a folder`, { path });
  const names = await readdir(path).catch((error) => unreadable(path, error));
  const files: LocalFile[] = [];
  for (const name of names.sort()) {
    const inside = join(path, name);
    // What cannot be looked at, such as a link to nothing, is no file.
    const it = await stat(inside).catch(() => undefined);
    if (it?.isFile()) files.push({ name, size: it.size, path: inside });
  }
  return { path, files };
}

function look(path: string): Promise<Stats> {
  return stat(path).catch((error) => unreadable(path, error));
}

function unreadable(path: string, error: NodeJS.ErrnoException): never {
  const missing = error.code === "ENOENT" || error.code === "ENOTDIR";
  const message = missing ? `${path} does not exist` : `${path} cannot be read: ${error.message}`;
  throw new StatepressError(missing ? "bad-input" : "io", message, { path }, error);
}

function refuse(response: ServerResponse, status: number, code: string, message: string): void {
  sendJson(response, status, { error: { code, message } });
}

function sendJson(response: ServerResponse, status: number, value: object): void {
  response.writeHead(status, { "content-type": "application/json; charset=utf-8" });
  response.end(JSON.stringify(value));
}
