// Makes the page work offline once it was loaded: network first, what was kept where there is none.
//
// The browser compares this file, in which the list of kept files stands, at every visit: a rebuilt page is another
// version, which keeps its files anew. The demo is kept when it is first fetched. Everything else passes by: a checkpoint
// that a lesson fetches may be gigabytes, and the user's own files are nobody's to keep.

/// <reference lib="webworker" />

import { bestBuild } from "../../worker/builds.js";

declare const self: ServiceWorkerGlobalScope;

/** Addresses relative to the folder of the page; written by web/vite.precache.ts. */
interface OfflineFiles {
  /** A digest of the files. */
  version: string;
  /** What every visitor needs. */
  files: string[];
  /** The files of each wasm build, of which a visitor needs one. */
  builds: Record<string, string[]>;
}

declare const __OFFLINE_FILES__: OfflineFiles;
const offline = __OFFLINE_FILES__;

const SCOPE = self.registration.scope;
/** Caches belong to the whole origin, on which another copy of the page may lie in another folder. */
const OURS = `statepress ${SCOPE} `;
const CACHE = OURS + offline.version;

/** Part of this version. The page has two addresses; of the builds another visitor's browser may take another one. */
const BUILT = new Set([...offline.files, ...Object.values(offline.builds).flat(), "index.html"]);
const DEMO = "demo/";

self.addEventListener("install", (event) => event.waitUntil(keepAll()));
self.addEventListener("activate", (event) => event.waitUntil(takeOver()));
self.addEventListener("fetch", (event) => {
  if (isKept(event.request)) event.respondWith(answer(event));
});

// All or nothing: without one of them the page would not work offline, and says so.
async function keepAll(): Promise<void> {
  const build = offline.builds[bestBuild()] ?? [];
  const cache = await caches.open(CACHE);
  // Most of them the page has just loaded: the server is asked whether they are still the same.
  await cache.addAll(
    [...offline.files, ...build].map((name) => new Request(new URL(name, SCOPE), { cache: "no-cache" })),
  );
  await self.skipWaiting();
}

async function takeOver(): Promise<void> {
  const cache = await caches.open(CACHE);
  for (const name of await caches.keys()) {
    if (!name.startsWith(OURS) || name === CACHE) continue;
    const old = await caches.open(name);
    for (const request of await old.keys()) {
      const response = isOfDemo(request.url) ? await old.match(request) : undefined;
      if (response) await cache.put(request, response);
    }
    await caches.delete(name);
  }
  await self.clients.claim();
}

function isOfDemo(url: string): boolean {
  return pathOf(url).startsWith(DEMO);
}

// The path of an address inside the page's folder, as the list has it.
function pathOf(url: string): string {
  const { origin, pathname } = new URL(url);
  return (origin + pathname).slice(SCOPE.length) || "./";
}

function isKept({ method, url, headers }: Request): boolean {
  if (method !== "GET" || !url.startsWith(SCOPE) || headers.has("range")) return false;
  return BUILT.has(pathOf(url)) || isOfDemo(url);
}

async function answer(event: FetchEvent): Promise<Response> {
  const { request } = event;
  try {
    const response = await fetch(request);
    if (response.ok && response.type === "basic") event.waitUntil(keep(request, response.clone()));
    return response;
  } catch (error) {
    // A page has one content whatever stands behind its `?`.
    const kept = await caches.match(request, { cacheName: CACHE, ignoreSearch: request.mode === "navigate" });
    if (kept) return kept;
    throw error;
  }
}

async function keep(request: Request, response: Response): Promise<void> {
  // What this version still answered while the next one took over would make its cache anew, and nobody would delete that.
  if (!(await caches.has(CACHE))) return;
  const cache = await caches.open(CACHE);
  await cache.put(request, response);
}
