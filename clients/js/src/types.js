/**
 * The documents of the wire; docs/api.md says what their members mean.
 *
 * @typedef {"queued" | "processing" | "completed" | "failed" | "cancelled"} Status
 * @typedef {"succeeded" | "failed" | "cancelled" | "timed_out" | "lost" | "expired"} Outcome
 *
 * @typedef {object} Job
 * @property {string} id
 * @property {string} kind
 * @property {Status} status
 * @property {boolean} done
 * @property {Outcome | null} outcome
 * @property {number} progress_pct
 * @property {string | null} stage
 * @property {number | null} eta_seconds
 * @property {any} [result] not in lists, and not while a job is watched without its log before it is done
 * @property {{reason?: string, message?: string, [member: string]: unknown} | null} error
 * @property {Record<string, string>} labels
 * @property {number} priority
 * @property {number} attempt
 * @property {number} max_attempts
 * @property {string | null} worker
 * @property {string | null} lease_expires_at
 * @property {boolean} cancel_requested
 * @property {number} log_count
 * @property {number} [logs_from]
 * @property {string[]} [logs]
 * @property {any} [input]
 * @property {number} version
 * @property {string} created_at
 * @property {string | null} started_at
 * @property {string} updated_at
 * @property {string | null} finished_at
 * @property {string | null} expires_at
 *
 * @typedef {object} LogLine
 * @property {number} seq its number in the log, from 1
 * @property {string} at
 * @property {number} attempt
 * @property {string} line
 *
 * @typedef {object} NewJob
 * @property {string} kind
 * @property {any} [input]
 * @property {Record<string, string>} [labels]
 * @property {number} [priority]
 * @property {string} [stage]
 * @property {"queued" | "processing"} [status]
 * @property {number} [max_attempts]
 * @property {number} [lease_seconds]
 * @property {number} [timeout_seconds]
 * @property {number} [queue_ttl_seconds]
 * @property {number} [cancel_grace_seconds]
 * @property {number} [retain_seconds]
 * @property {string | string[]} [log]
 *
 * @typedef {object} Changes
 * @property {Status} [status]
 * @property {number} [progress_pct]
 * @property {string | null} [stage]
 * @property {any} [result]
 * @property {any} [error]
 * @property {Record<string, string | null>} [labels]
 * @property {string | string[]} [log]
 *
 * @typedef {object} LogAnswer
 * @property {string} id
 * @property {Status} status
 * @property {number} attempt
 * @property {number} version
 * @property {number} log_count
 * @property {number} duplicates
 * @property {boolean} cancel_requested
 * @property {string | null} lease_expires_at
 *
 * @typedef {object} ListFilter
 * @property {Status | Status[]} [status]
 * @property {string | string[]} [kind]
 * @property {Record<string, string>} [labels] all of them
 * @property {string} [q] the beginning of an id, or exactly the value of a label
 * @property {"newest" | "oldest"} [order]
 * @property {number} [pageSize] how many are fetched at once, 1 to 500
 * @property {AbortSignal} [signal]
 *
 * @typedef {{type?: string, title?: string, status?: number, detail?: string, code?: string, [member: string]: any}}
 *   Problem
 *
 * What comes with a change of a job that is watched.
 *
 * @typedef {object} Change
 * @property {LogLine[]} lines the lines of the log since the call before, each once and in order; empty without `logs`
 * @property {boolean} end the job is done and this is the last call
 * @property {boolean} reset this is another job of the same id: lines that came before are not of its log
 *
 * @typedef {object} WatchOptions
 * @property {boolean | number} [logs] true: the log, from its first line that is kept; a number: that many of its last
 *   lines, and those to come
 * @property {AbortSignal} [signal] ends it, as the returned function does
 * @property {(error: import("./errors.js").MilepostError, what: {retrying: boolean}) => void} [onError] something is
 *   wrong: with `retrying` the client goes on by itself, without it (no such job, any more or at all) it has given up
 *
 * @typedef {(job: Job, change: Change) => void} OnChange
 */

export {};
