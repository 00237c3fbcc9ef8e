import { MilepostError } from "./errors.js";
import { backoff, linked, pause } from "./timing.js";

/** A stream that broke sooner than this did not work. */
const STEADY_MS = 5_000;
/** After so many in a row the client polls; after one that was held back, at once. */
const STREAMS_BEFORE_POLLING = 3;
/** For how long, before streams are tried anew: doubling. */
const POLLING_MS = 30_000;
const POLLING_MS_MAX = 300_000;
/** The service asks for up to two seconds after a break (`push.retry_milliseconds`). */
const FIRST_PAUSE_MS = 2_000;
const LONGEST_PAUSE_MS = 15_000;
/** What is asked for with Retry-After is done, up to this. */
const ASKED_MS_MAX = 60_000;

/**
 * What streams a client can have. Browsers open six connections to a host that speaks HTTP/1.1, for all pages together,
 * and a stream keeps one for itself: without a limit, watching would leave none for requests. And once one has shown
 * that streams do not work here, the others need not find out for themselves.
 */
export class Slots {
  #pollUntil = 0;
  #pollingMs = POLLING_MS;

  /** @param {number} free */
  constructor(free) {
    this.free = free;
  }

  /** @param {number} keep how many to leave to others */
  take(keep) {
    if (this.free <= keep) return false;
    this.free -= 1;
    return true;
  }

  give() {
    this.free += 1;
  }

  /** For how long not to try streams. */
  get pollingMs() {
    return Math.max(0, this.#pollUntil - performance.now());
  }

  /** They do not, but requests do. */
  streamsFail() {
    if (this.pollingMs > 0) return;
    this.#pollUntil = performance.now() + this.#pollingMs;
    this.#pollingMs = Math.min(POLLING_MS_MAX, 2 * this.#pollingMs);
  }

  streamsWork() {
    this.#pollUntil = 0;
    this.#pollingMs = POLLING_MS;
  }
}

/**
 * Streams, for as long as that works and a slot is free; else polls, and tries streams again later. Ends with its
 * signal, or with an error that trying again does not help.
 *
 * @param {object} connection
 * @param {(signal: AbortSignal) => Promise<void>} connection.stream resolves when it shall be opened again at once,
 *   rejects when it broke
 * @param {(signal: AbortSignal, onAnswer: () => void) => Promise<void>} connection.poll until told to stop, or rejects
 * @param {(error: MilepostError) => void} connection.onTrouble
 * @param {Slots} connection.slots
 * @param {number} connection.keep how many slots to leave to others
 * @param {AbortSignal} connection.signal
 */
export async function stayConnected({ stream, poll, onTrouble, slots, keep, signal }) {
  /** In a row, which says how long to pause; and of those, what speaks against streams. */
  let failures = 0;
  let brokenStreams = 0;
  /** For how long the service wants to be left alone. */
  let askedMs = 0;
  /** @param {unknown} error @param {boolean} wasSteady */
  const failed = (error, wasSteady) => {
    if (!(error instanceof MilepostError && error.isTransient)) throw error;
    failures = wasSteady ? 1 : failures + 1;
    askedMs = Math.min(error.retryAfterMs ?? 0, ASKED_MS_MAX);
    onTrouble(error);
  };
  while (!signal.aborted) {
    const began = performance.now();
    const hasSlot = slots.pollingMs === 0 && slots.take(keep);
    if (hasSlot) {
      try {
        await stream(signal);
        failures = brokenStreams = 0;
        continue;
      } catch (error) {
        const isHeldBack = error instanceof MilepostError && error.code === "stream_held_back";
        const wasSteady = !isHeldBack && performance.now() - began >= STEADY_MS;
        failed(error, wasSteady);
        brokenStreams = wasSteady ? 1 : isHeldBack ? STREAMS_BEFORE_POLLING : brokenStreams + 1;
        if (wasSteady) slots.streamsWork();
      } finally {
        slots.give();
      }
    }
    if (!hasSlot || brokenStreams >= STREAMS_BEFORE_POLLING) {
      const polling = linked(signal);
      const timer = setTimeout(polling.abort, slots.pollingMs || POLLING_MS);
      try {
        await poll(polling.signal, () => {
          failures = 0;
          // Else it is not the streams: the service was away.
          if (brokenStreams >= STREAMS_BEFORE_POLLING) slots.streamsFail();
        });
        brokenStreams = Math.min(brokenStreams, STREAMS_BEFORE_POLLING - 1);
        continue;
      } catch (error) {
        failed(error, false);
      } finally {
        clearTimeout(timer);
        polling.release();
        polling.abort();
      }
    }
    await pause(Math.max(askedMs, backoff(failures, FIRST_PAUSE_MS, LONGEST_PAUSE_MS)), signal);
  }
}
