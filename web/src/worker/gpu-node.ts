// WebGPU in Node: the npm package `webgpu` (Dawn), if it is installed, put where a browser has it.

import { tmpdir } from "node:os";

/** The part of the package `webgpu` that is used. */
interface Dawn {
  create(options: string[]): object;
  globals: Record<string, unknown>;
}

let installed: Promise<string | undefined> | undefined;

/** Makes `navigator.gpu` be there; answers why it is not. */
export function installGpu(): Promise<string | undefined> {
  installed ??= install();
  return installed;
}

async function install(): Promise<string | undefined> {
  const scope = globalThis as unknown as Record<string, unknown>;
  if ((scope["navigator"] as { gpu?: object } | undefined)?.gpu) return undefined;
  let dawn: Dawn;
  try {
    // Not a literal: the package is optional, and neither the compiler nor a bundler may look for it.
    const name: string = "webgpu";
    dawn = (await import(name)) as Dawn;
  } catch (error) {
    const missing = (error as { code?: string }).code === "ERR_MODULE_NOT_FOUND";
    return missing
      ? "the npm package webgpu is not installed (npm install webgpu)"
      : `the npm package webgpu cannot be loaded: ${(error as Error).message}`;
  }
  // Mesa's drivers print errors where this is not set, as in a container.
  if (process.platform === "linux") process.env["XDG_RUNTIME_DIR"] ??= tmpdir();
  Object.assign(scope, dawn.globals);
  const gpu = dawn.create([]);
  // Dawn's set of language features has keys() that is no iterator, which wgpu needs it to be.
  const features = new Set((gpu as { wgslLanguageFeatures: Iterable<string> }).wgslLanguageFeatures);
  Object.defineProperty(gpu, "wgslLanguageFeatures", { value: features });
  const navigator = { gpu, userAgent: `Node.js/${process.versions.node}` };
  Object.defineProperty(scope, "navigator", { value: navigator, configurable: true, writable: true });
  // wgpu looks for a window or a worker's scope, and then for its navigator.
  scope["Window"] ??= Object.defineProperty(() => {}, Symbol.hasInstance, {
    value: (value: unknown) => value === globalThis,
  });
  return undefined;
}
