import { stayConnected } from "./connection.js";
import { isOld } from "./documents.js";
import { jobNotFound } from "./errors.js";
import { heldBack, listen } from "./streams.js";
import { linked, pause } from "./timing.js";

/**
 * One job and its log: over a stream of its own, `GET /jobs/{id}/events`; by requests that wait, where streams do not
 * work; and when there is no connection left for that, by reading it whenever the feed has news, and every two seconds,
 * since the feed does not tell log lines alone. However a line comes, its number says whether it is new.
 *
 * @import { Slots } from "./connection.js"
 * @import { MilepostError } from "./errors.js"
 * @import { Feed } from "./feed.js"
 * @import { Requests } from "./requests.js"
 * @import { Job, LogLine, OnChange } from "./types.js"
 */

const WAIT_SECONDS = 25;
/** Between two reads of a job that changes all the time. */
const CALM_MS = 250;
const TURN_MS = 2_000;
const PAGE_LINES = 1_000;
/** One is for the feed. */
const KEEP_SLOTS = 1;

export class Tail {
  /** @type {Job | null} */
  #job = null;
  /** Number of the last line that came, once it is known where to begin. @type {number | null} */
  #last = null;
  /** Lines that the caller does not have yet. @type {LogLine[]} */
  #lines = [];
  #isReset = false;
  /** There is something that the caller does not know. */
  #isNews = false;
  #isTroubled = false;
  /** @type {MilepostError | null} */
  #gone = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /**
   * @param {object} tail
   * @param {string} tail.id
   * @param {number | boolean} tail.logs
   * @param {Requests} tail.requests
   * @param {Feed} tail.feed
   * @param {Slots} tail.slots
   * @param {AbortController} tail.control stops it; is aborted when the job has ended, too
   * @param {OnChange} tail.onChange
   * @param {(error: MilepostError) => void} tail.onTrouble
   */
  constructor({ id, logs, requests, feed, slots, control, onChange, onTrouble }) {
    this.path = `/jobs/${id}`;
    this.id = id;
    this.logs = logs;
    this.requests = requests;
    this.feed = feed;
    this.slots = slots;
    this.control = control;
    this.onChange = onChange;
    this.onTrouble = onTrouble;
  }

  /** Until the job has ended or nobody wants to know; rejects when it is not there. */
  async run() {
    try {
      await stayConnected({
        signal: this.control.signal,
        slots: this.slots,
        keep: KEEP_SLOTS,
        onTrouble: error => {
          this.#isTroubled = true;
          this.onTrouble(error);
        },
        stream: signal => this.#stream(signal),
        poll: (signal, onAnswer) => this.#poll(signal, onAnswer),
      });
    } finally {
      clearTimeout(this.#timer);
    }
    if (this.#gone) throw this.#gone;
  }

  /** @param {AbortSignal} signal */
  async #stream(signal) {
    const logs = typeof this.logs === "number" ? this.logs : "all";
    const since = this.#job ? `&since=${this.#job.version}.${this.#last ?? 0}` : "";
    let isHeard = false;
    try {
      await listen(this.requests, {
        path: `${this.path}/events?logs=${logs}${since}`,
        events: ["job", "log", "dropped", "reset", "end"],
        // Who comes back is told nothing if nothing is new.
        isGreeted: since === "",
        signal,
        onOpen: () => this.#isBack(),
        onEvent: (event, data) => {
          isHeard = true;
          this.#hear(event, data);
        },
      });
    } catch (error) {
      if (this.#isComplete) return this.#flush(true);
      // EventSource does not say why it failed. This does: the job may not be there.
      if (!isHeard && !signal.aborted) await this.#read(signal, 0);
      throw error;
    }
    if (isHeard || signal.aborted) return;
    // It has been quiet all the time: was there really nothing to tell?
    const version = this.#job?.version;
    await this.#read(signal, 0);
    if (version !== this.#job?.version && !this.control.signal.aborted) throw heldBack();
  }

  /** What was wrong is over, and the caller must know that. */
  #isBack() {
    if (!this.#isTroubled) return;
    this.#isTroubled = false;
    this.#isNews = true;
    this.#flush(false);
  }

  /** @param {string} event @param {any} data */
  #hear(event, data) {
    if (event === "reset") this.#reset();
    // The result is told when it has changed.
    if (event === "job") this.#job = "result" in data ? data : { ...data, result: this.#job?.result ?? null };
    if (event === "log") this.#add([data]);
    if (event === "dropped") this.#last = Math.max(this.#last ?? 0, data.to);
    if (event === "end" && data.reason === "deleted") this.#leave();
    else if (event === "end") this.#flush(true);
    if (event !== "job" && event !== "log") return;
    this.#isNews = true;
    // What comes together is told together.
    this.#timer ??= setTimeout(() => this.#flush(false), 0);
  }

  /** @param {LogLine[]} lines */
  #add(lines) {
    for (const line of lines) {
      if (this.#last !== null && line.seq <= this.#last) continue;
      this.#lines.push(line);
      this.#last = line.seq;
    }
  }

  /** All that is known is of a job that is no more. */
  #reset() {
    this.#flush(false);
    this.#job = null;
    this.#last = null;
    this.#isReset = true;
  }

  #leave() {
    this.#flush(false);
    this.#gone = jobNotFound(this.id);
    this.control.abort();
  }

  get #isComplete() {
    return this.#job !== null && this.#job.done && (this.#last ?? 0) >= this.#job.log_count;
  }

  /** @param {boolean} end */
  #flush(end) {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.control.signal.aborted || !this.#job || !(this.#isNews || end)) return;
    const change = { lines: this.#lines, end, reset: this.#isReset };
    this.#lines = [];
    this.#isReset = false;
    this.#isNews = false;
    if (end) this.control.abort();
    this.onChange(this.#job, change);
  }

  /** @param {AbortSignal} signal @param {() => void} onAnswer */
  async #poll(signal, onAnswer) {
    if (!this.slots.take(KEEP_SLOTS)) return this.#takeTurns(signal, onAnswer);
    try {
      while (!signal.aborted) {
        await this.#read(signal, WAIT_SECONDS);
        onAnswer();
        await pause(CALM_MS, signal);
      }
    } finally {
      this.slots.give();
    }
  }

  /** @param {AbortSignal} signal @param {() => void} onAnswer */
  async #takeTurns(signal, onAnswer) {
    let news = linked(signal);
    const end = this.feed.subscribe(this.id, {
      onJob: () => news.abort(),
      onGone: () => news.abort(),
      onTrouble: () => {},
    });
    try {
      while (!signal.aborted) {
        news.release();
        news = linked(signal);
        await this.#read(signal, 0);
        onAnswer();
        await pause(CALM_MS, signal);
        await pause(TURN_MS, news.signal);
      }
    } finally {
      news.release();
      end();
    }
  }

  /** @param {AbortSignal} signal @param {number} waitSeconds */
  async #read(signal, waitSeconds) {
    try {
      await this.#readAll(signal, waitSeconds);
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  /** @param {AbortSignal} signal @param {number} waitSeconds */
  async #readAll(signal, waitSeconds) {
    const wait = this.#job && waitSeconds > 0 ? `&since=${this.#job.version}&wait=${waitSeconds}` : "";
    const options = { signal, retryMs: 0, waitMs: waitSeconds * 1000 };
    /** @type {Job} */
    const job = await this.requests.send("GET", `${this.path}?logs=0${wait}`, options);
    const isOther = this.#job && this.#job.created_at !== job.created_at;
    if (isOther) this.#reset();
    const isLater = !this.#job || !isOld(job, this.#job);
    this.#last ??= typeof this.logs === "number" ? Math.max(0, job.log_count - this.logs) : 0;
    while (this.#last < job.log_count) {
      const page = await this.requests.send(
        "GET",
        `${this.path}/logs?after=${this.#last}&limit=${PAGE_LINES}`,
        options,
      );
      if (page.lines.length === 0) break;
      this.#add(page.lines);
    }
    if (isLater) this.#job = job;
    this.#isNews ||= isLater || this.#lines.length > 0 || this.#isTroubled;
    this.#isTroubled = false;
    this.#flush(this.#isComplete);
  }
}
