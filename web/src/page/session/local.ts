// Files of the machine that serves the page: `statepress serve` hands them out to whoever knows its token.
//
// The token is in the address that `serve` prints, and nowhere else: `#local=TOKEN`, which no browser sends anywhere. It
// is taken out of the address at once, so that an address that is copied or bookmarked does not hold it, and kept for
// this tab alone. A page that was opened by another address cannot open paths, and does not offer it.

import { type Finding, StatepressError } from "statepress";
import { choose, type LocalFile } from "./local-choice.js";

const KEY = "statepress local";

let token: string | undefined;

/** Takes the token out of the address, before anybody else reads that; or the one that this tab has kept. */
export function takeToken(): void {
  token ??= kept();
  const fields = new URLSearchParams(location.hash.slice(1));
  const given = fields.get("local");
  if (given === null) return;
  token = given;
  try {
    sessionStorage.setItem(KEY, given);
  } catch {
    // Storage is forbidden: the token lasts until the page is loaded anew.
  }
  fields.delete("local");
  const rest = fields.size > 0 ? `#${fields}` : "";
  history.replaceState(history.state, "", location.pathname + location.search + rest);
}

function kept(): string | undefined {
  try {
    return sessionStorage.getItem(KEY) ?? undefined;
  } catch {
    return undefined;
  }
}

/** The folder that `statepress serve` was started in; undefined where no path can be opened. */
export async function localFolder(): Promise<string | undefined> {
  if (token === undefined) return undefined;
  const response = await fetch("./local", { headers: { "x-statepress": token } }).catch(() => undefined);
  if (!response?.ok) return undefined;
  const about = (await response.json().catch(() => undefined)) as { cwd?: string } | undefined;
  return about?.cwd;
}

/** The files at a path, and the path as any program understands it: absolute. */
export interface LocalFiles {
  path: string;
  files: File[];
  /** What was not fetched, though it might have been meant. */
  findings: Finding[];
}

/** The file at a path, or those of a folder that are needed to open it. */
export async function localFiles(path: string, signal: AbortSignal): Promise<LocalFiles> {
  const list = (await (await asked("list", path, signal)).json()) as { path: string; files: LocalFile[] };
  const files: File[] = [];
  // One after the other: what fails or is called off must not leave gigabytes on their way.
  const chosen = choose(list.files);
  for (const file of chosen.files) {
    const response = await asked("file", file.path, signal);
    files.push(new File([await response.blob()], file.name));
  }
  return { path: list.path, files, findings: chosen.findings };
}

async function asked(what: "list" | "file", path: string, signal: AbortSignal): Promise<Response> {
  const headers = { "x-statepress": token ?? "" };
  const address = `./local/${what}?path=${encodeURIComponent(path)}`;
  const response = await fetch(address, { headers, signal }).catch((error) => {
    if (signal.aborted) throw error;
    throw new StatepressError("io", `the server of this page did not answer when it was asked for ${path}`, { path });
  });
  if (response.ok) return response;
  const answer = (await response.json().catch(() => undefined)) as { error?: { message?: string } } | undefined;
  const message = answer?.error?.message ?? `the server answered ${response.status} when it was asked for ${path}`;
  throw new StatepressError("io", message, { path, status: response.status });
}

/** A path as it was meant: file managers and terminals copy it in quotes. */
export function unquoted(pasted: string): string {
  return pasted.trim().replace(/^(["'])(.*)\1$/, "$2");
}
