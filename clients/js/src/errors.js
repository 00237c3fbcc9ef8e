/** @import { Problem } from "./types.js" */

/** What went wrong, in the service's words where it has said any. */
export class MilepostError extends Error {
  /**
   * @param {string} message
   * @param {{status?: number, code?: string, problem?: Problem | null, retryAfterMs?: number | null, cause?: unknown}}
   *   [what]
   */
  constructor(message, { status = 0, code = "unreachable", problem = null, retryAfterMs = null, cause } = {}) {
    super(message, { cause });
    this.name = "MilepostError";
    /** The HTTP status; 0 when there was no answer. */
    this.status = status;
    /** A word for programs: one of docs/api.md, or `unreachable`, `timeout`, `http_error`. */
    this.code = code;
    /** The whole problem document (RFC 9457), when there was one. */
    this.problem = problem;
    /** How long the service wants to be left alone. */
    this.retryAfterMs = retryAfterMs;
  }

  /** Whether the same request may go well later: the service, or what is before it, is away or overloaded. */
  get isTransient() {
    return [0, 408, 425, 429, 500, 502, 503, 504].includes(this.status) || this.code === "idempotency_in_progress";
  }
}

/** @param {string} id */
export function jobNotFound(id) {
  return new MilepostError(`There is no job \`${id}\`.`, { status: 404, code: "job_not_found" });
}

/** @param {Response} response @returns {Promise<MilepostError>} */
export async function errorOf(response) {
  const problem = await response.json().catch(() => null);
  const title = problem?.detail ?? problem?.title ?? `HTTP ${response.status} ${response.statusText}`.trim();
  return new MilepostError(title, {
    status: response.status,
    code: problem?.code ?? "http_error",
    problem,
    retryAfterMs: retryAfter(response.headers.get("retry-after")),
  });
}

/** @param {string | null} value seconds or a date */
function retryAfter(value) {
  if (!value) return null;
  const ms = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Number.isFinite(ms) ? Math.max(0, ms) : null;
}
