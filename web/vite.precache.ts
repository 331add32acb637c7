// Tells the service worker of the built page what to keep for offline use: every file that the page may ask for, known
// once everything is written. TypeScript and wasm are built before the page (see pkg-scripts/build).

import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Plugin } from "vite";

const WORKER = "service-worker.js";
const PLACE = "__OFFLINE_FILES__";
const BUILDS = ["base", "simd", "relaxed"];

/** Writes the list into the service worker: `OfflineFiles` of src/page/offline/service-worker.ts. */
export function precache(): Plugin {
  return {
    name: "statepress-precache",
    apply: "build",
    writeBundle({ dir = "" }) {
      const hash = createHash("sha256");
      const add = (path: string, address: string) => {
        hash.update(address).update("\0").update(readFileSync(path));
        return address;
      };
      const walk = (folder: string) => readdirSync(folder, { recursive: true, encoding: "utf8" }).sort();

      const page = walk(dir)
        .filter((name) => name !== WORKER && /\.\w+$/.test(name))
        .map((name) => add(join(dir, name), name === "index.html" ? "./" : name));
      const modules = ["api", "worker", "tokenizer", "vendor"].flatMap((part) =>
        walk(join(dir, "..", part))
          .filter((name) => name.endsWith(".js") && isForPages(join(dir, "..", part, name)))
          .map((name) => add(join(dir, "..", part, name), `statepress/dist/${part}/${name}`)),
      );
      const builds = BUILDS.map((build) => {
        const names = ["statepress_wasm.js", "statepress_wasm_bg.wasm"];
        const files = names.map((name) =>
          add(join(dir, "../../wasm", build, name), `statepress/wasm/${build}/${name}`),
        );
        return [build, files];
      });

      const path = join(dir, WORKER);
      const files = [...page, ...modules].map((name) => name.replaceAll("\\", "/"));
      const list = { version: "", files, builds: Object.fromEntries(builds) };
      const code = readFileSync(path, "utf8");
      list.version = hash.update(code).digest("hex").slice(0, 16);
      if (!code.includes(PLACE)) this.error(`${WORKER} does not ask for ${PLACE}`);
      writeFileSync(
        path,
        code.replaceAll(PLACE, () => JSON.stringify(list)),
      );
    },
  };
}

// The package's modules for Node lie among the others.
function isForPages(path: string): boolean {
  return !/from "node:/.test(readFileSync(path, "utf8"));
}
