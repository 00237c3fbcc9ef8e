import { defaultClient } from "./default.js";

export { Milepost } from "./client.js";
export { MilepostError } from "./errors.js";

/**
 * @import { OnChange, WatchOptions } from "./types.js"
 * @typedef {import("./client.js").Options} Options
 * @typedef {import("./types.js").Change} Change
 * @typedef {import("./types.js").Changes} Changes
 * @typedef {import("./types.js").Job} Job
 * @typedef {import("./types.js").LogLine} LogLine
 * @typedef {import("./types.js").NewJob} NewJob
 * @typedef {import("./types.js").Outcome} Outcome
 * @typedef {import("./types.js").Status} Status
 */

/**
 * `Milepost.watchJob` of the service at the page's own origin.
 *
 * @param {string} id
 * @param {OnChange} onChange
 * @param {WatchOptions} [options]
 * @returns {() => void}
 */
export function watchJob(id, onChange, options) {
  return defaultClient().watchJob(id, onChange, options);
}
