// What every answer of `serve` tells the browser to forbid, and the built page itself on other servers (web/vite.policy.ts).

import { createHash } from "node:crypto";

const POLICY: Record<string, string> = {
  "default-src": "'none'",
  // The wasm module is compiled at run time, which a policy without this word forbids as it forbids eval().
  "script-src": "'self' 'wasm-unsafe-eval'",
  "worker-src": "'self'",
  "style-src": "'self'",
  "img-src": "'self' data: blob:",
  "connect-src": "'self' blob:",
  "base-uri": "'none'",
  "form-action": "'none'",
  "frame-ancestors": "'self'",
};

/** The headers of every answer. */
export const HEADERS: Record<string, string> = {
  "content-security-policy": policy(POLICY),
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "cross-origin-opener-policy": "same-origin",
};

/** What a page can say of itself: who may frame it is not heeded there. */
export function metaPolicy(): string {
  const { "frame-ancestors": _, ...directives } = POLICY;
  return policy(directives);
}

const IMPORT_MAP = /<script type="importmap">(.*?)<\/script>/gs;

/**
 * The policy of a page: an import map cannot be a file of its own, so those in its text are allowed by their hashes.
 * Other inline scripts stay forbidden.
 */
export function pagePolicy(html: string): string {
  const hashes = Array.from(html.matchAll(IMPORT_MAP), ([, map = ""]) => {
    return `'sha256-${createHash("sha256").update(map).digest("base64")}'`;
  });
  return policy({ ...POLICY, "script-src": [POLICY["script-src"], ...hashes].join(" ") });
}

function policy(directives: Record<string, string>): string {
  return Object.entries(directives)
    .map((directive) => directive.join(" "))
    .join("; ");
}
