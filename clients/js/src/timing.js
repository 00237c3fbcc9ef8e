/** Pauses that end early, and how long they are. */

/**
 * How long to wait before try number `failures` + 1: doubling, and not the same for everyone, so that clients that lost
 * the same service do not come back to it together.
 *
 * @param {number} failures from 1
 * @param {number} first
 * @param {number} most
 */
export function backoff(failures, first, most) {
  const longest = Math.min(most, first * 2 ** (failures - 1));
  return longest * (0.5 + Math.random() / 2);
}

/**
 * Ends in time, or when the signal says so, or when the browser is online again: then there is no reason to wait.
 *
 * @param {number} ms
 * @param {AbortSignal} [signal]
 * @returns {Promise<void>}
 */
export function pause(ms, signal) {
  return new Promise(resolve => {
    const isBrowser = typeof globalThis.addEventListener === "function";
    const end = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", end);
      if (isBrowser) removeEventListener("online", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    if (signal?.aborted) return end();
    signal?.addEventListener("abort", end);
    if (isBrowser) addEventListener("online", end);
  });
}

/**
 * A controller that is aborted with its parents. `release` when it is not needed any more: parents live longer.
 *
 * @param {(AbortSignal | undefined)[]} parents
 */
export function linked(...parents) {
  const controller = new AbortController();
  const abort = () => controller.abort();
  for (const parent of parents) {
    if (parent?.aborted) abort();
    parent?.addEventListener("abort", abort);
  }
  const release = () => parents.forEach(parent => parent?.removeEventListener("abort", abort));
  return { abort, signal: controller.signal, release };
}
