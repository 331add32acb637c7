// The report as one self-contained page: the same parts as on ours, mounted apart, with their style sheets inside.

import { flushSync, mount, unmount } from "svelte";
import { nameOf } from "../state/run.js";
import type { Opened, Run, Search } from "../state/state.js";
import parts from "../styles/parts.css?inline";
import tokens from "../styles/tokens.css?inline";
import Report from "./Report.svelte";
import style from "./report.css?inline";

/** The report of a run, with what a search has measured of its tensors, as HTML that needs nothing else. */
export function reportPage(checkpoint: Opened, run: Run, search: Search | undefined): string {
  const target = document.createElement("div");
  const report = mount(Report, { target, props: { checkpoint, run, search } });
  flushSync();
  // Svelte marks places in the markup with comments; nobody needs them any more.
  const body = target.innerHTML.replace(/<!--.*?-->/gs, "");
  void unmount(report);
  const title = `${checkpoint.name}, ${nameOf(run)}: statepress report`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escaped(title)}</title>
<style>
${tokens}
${parts}
${style}
</style>
</head>
<body>
${body}
</body>
</html>
`;
}

function escaped(text: string): string {
  return text.replace(/[&<>]/g, (it) => `&#${it.charCodeAt(0)};`);
}
