// Brings what is spoken of into sight.

import { tick } from "svelte";

/** Scrolls to an element. */
export async function show(id: string): Promise<void> {
  // What was just answered is on the page only then.
  await tick();
  document.getElementById(id)?.scrollIntoView({ behavior: scrolling(), block: "start" });
}

/** Scrolls to an element and moves the focus to its title, `ID-title`: whoever asked for it goes on there. */
export async function goTo(id: string): Promise<void> {
  await show(id);
  document.getElementById(`${id}-title`)?.focus({ preventScroll: true });
}

/** How to scroll: at once where motion is not wanted. */
export function scrolling(): ScrollBehavior {
  return matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth";
}
