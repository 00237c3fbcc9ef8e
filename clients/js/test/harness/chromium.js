import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--disable-dev-shm-usage",
  "--remote-debugging-pipe",
];

/**
 * Headless Chromium, told what to do over its DevTools protocol (https://chromedevtools.github.io/devtools-protocol/),
 * through a pipe: messages that end with NUL, on the descriptors 3 and 4.
 */
export class Chromium {
  #profile = mkdtempSync(join(tmpdir(), "milepost-chromium-"));
  #process = spawn("chromium", [...FLAGS, `--user-data-dir=${this.#profile}`], {
    stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"],
  });
  #calls = 0;
  #rest = "";
  /** @type {Map<number, {resolve: (result: any) => void, reject: (error: Error) => void}>} */
  #waiting = new Map();
  /** @type {((message: any) => void)[]} */
  listeners = [];

  constructor() {
    const words = /** @type {import("node:stream").Readable} */ (this.#process.stdio[4]);
    words.setEncoding("utf8").on("data", text => this.#hear(text));
    const gone = (/** @type {unknown} */ why) => {
      for (const { reject } of this.#waiting.values()) reject(new Error(`chromium is gone: ${why}`));
    };
    this.#process.on("error", gone).on("exit", gone);
  }

  /** @param {string} text */
  #hear(text) {
    const messages = (this.#rest + text).split("\0");
    this.#rest = messages.pop() ?? "";
    for (const message of messages.map(text => JSON.parse(text))) {
      const call = this.#waiting.get(message.id);
      this.#waiting.delete(message.id);
      if (message.error) call?.reject(new Error(JSON.stringify(message.error)));
      else call?.resolve(message.result);
      if (message.method) for (const listener of this.listeners) listener(message);
    }
  }

  /** @param {string} method @param {object} [params] @param {string} [sessionId] @returns {Promise<any>} */
  call(method, params = {}, sessionId) {
    const id = ++this.#calls;
    const told = new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
    const pipe = /** @type {import("node:stream").Writable} */ (this.#process.stdio[3]);
    pipe.write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    return told;
  }

  /** A page of this address, once it has loaded. @param {string} url */
  async open(url) {
    const { targetId } = await this.call("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await this.call("Target.attachToTarget", { targetId, flatten: true });
    const page = new Page(this, targetId, sessionId);
    await Promise.all([page.call("Page.enable"), page.call("Runtime.enable")]);
    await page.visit(url);
    return page;
  }

  async stop() {
    const gone = new Promise(resolve => this.#process.once("exit", resolve));
    // Not killed: its own processes would live on for a while and write into its profile.
    this.call("Browser.close").catch(() => {});
    await gone;
    rmSync(this.#profile, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
  }
}

/** A page in a browser. */
export class Page {
  /** What went wrong in it. @type {string[]} */
  errors = [];
  #onLoad = () => {};

  /** @param {Chromium} browser @param {string} target @param {string} session */
  constructor(browser, target, session) {
    this.browser = browser;
    this.target = target;
    this.session = session;
    browser.listeners.push(({ method, sessionId, params }) => {
      if (sessionId !== session) return;
      if (method === "Page.loadEventFired") this.#onLoad();
      if (method === "Runtime.exceptionThrown") this.errors.push(JSON.stringify(params.exceptionDetails));
    });
  }

  /** @param {string} method @param {object} [params] */
  call(method, params) {
    return this.browser.call(method, params, this.session);
  }

  /** @param {string} url */
  async visit(url) {
    const loaded = new Promise(resolve => (this.#onLoad = () => resolve(undefined)));
    await this.call("Page.navigate", { url });
    await loaded;
  }

  /** What a script comes to. @param {string} expression @returns {Promise<any>} */
  async run(expression) {
    const what = { expression, awaitPromise: true, returnByValue: true, userGesture: true };
    const { result, exceptionDetails } = await this.call("Runtime.evaluate", what);
    if (exceptionDetails) throw new Error(`${expression}: ${JSON.stringify(exceptionDetails)} ${this.errors}`);
    return result.value;
  }

  /** What an expression comes to, once that is something that counts as true. @param {string} expression */
  until(expression) {
    return this.run(`new Promise((resolve, reject) => {
      const look = () => {
        try { const found = (${expression}); found ? resolve(found) : setTimeout(look, 10); }
        catch (error) { reject(error); }
      };
      look();
    })`);
  }

  close() {
    return this.browser.call("Target.closeTarget", { targetId: this.target });
  }
}
