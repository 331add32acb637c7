// The command serve: the page on this machine, until a signal comes.

import type { Run } from "./command.js";
import { serve } from "./serve.js";

export async function serveCommand({ args, output, signal }: Run): Promise<number> {
  const { url, server } = await serve(args.number("port") ?? 8080);
  output.result({ url }, () => `${url}  (Ctrl-C stops)`);
  await new Promise<void>((resolve) => {
    server.on("close", resolve);
    signal.addEventListener("abort", () => {
      server.close();
      server.closeAllConnections();
    });
  });
  return 0;
}
