// Brings what a lesson talks about into sight.

import { tick } from "svelte";

/** Scrolls to the first of these places that is on the page. */
export async function show(...selectors: string[]): Promise<void> {
  // What was just answered is on the page only then.
  await tick();
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  for (const selector of selectors) {
    const place = document.querySelector(selector);
    if (!place) continue;
    place.scrollIntoView({ behavior: still ? "auto" : "smooth", block: "start" });
    return;
  }
}
