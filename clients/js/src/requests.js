import { MilepostError, errorOf } from "./errors.js";
import { backoff, linked, pause } from "./timing.js";

const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 5_000;

/**
 * Requests to one service, sent again while that is safe and may help.
 */
export class Requests {
  /**
   * @param {string} url
   * @param {{headers?: Record<string, string>, fetch?: typeof globalThis.fetch, retrySeconds: number, timeoutSeconds:
   *   number}} options
   */
  constructor(url, { headers = {}, fetch, retrySeconds, timeoutSeconds }) {
    this.url = url.replace(/\/+$/, "");
    this.headers = headers;
    // Looked up at each call, so that what somebody puts in its place later is used; and browsers want it to be theirs.
    /** @type {typeof globalThis.fetch} */
    this.fetch = fetch ?? ((input, init) => globalThis.fetch(input, init));
    this.ownFetch = fetch !== undefined;
    this.retryMs = retrySeconds * 1000;
    this.timeoutMs = timeoutSeconds * 1000;
  }

  /**
   * The answer's document; null when it has none.
   *
   * @param {string} method
   * @param {string} path
   * @param {object} [options]
   * @param {unknown} [options.body]
   * @param {Record<string, string>} [options.headers]
   * @param {AbortSignal} [options.signal]
   * @param {number} [options.waitMs] how long the service was asked to wait
   * @param {boolean} [options.repeat] whether sending it twice does the same as once; if not, it is sent again only
   *   when the service says that it did nothing
   * @param {number} [options.retryMs]
   * @returns {Promise<any>}
   */
  async send(method, path, { body, headers, signal, waitMs = 0, repeat = true, retryMs = this.retryMs } = {}) {
    const init = {
      method,
      headers: { ...this.headers, ...headers },
      body: /** @type {string | undefined} */ (undefined),
    };
    if (body !== undefined) {
      init.headers = { "content-type": "application/json", ...init.headers };
      init.body = JSON.stringify(body);
    }
    const deadline = Date.now() + retryMs;
    for (let failures = 1; ; failures += 1) {
      try {
        return await this.#once(path, init, this.timeoutMs + waitMs, signal);
      } catch (error) {
        if (!(error instanceof MilepostError)) throw error;
        const again = error.status === 429 || (repeat && error.isTransient);
        const ms = Math.max(error.retryAfterMs ?? 0, backoff(failures, FIRST_PAUSE_MS, LONGEST_PAUSE_MS));
        if (!again || Date.now() + ms > deadline) throw error;
        await pause(ms, signal);
        signal?.throwIfAborted();
      }
    }
  }

  /**
   * @param {string} path
   * @param {RequestInit} init
   * @param {number} timeoutMs
   * @param {AbortSignal} [signal]
   */
  async #once(path, init, timeoutMs, signal) {
    signal?.throwIfAborted();
    const control = linked(signal);
    const timer = setTimeout(control.abort, timeoutMs);
    try {
      const response = await this.fetch(this.url + path, { ...init, signal: control.signal });
      if (!response.ok) throw await errorOf(response);
      // A body that breaks off is no answer.
      const text = await response.text();
      return text === "" ? null : JSON.parse(text);
    } catch (error) {
      signal?.throwIfAborted();
      if (error instanceof MilepostError) throw error;
      if (control.signal.aborted)
        throw new MilepostError(`No answer within ${timeoutMs} ms`, { code: "timeout", cause: error });
      throw new MilepostError(`No answer from ${this.url}`, { cause: error });
    } finally {
      clearTimeout(timer);
      control.release();
    }
  }
}
