// Writes into the page what it forbids itself, for servers that say nothing of it: the policy of `statepress serve`.

import type { Plugin } from "vite";
import { metaPolicy } from "./src/cli/serve-headers.ts";

const PLACE = "__POLICY__";

/** Fills in the Content-Security-Policy of index.html. */
export function policy(): Plugin {
  return {
    name: "statepress-policy",
    transformIndexHtml(html) {
      if (!html.includes(PLACE)) throw new Error(`index.html does not ask for ${PLACE}`);
      return html.replace(PLACE, metaPolicy);
    },
  };
}
