// Brings what was just asked for into sight.

import { tick } from "svelte";

/** Scrolls to an element and moves the focus to its title, `ID-title`. */
export async function show(id: string): Promise<void> {
  // What was just answered is on the page only then.
  await tick();
  const quiet = matchMedia("(prefers-reduced-motion: reduce)").matches;
  document.getElementById(id)?.scrollIntoView({ behavior: quiet ? "auto" : "smooth", block: "center" });
  document.getElementById(`${id}-title`)?.focus({ preventScroll: true });
}
