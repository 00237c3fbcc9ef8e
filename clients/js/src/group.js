import { stayConnected } from "./connection.js";
import { isOld } from "./documents.js";
import { MilepostError, jobNotFound } from "./errors.js";
import { listen } from "./streams.js";
import { linked, pause } from "./timing.js";

/**
 * How up to a hundred jobs stand, over one connection: `GET /events?id=a,b`.
 *
 * Each time it is opened, the service tells how all of its jobs stand. So it can be broken off and opened anew at any
 * time, for other jobs or after a failure, and nothing needs to be remembered.
 *
 * @import { Slots } from "./connection.js"
 * @import { Requests } from "./requests.js"
 * @import { Job } from "./types.js"
 *
 * @typedef {object} Listener
 * @property {(job: Job) => void} onJob how it stands; one that is done has its `result`
 * @property {(error: MilepostError) => void} onGone it is not there, or cannot be read
 * @property {(error: MilepostError) => void} onTrouble
 *
 * @typedef {object} Entry
 * @property {Set<Listener>} listeners
 * @property {Job | null} job as it was told to listeners
 * @property {AbortController | null} final reads its end
 * @property {boolean} isTroubled listeners were told that something is wrong, and not yet that it is over
 * @property {number} readAt
 * @property {boolean} isBusy
 */

/** `push.feed_ids_max` of the service. */
const IDS_MAX = 100;
/** Proxies refuse long request lines, nginx those over 8 KiB. */
const QUERY_CHARACTERS_MAX = 6_000;
/** Jobs that are watched one after the other, as when a page is built, are one connection. */
const OPEN_AFTER_MS = 20;
/** That a job is not wanted any more is no hurry. */
const DROP_AFTER_MS = 2_000;
/** Reads under way at once when the service is polled. */
const READS = 2;
const WAIT_SECONDS = 25;
/** Between two reads of a job that changes all the time. */
const CALM_MS = 250;
/** How often each job is read when there are too many for each to wait for its news. */
const TURN_MS = 2_000;
/** Behind several replicas one may not know yet what another has told. */
const LATE_REPLICA_MS = 250;
const AGAIN_MS = 1_000;

/** The jobs of one connection. */
export class Group {
  /** @type {Map<string, Entry>} */
  #entries = new Map();
  #control = new AbortController();
  #isRunning = false;
  /** Ends the stream that is open, so that it is opened anew. @type {(() => void) | null} */
  #reopen = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #dueAt = Infinity;

  /** @param {Requests} requests @param {Slots} slots */
  constructor(requests, slots) {
    this.requests = requests;
    this.slots = slots;
  }

  get isEmpty() {
    return this.#entries.size === 0;
  }

  /** @param {string} id */
  has(id) {
    return !this.#control.signal.aborted && this.#entries.has(id);
  }

  /** @param {string} id */
  hasRoom(id) {
    if (this.#control.signal.aborted) return false;
    return this.#entries.size < IDS_MAX && this.#path([...this.#entries.keys(), id]).length <= QUERY_CHARACTERS_MAX;
  }

  /** @param {string} id @param {Listener} listener */
  add(id, listener) {
    const entry = this.#entries.get(id);
    if (!entry) {
      const fresh = {
        listeners: new Set([listener]),
        job: null,
        final: null,
        isTroubled: false,
        readAt: 0,
        isBusy: false,
      };
      this.#entries.set(id, fresh);
      this.#openSoon(OPEN_AFTER_MS);
      return;
    }
    entry.listeners.add(listener);
    // Not before the caller knows how to stop it.
    queueMicrotask(() => entry.job && entry.listeners.has(listener) && listener.onJob(entry.job));
  }

  /** @param {string} id @param {Listener} listener */
  remove(id, listener) {
    const entry = this.#entries.get(id);
    if (!entry?.listeners.delete(listener) || entry.listeners.size > 0) return;
    entry.final?.abort();
    this.#entries.delete(id);
    if (this.isEmpty) {
      clearTimeout(this.#timer);
      this.#control.abort();
    } else if (!entry.job?.done) {
      // One that is done has nothing to tell, so it may stay.
      this.#openSoon(DROP_AFTER_MS);
    }
  }

  /** @param {number} ms */
  #openSoon(ms) {
    const dueAt = performance.now() + ms;
    if (dueAt >= this.#dueAt) return;
    clearTimeout(this.#timer);
    this.#dueAt = dueAt;
    this.#timer = setTimeout(() => {
      this.#dueAt = Infinity;
      if (this.#isRunning) this.#reopen?.();
      else void this.#run();
    }, ms);
  }

  async #run() {
    this.#isRunning = true;
    const signal = this.#control.signal;
    const onTrouble = (/** @type {MilepostError} */ error) => {
      for (const entry of [...this.#entries.values()]) this.#trouble(entry, error);
    };
    try {
      await stayConnected({
        signal,
        onTrouble,
        slots: this.slots,
        keep: 0,
        stream: signal => this.#stream(signal),
        poll: (signal, onAnswer) => this.#poll(signal, onAnswer),
      });
    } catch (error) {
      // Such as a proxy that lets nobody in: no job can be read. Whoever tries again gets another group.
      this.#control.abort();
      const told = error instanceof MilepostError ? error : new MilepostError(String(error), { cause: error });
      for (const entry of [...this.#entries.values()]) this.#tell(entry, listener => listener.onGone(told));
    }
  }

  /** @param {Entry} entry @param {(listener: Listener) => void} tell */
  #tell(entry, tell) {
    for (const listener of [...entry.listeners]) if (entry.listeners.has(listener)) tell(listener);
  }

  /** @param {Entry} entry @param {MilepostError} error */
  #trouble(entry, error) {
    entry.isTroubled = true;
    this.#tell(entry, listener => listener.onTrouble(error));
  }

  /** @param {string[]} ids */
  #path(ids) {
    return `/events?id=${ids.join(",")}`;
  }

  /** @param {AbortSignal} signal */
  async #stream(signal) {
    const control = linked(signal);
    this.#reopen = control.abort;
    try {
      await listen(this.requests, {
        path: this.#path([...this.#entries.keys()]),
        events: ["job", "deleted", "ready"],
        isGreeted: true,
        signal: control.signal,
        onEvent: (event, data) => {
          if (event === "job") this.#told(data);
          if (event === "deleted") this.#gone(data.id);
        },
      });
    } finally {
      this.#reopen = null;
      control.release();
    }
  }

  /** @param {Job} job how it stands now, `result` only with a document that was read */
  #told(job) {
    const entry = this.#entries.get(job.id);
    if (!entry) return;
    if (entry.job && isOld(job, entry.job)) {
      if (!entry.isTroubled) return;
      job = entry.job;
    }
    entry.isTroubled = false;
    entry.final?.abort();
    entry.final = null;
    if (job.done && !("result" in job)) {
      entry.final = new AbortController();
      void this.#readEnd(entry, job, entry.final.signal);
      return;
    }
    entry.job = job;
    this.#tell(entry, listener => listener.onJob(job));
  }

  /** @param {string} id */
  #gone(id) {
    const entry = this.#entries.get(id);
    if (entry) this.#tell(entry, listener => listener.onGone(jobNotFound(id)));
  }

  /**
   * The feed tells no results: the end of a job is told once its result is there.
   *
   * @param {Entry} entry
   * @param {Job} told
   * @param {AbortSignal} signal
   */
  async #readEnd(entry, told, signal) {
    while (!signal.aborted) {
      try {
        const job = await this.#read(told.id, signal);
        if (job.version !== told.version && isOld(job, told)) {
          await pause(LATE_REPLICA_MS, signal);
          continue;
        }
        entry.final = null;
        return this.#told(job);
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof MilepostError)) throw error;
        if (!error.isTransient) return this.#tell(entry, listener => listener.onGone(error));
        this.#trouble(entry, error);
        await pause(AGAIN_MS, signal);
      }
    }
  }

  /**
   * @param {string} id
   * @param {AbortSignal} signal
   * @param {{retryMs?: number, waitMs?: number, query?: string}} [options]
   */
  #read(id, signal, { query = "", ...options } = {}) {
    return this.requests.send("GET", `/jobs/${id}?logs=0${query}`, { signal, ...options });
  }

  /**
   * Without a stream. Few jobs: each has a request that waits for its news. Many: they are read in turns, since so many
   * waiting requests would leave no connection for others.
   *
   * @param {AbortSignal} signal
   * @param {() => void} onAnswer
   */
  async #poll(signal, onAnswer) {
    while (!signal.aborted) {
      const control = linked(signal);
      this.#reopen = control.abort;
      try {
        await Promise.all(Array.from({ length: READS }, () => this.#takeTurns(control.signal, onAnswer)));
      } finally {
        this.#reopen = null;
        control.release();
        control.abort();
      }
    }
  }

  /** @param {AbortSignal} signal @param {() => void} onAnswer */
  async #takeTurns(signal, onAnswer) {
    while (!signal.aborted) {
      const isFew = this.#entries.size <= READS;
      const idle = [...this.#entries].filter(([, entry]) => !entry.isBusy && !entry.final);
      const [next] = idle.sort(([, one], [, other]) => one.readAt - other.readAt);
      const turnMs = isFew ? CALM_MS : TURN_MS;
      const earlyMs = next ? next[1].readAt + turnMs - performance.now() : TURN_MS;
      if (next && (next[1].readAt === 0 || earlyMs <= 0)) await this.#takeTurn(...next, isFew, signal).then(onAnswer);
      else await pause(Math.min(earlyMs, CALM_MS), signal);
    }
  }

  /** @param {string} id @param {Entry} entry @param {boolean} waits @param {AbortSignal} signal */
  async #takeTurn(id, entry, waits, signal) {
    entry.isBusy = true;
    try {
      const wait = waits && entry.job ? WAIT_SECONDS : 0;
      const query = wait > 0 ? `&since=${entry.job?.version}&wait=${wait}` : "";
      this.#told(await this.#read(id, signal, { query, waitMs: wait * 1000, retryMs: 0 }));
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof MilepostError) || error.isTransient) throw error;
      this.#tell(entry, listener => listener.onGone(error));
    } finally {
      entry.isBusy = false;
      entry.readAt = performance.now();
    }
  }
}
