// Serves the page and the client's modules, and keeps the service and a worker running until it is stopped.
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { parseArgs } from "node:util";
import { work } from "./worker.js";

const CLIENT = join(import.meta.dirname, "../../clients/js/src");
const { values } = parseArgs({
  options: {
    page: { type: "string", default: "127.0.0.1:8000" },
    service: { type: "string", default: "127.0.0.1:8080" },
  },
});

let service = "";
const site = createServer((request, answer) => {
  const path = new URL(request.url, "http://page").pathname;
  try {
    if (path === "/") {
      const page = readFileSync(join(import.meta.dirname, "index.html"), "utf8");
      answer.writeHead(200, { "content-type": "text/html; charset=utf-8" });
      answer.end(page.replaceAll("http://127.0.0.1:8080", service));
    } else if (path.startsWith("/milepost/")) {
      const module = readFileSync(join(CLIENT, basename(path)));
      answer.writeHead(200, { "content-type": "text/javascript; charset=utf-8" }).end(module);
    } else {
      answer.writeHead(404).end();
    }
  } catch {
    answer.writeHead(404).end();
  }
});
const [host, port] = values.page.split(":");
await new Promise(resolve => site.listen(Number(port), host, resolve));
const page = `http://${host}:${site.address().port}`;

const store = mkdtempSync(join(tmpdir(), "milepost-page-"));
const child = spawn(process.env.MILEPOST_BINARY, ["serve", "--listen", values.service, "--store", store], {
  stdio: ["ignore", "pipe", "inherit"],
  // The page is of another origin than the service, which must know it.
  env: { PATH: process.env.PATH, MILEPOST_HTTP_CORS_ORIGINS: page, MILEPOST_LOG_FILTER: "warn" },
});
const stop = () => child.kill("SIGTERM");
process.on("SIGINT", stop).on("SIGTERM", stop);
child.on("exit", code => {
  rmSync(store, { recursive: true, force: true });
  process.exit(code ?? 1);
});
// Its first line says where it listens.
child.stdout.once("data", line => {
  service = String(line).trim().replace("listening on ", "");
  console.log(`open ${page}`);
  void work(service);
});
