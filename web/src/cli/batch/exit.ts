// How a batch ends, for the engine that started it: whether to start it again.
//
// 0: all is done. 42: what failed will always fail. 75 (EX_TEMPFAIL of sysexits.h): what failed may pass the next time. 2 and
// 128 + n are those of every command.

import type { StatepressError } from "../../api/errors.js";

/** Never again: the file, the recipe or the options are what is wrong. */
export const PERMANENT = 42;

/** Again, later or elsewhere: the disk was full, a device failed, the process was killed. */
export const TRANSIENT = 75;

// What an operating system says of a name or of permissions is so on the next try as well; of the rest nobody knows.
const LASTING = new Set(["ENOENT", "ENOTDIR", "EISDIR", "EACCES", "EPERM", "EROFS", "ENAMETOOLONG", "ELOOP", "ENXIO"]);

/** Signals by which a machine, an engine or a user ends a process; other ones are its own fault. */
const FROM_OUTSIDE = new Set(["SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"]);

/** Whether the same work may do better the next time. */
export function mayPass({ code, facts }: StatepressError): boolean {
  const system = facts["system"];
  if (code === "io") return typeof system === "string" && !LASTING.has(system);
  if (code === "crashed") return typeof facts["signal"] === "string" && FROM_OUTSIDE.has(facts["signal"]);
  return code === "gpu-lost" || code === "gpu-out-of-memory";
}

/** The exit code of one failure. */
export function exitCodeOf(error: StatepressError): number {
  return mayPass(error) ? TRANSIENT : PERMANENT;
}
