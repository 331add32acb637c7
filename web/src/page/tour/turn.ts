// Brings a part of the panel into sight.

import { tick } from "svelte";
import { scrolling } from "../steps/show.js";

/** Scrolls the panel, and nothing else, to a place in it that is not wholly in sight. */
export async function turnTo(id: string): Promise<void> {
  await tick();
  const place = document.getElementById(id)?.getBoundingClientRect();
  const panel = document.getElementById("tour-body");
  const room = panel?.getBoundingClientRect();
  if (!place || !room || (place.top >= room.top && place.bottom <= room.bottom)) return;
  panel?.scrollBy({ top: place.top - room.top, behavior: scrolling() });
}
