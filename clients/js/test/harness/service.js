import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";

const ROOT = resolve(import.meta.dirname, "../../../..");

/** `MILEPOST_BINARY`, or what was built last. */
export function binary() {
  if (process.env.MILEPOST_BINARY) return process.env.MILEPOST_BINARY;
  const built = ["debug", "release"].map(profile => join(ROOT, "target", profile, "milepost")).filter(existsSync);
  if (built.length === 0) throw new Error("no milepost binary: cargo build, or set MILEPOST_BINARY");
  return built.sort((one, other) => statSync(other).mtimeMs - statSync(one).mtimeMs)[0];
}

/** @returns {Promise<number>} */
function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer().on("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
      server.close(() => resolve(port));
    });
  });
}

/** The service in a process of its own, which takes its address again after a kill. */
export class Service {
  /** @type {import("node:child_process").ChildProcess | null} */
  #process = null;
  #directory = mkdtempSync(join(tmpdir(), "milepost-js-"));

  /** @param {number} port */
  constructor(port) {
    this.port = port;
    this.url = `http://127.0.0.1:${port}`;
  }

  /** @param {number} [port] */
  static async start(port) {
    const service = new Service(port ?? (await freePort()));
    await service.live();
    return service;
  }

  async live() {
    const child = spawn(
      binary(),
      ["serve", "--listen", `127.0.0.1:${this.port}`, "--store", join(this.#directory, "store")],
      {
        stdio: ["ignore", "pipe", "pipe"],
        // The service refuses MILEPOST_BINARY, which is none of its variables.
        env: { PATH: process.env.PATH, MILEPOST_HTTP_CORS_ORIGINS: "*" },
      },
    );
    this.#process = child;
    // When a test fails in a way that leaves it behind.
    process.once("exit", () => child.kill("SIGKILL"));
    let words = "";
    child.stderr.on("data", data => (words += data));
    const lines = createInterface(child.stdout);
    await new Promise((resolve, reject) => {
      lines.once("line", resolve);
      child.once("exit", code => reject(new Error(`the service ended with ${code}: ${words}`)));
    });
  }

  /** kill -9 */
  async die() {
    const child = this.#process;
    this.#process = null;
    if (!child || child.exitCode !== null) return;
    const gone = new Promise(resolve => child.once("exit", resolve));
    child.kill("SIGKILL");
    await gone;
  }

  async restart() {
    await this.die();
    await this.live();
  }

  async stop() {
    await this.die();
    rmSync(this.#directory, { recursive: true, force: true });
  }
}
