import { Agent, createServer, request } from "node:http";

/**
 * A proxy before the service that does what bad networks do, and counts.
 *
 * - `cuts`: how many of the answers, of 1, break off: before the request has reached the service, after it did what was
 *   asked, or in the middle of the answer. Streams are cut after up to `streamMs`, at any byte.
 * - `delayMs`: requests are held back for up to so long.
 * - `duplicates`: how many of the requests that change something are sent twice.
 * - `holdsBack`: nothing of an answer is passed on before its end, as by proxies that buffer.
 * - `refuses`: paths that are answered 502.
 */
export class Proxy {
  cuts = 0;
  delayMs = 0;
  duplicates = 0;
  streamMs = 400;
  holdsBack = false;
  refuses = /^$/;
  /** What it has done, so that a test can tell that it was not spared. */
  did = { cut: 0, duplicated: 0, requests: 0 };
  /** Streams that are open, the most there were at once, and how many were opened, by what they are. */
  feeds = { open: 0, most: 0, opened: 0 };
  tails = { open: 0, most: 0, opened: 0 };
  #agent = new Agent({ keepAlive: true });
  #seed = 1;
  /** @type {Set<import("node:net").Socket>} */
  #sockets = new Set();

  /** @param {string} upstream */
  constructor(upstream) {
    this.upstream = new URL(upstream);
    this.server = createServer((asked, answer) => void this.#pass(asked, answer));
    this.server.on("connection", socket => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket)).on("error", () => {});
    });
  }

  /** @param {string} upstream @param {Partial<Proxy>} [faults] */
  static async start(upstream, faults = {}) {
    const proxy = Object.assign(new Proxy(upstream), faults);
    await new Promise(resolve => proxy.server.listen(0, "127.0.0.1", () => resolve(undefined)));
    const { port } = /** @type {import("node:net").AddressInfo} */ (proxy.server.address());
    return Object.assign(proxy, { url: `http://127.0.0.1:${port}` });
  }

  url = "";

  /** All connections are lost at once. */
  cutAll() {
    for (const socket of this.#sockets) socket.destroy();
  }

  stop() {
    this.server.close();
    this.cutAll();
    this.#agent.destroy();
  }

  /** The same in each run. */
  #random() {
    this.#seed = (this.#seed * 48271) % 2147483647;
    return this.#seed / 2147483647;
  }

  /** @param {import("node:http").IncomingMessage} asked @param {import("node:http").ServerResponse} answer */
  async #pass(asked, answer) {
    this.did.requests += 1;
    const chunks = [];
    for await (const chunk of asked) chunks.push(chunk);
    const body = Buffer.concat(chunks);
    const path = asked.url ?? "/";
    if (this.refuses.test(path)) return answer.writeHead(502, { "access-control-allow-origin": "*" }).end();
    if (this.delayMs > 0) await new Promise(resolve => setTimeout(resolve, this.#random() * this.delayMs));
    const cut = this.#random() < this.cuts ? this.#random() : null;
    const cutOff = () => {
      this.did.cut += 1;
      asked.socket.destroy();
    };
    // Before it has reached the service.
    if (cut !== null && cut < 0.3) return cutOff();
    const isChange = !["GET", "OPTIONS"].includes(asked.method ?? "");
    if (isChange && this.#random() < this.duplicates) {
      this.did.duplicated += 1;
      await new Promise(resolve => this.#send(asked, body, found => found.resume().on("close", resolve), resolve));
    }
    const found = await new Promise(resolve => this.#send(asked, body, resolve, () => resolve(null)));
    if (!found) return answer.headersSent || answer.destroyed || answer.writeHead(502).end();
    // After it has, so that nobody learns of it.
    if (cut !== null && cut < 0.7) return cutOff();
    answer.on("close", () => found.destroy());
    found.on("error", () => asked.socket.destroy());
    const isStream = found.headers["content-type"] === "text/event-stream";
    if (isStream) this.#count(path.startsWith("/events") ? this.feeds : this.tails, answer);
    if (isStream && this.cuts > 0) setTimeout(() => answer.writableEnded || cutOff(), this.#random() * this.streamMs);
    if (this.holdsBack) {
      /** @type {Buffer[]} */
      const whole = [];
      found.on("data", (/** @type {Buffer} */ chunk) => whole.push(chunk));
      found.on("end", () => answer.writeHead(found.statusCode, found.headers).end(Buffer.concat(whole)));
      found.on("aborted", () => asked.socket.destroy());
      return;
    }
    answer.writeHead(found.statusCode, found.headers).flushHeaders();
    found.on("data", (/** @type {Buffer} */ data) => {
      const half = !isStream && cut !== null;
      answer.write(half ? data.subarray(0, data.length / 2) : data);
      if (half) setTimeout(cutOff, 1);
    });
    found.on("end", () => answer.end());
    found.on("aborted", () => asked.socket.destroy());
  }

  /** @param {Proxy["feeds"]} count @param {import("node:http").ServerResponse} answer */
  #count(count, answer) {
    count.opened += 1;
    count.open += 1;
    count.most = Math.max(count.most, count.open);
    answer.on("close", () => (count.open -= 1));
  }

  /**
   * @param {import("node:http").IncomingMessage} asked
   * @param {Buffer} body
   * @param {(found: import("node:http").IncomingMessage) => void} onAnswer
   * @param {(error: unknown) => void} onError
   */
  #send({ method, url, headers }, body, onAnswer, onError) {
    const { hostname, port } = this.upstream;
    request({ hostname, port, method, path: url, headers, agent: this.#agent }, onAnswer)
      .on("error", onError)
      .end(body);
  }
}
