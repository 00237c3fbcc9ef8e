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
 * @property {(event: string, data: any) => void} onEvent
 * @property {AbortSignal} signal
 */

/** A stream that says nothing at first is held back by a proxy. */
const FIRST_EVENT_MS = 5_000;
/** The service comments every 15 seconds; a connection that is silent for longer is dead. */
const SILENT_MS = 40_000;
/** EventSource tells nothing of comments, so a quiet stream is opened anew once in a while, in case it is dead. */
const REFRESH_MS = 120_000;

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
function bySource(requests, { path, events, onEvent, signal }) {
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
    let timer = setTimeout(() => end(heldBack()), FIRST_EVENT_MS);
    for (const name of events) {
      source.addEventListener(name, event => {
        clearTimeout(timer);
        timer = setTimeout(stop, REFRESH_MS);
        onEvent(name, JSON.parse(event.data));
      });
    }
    source.onerror = () => end(new MilepostError("The stream broke off", { code: "stream_broken" }));
    signal.addEventListener("abort", stop);
  });
}

/** @type {typeof listen} */
async function byFetch(requests, { path, events, onEvent, signal }) {
  const control = linked(signal);
  let silentMs = FIRST_EVENT_MS;
  let timer = setTimeout(control.abort, silentMs);
  const parser = new EventParser((event, data) => {
    silentMs = SILENT_MS;
    if (!control.signal.aborted && events.includes(event)) onEvent(event, JSON.parse(data));
  });
  try {
    const headers = { ...requests.headers, accept: "text/event-stream" };
    const response = await requests.fetch(requests.url + path, { headers, signal: control.signal });
    if (!response.ok) throw await errorOf(response);
    const decoder = new TextDecoder();
    const reader = response.body?.getReader();
    // Node's fetch may leave a read for ever that was under way when it was aborted.
    control.signal.addEventListener("abort", () => void reader?.cancel().catch(() => {}));
    for (;;) {
      const { done, value } = (await reader?.read()) ?? { done: true };
      if (done) throw new MilepostError("The stream ended", { code: "stream_broken" });
      parser.feed(decoder.decode(value, { stream: true }));
      clearTimeout(timer);
      timer = setTimeout(control.abort, silentMs);
    }
  } catch (error) {
    if (signal.aborted) return;
    if (error instanceof MilepostError) throw error;
    if (control.signal.aborted && silentMs === FIRST_EVENT_MS) throw heldBack();
    throw new MilepostError("The stream broke off", { code: "stream_broken", cause: error });
  } finally {
    clearTimeout(timer);
    control.release();
    // Also when it was a listener that threw.
    control.abort();
  }
}

function heldBack() {
  return new MilepostError(`The stream said nothing for ${FIRST_EVENT_MS} ms`, { code: "stream_held_back" });
}
