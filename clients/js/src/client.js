import { Slots } from "./connection.js";
import { MilepostError, jobNotFound } from "./errors.js";
import { Feed } from "./feed.js";
import { LineWriter, randomName } from "./lines.js";
import { Requests } from "./requests.js";
import { Tail } from "./tail.js";

/**
 * @import { Change, Changes, Job, ListFilter, LogAnswer, NewJob, OnChange, WatchOptions } from "./types.js"
 *
 * @typedef {object} Options
 * @property {Record<string, string>} [headers] sent with every request. Streams are then read by fetch, since
 *   EventSource sends none
 * @property {typeof fetch} [fetch] used instead of the global one
 * @property {number} [retrySeconds] for how long a request is sent again, when that is safe, while the service is away;
 *   30 if not given, 0: never
 * @property {number} [timeoutSeconds] how long one answer may take; 30 if not given
 * @property {number} [streamsMax] connections that streams may keep: 4 in browsers, which open six to a host, and 64
 *   elsewhere
 */

/** What the service takes for an id. */
const ID = /^(?!claim$)[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,127}$/;

/** A Milepost service. */
export class Milepost {
  #requests;
  #lines = new LineWriter();
  #slots;
  #feed;

  /**
   * @param {string | URL} [url] where the service is; if not given, the origin of the page, and where there is none, what
   *   `MILEPOST_URL` in the environment says, or http://127.0.0.1:8080
   * @param {Options} [options]
   */
  constructor(url, { headers, fetch, retrySeconds = 30, timeoutSeconds = 30, streamsMax } = {}) {
    const page = globalThis.location?.href;
    const { env } = /** @type {any} */ (globalThis).process ?? {};
    const usual = page ? "/" : (env?.MILEPOST_URL ?? "http://127.0.0.1:8080");
    const absolute = new URL(url ?? usual, page).href;
    this.#requests = new Requests(absolute, { headers, fetch, retrySeconds, timeoutSeconds });
    this.#slots = new Slots(streamsMax ?? (page === undefined ? 64 : 4));
    this.#feed = new Feed(this.#requests, this.#slots);
  }

  /**
   * Makes a job with an id that the service chooses. A lost answer makes no second one.
   *
   * @param {NewJob} job
   * @param {{idempotencyKey?: string, signal?: AbortSignal}} [options] a key of your own holds beyond this call
   * @returns {Promise<Job>}
   */
  create(job, { idempotencyKey = randomName(), signal } = {}) {
    return this.#requests.send("POST", "/jobs", { body: job, headers: { "idempotency-key": idempotencyKey }, signal });
  }

  /**
   * Makes sure that a job of this id exists.
   *
   * @param {string} id
   * @param {NewJob} job
   * @param {{signal?: AbortSignal}} [options]
   * @returns {Promise<Job>}
   */
  ensure(id, job, { signal } = {}) {
    return this.#requests.send("PUT", `/jobs/${encodeURIComponent(id)}`, { body: job, signal });
  }

  /**
   * @param {string} id
   * @param {{logs?: number | "all", logsAfter?: number, input?: boolean, signal?: AbortSignal}} [options] how many of
   *   the last lines, or those after which; the last 100 if not given
   * @returns {Promise<Job>}
   */
  read(id, { logs, logsAfter, input, signal } = {}) {
    return this.#requests.send("GET", path(id, "", { logs, logs_after: logsAfter, input: input ? 1 : undefined }), {
      signal,
    });
  }

  /**
   * Changes a job, all in one step. Log lines in it are appended once, however often the request is sent.
   *
   * @param {string} id
   * @param {Changes} changes
   * @param {{attempt?: number, ifMatch?: number, signal?: AbortSignal}} [options] `attempt`: only if this is the
   *   current one; `ifMatch`: only if the job has this version
   * @returns {Promise<Job>} without `result`, unless it was changed
   */
  update(id, changes, { attempt, ifMatch, signal } = {}) {
    /** @type {Record<string, string>} */
    const headers = ifMatch === undefined ? {} : { "if-match": `"v${ifMatch}"` };
    // Sent a second time, it would not match because of the first.
    const options = { headers, signal, repeat: ifMatch === undefined };
    /** @param {object} numbered @returns {Promise<Job>} */
    const send = numbered =>
      this.#requests.send("PATCH", path(id), { ...options, body: { ...changes, attempt, ...numbered } });
    return changes.log === undefined ? send({}) : this.#lines.append(id, [changes.log].flat(), attempt, send);
  }

  /**
   * Appends lines to a job's log, once, however often the request is sent.
   *
   * @param {string} id
   * @param {string | string[]} lines
   * @param {{attempt?: number, pct?: number, stage?: string, signal?: AbortSignal}} [options]
   * @returns {Promise<LogAnswer>}
   */
  appendLog(id, lines, { attempt, pct, stage, signal } = {}) {
    const all = [lines].flat();
    return this.#lines.append(id, all, attempt, numbered => {
      const body = { lines: all, attempt, pct, stage, ...numbered };
      return this.#requests.send("POST", path(id, "/logs"), { body, signal });
    });
  }

  /**
   * Asks a job to end: one that is queued is cancelled, the worker of one that is processing is asked to stop.
   *
   * @param {string} id
   * @param {{reason?: string, signal?: AbortSignal}} [options]
   * @returns {Promise<Job>}
   */
  cancel(id, { reason, signal } = {}) {
    return this.#requests.send("POST", path(id, "/cancel"), { body: { reason }, signal });
  }

  /**
   * Sends a done job back to the queue. A lost answer makes no second retry.
   *
   * @param {string} id
   * @param {{attempt?: number, signal?: AbortSignal}} [options] which attempt is to be tried again; if not given, the
   *   current one
   * @returns {Promise<Job>}
   */
  async retry(id, { attempt, signal } = {}) {
    const tried = attempt ?? (await this.read(id, { logs: 0, signal })).attempt;
    return this.#requests.send("POST", path(id, "/retry"), { body: { attempt: tried }, signal });
  }

  /**
   * Removes a job, its log and its input.
   *
   * @param {string} id
   * @param {{signal?: AbortSignal}} [options]
   * @returns {Promise<void>}
   */
  async remove(id, { signal } = {}) {
    await this.#requests.send("DELETE", path(id), { signal });
  }

  /**
   * All jobs that fit, the last created first, page by page as they are asked for.
   *
   * @param {ListFilter} [filter]
   * @returns {AsyncGenerator<Job, void, void>}
   */
  async *list({ status, kind, labels = {}, q, order, pageSize, signal } = {}) {
    const label = Object.entries(labels).map(pair => pair.join(":"));
    const filter = { status: [status ?? []].flat().join() || undefined, kind: [kind ?? []].flat().join() || undefined };
    for (let cursor; cursor !== null;) {
      const query = { ...filter, q, order, limit: pageSize, cursor, label };
      /** @type {{jobs: Job[], next: string | null}} */
      const page = await this.#requests.send("GET", `/jobs${search(query)}`, { signal });
      yield* page.jobs;
      cursor = page.next;
    }
  }

  /**
   * Tells how a job stands, now and at each change until it has ended, through failures of the network and restarts of
   * the service. All jobs that are watched without their log share one connection for each hundred of them.
   *
   * @param {string} id
   * @param {OnChange} onChange never called before `watchJob` has returned
   * @param {WatchOptions} [options]
   * @returns {() => void} which ends it
   */
  watchJob(id, onChange, { logs = false, signal, onError = () => {} } = {}) {
    const control = new AbortController();
    let isStopped = false;
    const stop = () => {
      isStopped = true;
      control.abort();
    };
    control.signal.addEventListener("abort", () => signal?.removeEventListener("abort", stop));
    signal?.addEventListener("abort", stop);
    if (signal?.aborted) stop();
    if (isStopped) return stop;

    const tell = guarded(onChange);
    const tellError = guarded(onError);
    const listener = {
      onTrouble: (/** @type {MilepostError} */ error) => control.signal.aborted || tellError(error, { retrying: true }),
      onGone: (/** @type {unknown} */ cause) => {
        control.abort();
        const error = cause instanceof MilepostError ? cause : new MilepostError(String(cause), { code: "bug", cause });
        if (!isStopped) tellError(error, { retrying: false });
      },
    };
    if (!ID.test(id)) {
      queueMicrotask(() => listener.onGone(jobNotFound(id)));
    } else if (logs === false) {
      const onJob = (/** @type {Job} */ job) => {
        if (job.done) control.abort();
        tell(job, { lines: [], end: job.done, reset: false });
      };
      const end = this.#feed.subscribe(id, { ...listener, onJob });
      control.signal.addEventListener("abort", end);
    } else {
      const shared = { requests: this.#requests, feed: this.#feed, slots: this.#slots };
      const tail = new Tail({ id, logs, ...shared, control, onChange: tell, onTrouble: listener.onTrouble });
      tail.run().catch(listener.onGone);
    }
    return stop;
  }

  /**
   * The same to be iterated over. Whoever is slow gets fewer states, but the newest one, and every line.
   *
   * @param {string} id
   * @param {{logs?: boolean | number, signal?: AbortSignal}} [options]
   * @returns {AsyncGenerator<Change & {job: Job}, void, void>}
   */
  async *watch(id, { logs, signal } = {}) {
    /** @type {(Change & {job: Job}) | null} */
    let next = null;
    /** @type {unknown} */
    let failure = null;
    let wake = () => {};
    const abort = () => wake();
    signal?.addEventListener("abort", abort);
    const stop = this.watchJob(
      id,
      (job, change) => {
        const lines = next && !change.reset ? [...next.lines, ...change.lines] : change.lines;
        next = { ...change, job, lines, reset: change.reset || (next?.reset ?? false) };
        wake();
      },
      {
        logs,
        signal,
        onError: (error, { retrying }) => {
          if (retrying) return;
          failure = error;
          wake();
        },
      },
    );
    try {
      for (;;) {
        signal?.throwIfAborted();
        if (next) {
          const told = /** @type {Change & {job: Job}} */ (next);
          next = null;
          yield told;
          if (told.end) return;
        } else if (failure) {
          throw failure;
        } else {
          await new Promise(resolve => (wake = () => resolve(undefined)));
        }
      }
    } finally {
      signal?.removeEventListener("abort", abort);
      stop();
    }
  }
}

/**
 * What a caller's function throws is the page's to report, and must not end up in the middle of a stream.
 *
 * @template {unknown[]} Arguments
 * @param {(...told: Arguments) => void} call
 */
function guarded(call) {
  return (/** @type {Arguments} */ ...told) => {
    try {
      call(...told);
    } catch (error) {
      queueMicrotask(() => {
        throw error;
      });
    }
  };
}

/**
 * @param {string} id
 * @param {string} [rest]
 * @param {Record<string, unknown>} [query]
 */
function path(id, rest = "", query = {}) {
  return `/jobs/${encodeURIComponent(id)}${rest}${search(query)}`;
}

/** @param {Record<string, unknown>} query lists are repeated, and what is undefined is left out */
function search(query) {
  const pairs = Object.entries(query).flatMap(([name, value]) => [value].flat().map(each => [name, each]));
  const given = pairs.filter(([, value]) => value !== undefined).map(([name, value]) => [String(name), String(value)]);
  return given.length > 0 ? `?${new URLSearchParams(given)}` : "";
}
