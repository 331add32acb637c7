// Files of the machine that serves the page: `statepress serve` hands them out to its own page, and to nobody else.

import { StatepressError } from "statepress";

const HEADERS = { "x-statepress": "local" };

/** Whether this page is served by `statepress serve`, where a path can be opened; and the folder that it starts from. */
export async function localFolder(): Promise<string | undefined> {
  const response = await fetch("./local", { headers: HEADERS }).catch(() => undefined);
  if (!response?.ok || !response.headers.get("content-type")?.includes("json")) return undefined;
  return ((await response.json()) as { cwd: string }).cwd;
}

/** The files at a path: a file, or those of a folder. */
export async function localFiles(path: string, signal: AbortSignal): Promise<File[]> {
  const list = (await (await asked("list", path, signal)).json()) as { files: { name: string; path: string }[] };
  return Promise.all(
    list.files.map(async (file) => new File([await (await asked("file", file.path, signal)).blob()], file.name)),
  );
}

async function asked(what: "list" | "file", path: string, signal: AbortSignal): Promise<Response> {
  const response = await fetch(`./local/${what}?path=${encodeURIComponent(path)}`, { headers: HEADERS, signal });
  if (response.ok) return response;
  const { error } = (await response.json()) as { error: { message: string } };
  throw new StatepressError("io", error.message, { path });
}
