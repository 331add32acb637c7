// Puts the text that is measured on when the user has none beside the page, with what its licence asks to be said: the
// demo checkpoint lies in a checkout alone, the text must be wherever the page is.

import { readFileSync } from "node:fs";
import type { Plugin } from "vite";

const FILES = ["heldout.txt", "CREDITS.md"];

/** Copies the text into the built page. */
export function heldout(): Plugin {
  return {
    name: "statepress-heldout",
    apply: "build",
    generateBundle() {
      for (const fileName of FILES) {
        const source = readFileSync(new URL(`../examples/demo/${fileName}`, import.meta.url));
        this.emitFile({ type: "asset", fileName, source });
      }
    },
  };
}
