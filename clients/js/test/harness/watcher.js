/**
 * Watches a job as a page would, and keeps what it was told.
 *
 * @import { Milepost } from "../../src/index.js"
 */
export class Watcher {
  /** @type {import("../../src/index.js").Job | null} */
  job = null;
  /** @type {import("../../src/index.js").LogLine[]} */
  lines = [];
  /** How often it was told something, that it has ended, and that it is another job. */
  calls = 0;
  ends = 0;
  resets = 0;
  /** @type {{error: any, retrying: boolean}[]} */
  errors = [];
  /** @type {Set<() => void>} */
  #looks = new Set();

  /** @param {Milepost} client @param {string} id @param {object} [options] */
  constructor(client, id, options = {}) {
    this.id = id;
    this.stop = client.watchJob(
      id,
      (job, { lines, end, reset }) => {
        this.job = job;
        if (reset) this.lines = [];
        this.lines.push(...lines);
        this.calls += 1;
        this.ends += Number(end);
        this.resets += Number(reset);
        for (const look of this.#looks) look();
      },
      {
        onError: (/** @type {any} */ error, /** @type {{retrying: boolean}} */ { retrying }) => {
          this.errors.push({ error, retrying });
          for (const look of this.#looks) look();
        },
        ...options,
      },
    );
  }

  /** Once that is so. @param {(watcher: Watcher) => unknown} isSo @returns {Promise<void>} */
  until(isSo) {
    return new Promise(resolve => {
      const look = () => {
        if (!isSo(this)) return;
        this.#looks.delete(look);
        resolve();
      };
      this.#looks.add(look);
      look();
    });
  }

  ended() {
    return this.until(watcher => watcher.ends > 0);
  }

  get text() {
    return this.lines.map(({ line }) => line);
  }

  get numbers() {
    return this.lines.map(({ seq }) => seq);
  }
}

/** @param {number} count @param {number} [from] */
export function range(count, from = 1) {
  return Array.from({ length: count }, (_, index) => from + index);
}
