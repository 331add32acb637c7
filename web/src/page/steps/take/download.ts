// Hands a Blob to the browser's downloads.

/** Downloads under a name. */
export function download(blob: Blob, name: string): void {
  const address = URL.createObjectURL(blob);
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  // The download has its own hold on the Blob once it has begun.
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
