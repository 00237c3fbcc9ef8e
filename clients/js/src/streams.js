import { MilepostError, errorOf } from "./errors.js";
import { EventParser } from "./sse.js";
import { linked } from "./timing.js";

/**
 * Streams of events until they break. There is one promise for each connection: whoever wants to be connected again,
 * and when, is for connection.js to say. EventSource would do that by itself, but gives up for good when a proxy
 * answers 502.
 *
 * @import { Requests } from "./requests.js"
 *
 * @typedef {object} Stream
 * @property {string} path
 * @property {string[]} events names of those that are wanted
 * @property {boolean} isGreeted the service has something to tell at once
 * @property {() => void} [onOpen]
 * @property {(event: string, data: any) => void} onEvent
 * @property {AbortSignal} signal
 */

/** A stream that says nothing at first is held back by a proxy. */
const FIRST_WORD_MS = 5_000;
/** The service comments every 15 seconds; a connection that is silent for longer is dead. */
const SILENT_MS = 40_000;
/** EventSource tells nothing of comments, so a quiet stream is opened anew once in a while, in case it is dead. */
const REFRESH_MS = 120_000;
/** One that has not told anything yet, since nothing is new, may be held back as well. */
const UNTRIED_MS = 30_000;

/**
 * Resolves when it is stopped, or shall be opened again at once; rejects when it breaks.
 *
 * @param {Requests} requests
 * @param {Stream} stream
 * @returns {Promise<void>}
 */
export function listen(requests, stream) {
  // An EventSource sends no headers and goes through nobody's fetch.
  const isPlain = Object.keys(requests.headers).length === 0 && !requests.ownFetch;
  return isPlain && typeof EventSource === "function" ? bySource(requests, stream) : byFetch(requests, stream);
}

/** @type {typeof listen} */
function bySource(requests, { path, events, isGreeted, onOpen, onEvent, signal }) {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return resolve();
    const source = new EventSource(requests.url + path);
    /** @param {unknown} [error] */
    const end = error => {
      clearTimeout(timer);
      source.close();
      signal.removeEventListener("abort", stop);
      if (error) reject(error);
      else resolve();
    };
    const stop = () => end();
    let timer = setTimeout(() => end(heldBack()), FIRST_WORD_MS);
    const refreshIn = (/** @type {number} */ ms) => {
      clearTimeout(timer);
      timer = setTimeout(stop, ms);
    };
    source.onopen = () => {
      if (!isGreeted) refreshIn(UNTRIED_MS);
      onOpen?.();
    };
    for (const name of events) {
      source.addEventListener(name, event => {
        refreshIn(REFRESH_MS);
        onEvent(name, JSON.parse(event.data));
      });
    }
    source.onerror = () => end(new MilepostError("The stream broke off", { code: "stream_broken" }));
    signal.addEventListener("abort", stop);
  });
}

/** @type {typeof listen} */
async function byFetch(requests, { path, events, onOpen, onEvent, signal }) {
  const control = linked(signal);
  let isHeard = false;
  let timer = setTimeout(control.abort, FIRST_WORD_MS);
  const parser = new EventParser((event, data) => {
    if (!control.signal.aborted && events.includes(event)) onEvent(event, JSON.parse(data));
  });
  try {
    const headers = { ...requests.headers, accept: "text/event-stream" };
    const response = await requests.fetch(requests.url + path, { headers, signal: control.signal });
    if (!response.ok) throw await errorOf(response);
    onOpen?.();
    const decoder = new TextDecoder();
    const reader = response.body?.getReader();
    // Node's fetch may leave a read for ever that was under way when it was aborted.
    control.signal.addEventListener("abort", () => void reader?.cancel().catch(() => {}));
    for (;;) {
      const { done, value } = (await reader?.read()) ?? { done: true };
      if (done) throw new MilepostError("The stream ended", { code: "stream_broken" });
      // The first bytes come at once, whether there are events or not.
      isHeard = true;
      clearTimeout(timer);
      timer = setTimeout(control.abort, SILENT_MS);
      parser.feed(decoder.decode(value, { stream: true }));
    }
  } catch (error) {
    if (signal.aborted) return;
    if (error instanceof MilepostError) throw error;
    if (control.signal.aborted && !isHeard) throw heldBack();
    throw new MilepostError("The stream broke off", { code: "stream_broken", cause: error });
  } finally {
    clearTimeout(timer);
    control.release();
    // Also when it was a listener that threw.
    control.abort();
  }
}

/** What a proxy does that collects an answer before it passes it on. */
export function heldBack() {
  return new MilepostError("The stream does not tell what is new", { code: "stream_held_back" });
}
