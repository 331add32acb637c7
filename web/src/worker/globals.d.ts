// What TypeScript's DOM library does not know: workers' synchronous file reader, and the built glue.

declare class FileReaderSync {
  readAsArrayBuffer(blob: Blob): ArrayBuffer;
}

declare module "*/statepress_wasm.js";
