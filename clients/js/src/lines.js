import { MilepostError } from "./errors.js";

/** Random in every browser: `crypto.randomUUID` is for secure contexts only. */
export function randomName() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), byte => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * @typedef {object} Count
 * @property {string} writer
 * @property {number} next number of the next line
 * @property {string | null} unsure lines that may or may not have arrived
 * @property {Promise<unknown>} turn
 * @property {number} waiting
 */

/**
 * Numbers the lines that this client appends to each job, so that the service knows a repeated request: docs/api.md,
 * "Exactly once". Lines of one job go one request after the other; else a later one could arrive first.
 */
export class LineWriter {
  /** @type {Map<string, Count>} */
  #counts = new Map();
  #name = `js-${randomName()}`;
  #writers = 0;

  /**
   * @template Answer
   * @param {string} id
   * @param {string[]} lines
   * @param {number | undefined} attempt
   * @param {(numbered: {writer: string, seq: number}) => Promise<Answer>} send
   * @returns {Promise<Answer>}
   */
  append(id, lines, attempt, send) {
    // Each attempt has a count of its own.
    const key = `${id} ${attempt ?? ""}`;
    const count = this.#counts.get(key) ?? this.#begin();
    this.#counts.set(key, count);
    count.waiting += 1;
    const told = count.turn.then(() => this.#inTurn(count, lines, send));
    count.turn = told.then(
      answer => this.#after(key, count, isOver(/** @type {any} */ (answer)?.status)),
      error => this.#after(key, count, error instanceof MilepostError && !error.isTransient),
    );
    return told;
  }

  /** @returns {Count} */
  #begin() {
    this.#writers += 1;
    return { writer: `${this.#name}-${this.#writers}`, next: 1, unsure: null, turn: Promise.resolve(), waiting: 0 };
  }

  /**
   * @template Answer
   * @param {Count} count
   * @param {string[]} lines
   * @param {(numbered: {writer: string, seq: number}) => Promise<Answer>} send
   */
  async #inTurn(count, lines, send) {
    const text = JSON.stringify(lines);
    // Whether the last ones have arrived is not known. The same ones again keep their numbers; other ones must not have
    // these numbers, since they would be taken for a repeat.
    if (count.unsure !== null && count.unsure !== text) Object.assign(count, { writer: this.#begin().writer, next: 1 });
    for (;;) {
      try {
        const answer = await send({ writer: count.writer, seq: count.next });
        Object.assign(count, { next: count.next + lines.length, unsure: null });
        return answer;
      } catch (error) {
        const expected = error instanceof MilepostError && error.code === "log_gap" && error.problem?.expected;
        // The job has gone on to its next attempt, in which this writer has no lines yet.
        if (expected && expected < count.next) {
          count.next = expected;
          continue;
        }
        const isRefused = error instanceof MilepostError && !error.isTransient;
        count.unsure = isRefused ? null : text;
        throw error;
      }
    }
  }

  /**
   * What is over, or was refused, needs no count any more: the next one has another writer.
   *
   * @param {string} key
   * @param {Count} count
   * @param {boolean} isOver
   */
  #after(key, count, isOver) {
    count.waiting -= 1;
    if (isOver && count.waiting === 0) this.#counts.delete(key);
  }
}

/** @param {string | undefined} status */
function isOver(status) {
  return status === "completed" || status === "failed" || status === "cancelled";
}
