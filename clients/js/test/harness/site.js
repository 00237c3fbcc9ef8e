import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { extname, join, normalize, resolve } from "node:path";

const TYPES = /** @type {Record<string, string>} */ ({
  ".html": "text/html",
  ".js": "text/javascript",
  ".css": "text/css",
});

/**
 * Serves pages that are given as text, and files of a directory, from an origin of its own.
 *
 * @param {Record<string, string>} pages by their paths
 * @param {string} [files] this package, if not given
 */
export async function serveSite(pages, files = resolve(import.meta.dirname, "../..")) {
  const server = createServer(async (request, answer) => {
    const path = normalize(new URL(request.url ?? "/", "http://site").pathname);
    const type = TYPES[extname(path)] ?? "text/html";
    try {
      const text = pages[path] ?? (await readFile(join(files, path)));
      answer.writeHead(200, { "content-type": `${type}; charset=utf-8`, "access-control-allow-origin": "*" }).end(text);
    } catch {
      answer.writeHead(404).end();
    }
  });
  await new Promise(resolve => server.listen(0, "127.0.0.1", () => resolve(undefined)));
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  return { url: `http://127.0.0.1:${port}`, stop: () => (server.close(), server.closeAllConnections()) };
}
