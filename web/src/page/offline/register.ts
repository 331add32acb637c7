// Asks for the service worker that makes the page work offline.

/**
 * Resolves when the page would work offline, or with `unavailable` where that cannot be had: in a browser without service
 * workers, on an address that is not secure, while developing, or when a file could not be kept.
 */
export async function registerOffline(): Promise<"ready" | "unavailable"> {
  if (!("serviceWorker" in navigator)) return "unavailable";
  try {
    const registration = await navigator.serviceWorker.register("service-worker.js");
    if (registration.active) return "ready";
    const worker = registration.installing ?? registration.waiting;
    return worker ? await settled(worker) : "unavailable";
  } catch {
    return "unavailable";
  }
}

function settled(worker: ServiceWorker): Promise<"ready" | "unavailable"> {
  return new Promise((resolve) => {
    const look = () => {
      if (worker.state === "activated") resolve("ready");
      if (worker.state === "redundant") resolve("unavailable");
    };
    worker.addEventListener("statechange", look);
    look();
  });
}
