// How the playground is built: a client of the package, which it loads as it is published and never bundles.

import { fileURLToPath } from "node:url";
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";
import { heldout } from "./vite.heldout.ts";
import { policy } from "./vite.policy.ts";
import { precache } from "./vite.precache.ts";

/** Entries whose addresses others write down: they keep their names. */
const NAMED = ["service-worker", "statepress-compare"];

export default defineConfig({
  root: "src/page",
  // Not beside the sources, where what it keeps would look like a change of them.
  cacheDir: fileURLToPath(new URL("node_modules/.vite", import.meta.url)),
  // Relative addresses: the built page works in any folder of any server.
  base: "./",
  plugins: [svelte(), policy(), heldout(), precache()],
  build: {
    outDir: "../../dist/page",
    emptyOutDir: true,
    target: "es2023",
    // The first that know light-dark(): what older ones would need instead only works where the scheme is set.
    cssTarget: ["chrome123", "edge123", "firefox120", "safari17.5"],
    modulePreload: false,
    // One file for all: a part of the page that is fetched later would stay without its styles once they could not be had.
    cssCodeSplit: false,
    rolldownOptions: {
      input: {
        index: "src/page/index.html",
        "statepress-compare": "src/page/embed/statepress-compare.ts",
        "service-worker": "src/page/offline/service-worker.ts",
      },
      external: ["statepress"],
      output: {
        // All files lie in one folder, so that one relative address of the package is right in each.
        entryFileNames: ({ name }) => (NAMED.includes(name) ? "[name].js" : "[name]-[hash].js"),
        chunkFileNames: "[name]-[hash].js",
        assetFileNames: "[name]-[hash][extname]",
        paths: { statepress: "./statepress/dist/api/web.js" },
      },
    },
  },
  test: { include: ["**/*.test.ts"] },
});
