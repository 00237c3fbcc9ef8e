/** @import { Job } from "./types.js" */

/**
 * Whether a document tells nothing new. A lower version may be what a replica knows that is late, or a new job of the
 * same id, or one from a backup: these have changed since.
 *
 * @param {Job} job
 * @param {Job} known
 */
export function isOld(job, known) {
  if (job.created_at !== known.created_at) return false;
  return job.version === known.version || (job.version < known.version && job.updated_at <= known.updated_at);
}
