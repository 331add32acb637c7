// Brings what a lesson talks about into sight, on the page and in the panel.

import { tick } from "svelte";

/** Scrolls to the first of these places that is on the page. */
export async function show(...selectors: string[]): Promise<void> {
  // What was just answered is on the page only then.
  await tick();
  for (const selector of selectors) {
    const place = document.querySelector(selector);
    if (!place) continue;
    place.scrollIntoView({ behavior: behavior(), block: "start" });
    return;
  }
}

/** Scrolls the panel, and nothing else, to a place in it that is not wholly in sight. */
export async function turnTo(selector: string): Promise<void> {
  await tick();
  const place = document.querySelector(selector)?.getBoundingClientRect();
  const panel = document.getElementById("tour-body");
  const room = panel?.getBoundingClientRect();
  if (!place || !room || (place.top >= room.top && place.bottom <= room.bottom)) return;
  panel?.scrollBy({ top: place.top - room.top, behavior: behavior() });
}

function behavior(): ScrollBehavior {
  return matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth";
}
