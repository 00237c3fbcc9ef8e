import { useCallback, useMemo, useState, useSyncExternalStore } from "react";
import { defaultClient } from "./default.js";

/**
 * @import { Milepost, MilepostError } from "./index.js"
 * @import { Job, LogLine } from "./types.js"
 *
 * @typedef {object} JobState
 * @property {Job | null} job how it stands; null until that is known
 * @property {LogLine[]} lines the lines of its log that came, if asked for: the last 10,000 of them
 * @property {MilepostError | null} error what is wrong right now
 * @property {boolean} isDone nothing more will come: the job is done, or there is none
 */

const LINES_MAX = 10_000;
/** @type {JobState} */
const NOTHING = { job: null, lines: [], error: null, isDone: false };

/**
 * How a job stands, for as long as the component is there. All components share the client's connection.
 *
 * @param {string | null | undefined} id none: nothing is watched
 * @param {{client?: Milepost, logs?: boolean | number}} [options] the client: the service at the page's own origin if
 *   not given
 * @returns {JobState & {restart: () => void}} `restart` watches a job anew that has ended, as after a retry
 */
export function useJob(id, { client, logs = false } = {}) {
  const [round, setRound] = useState(0);
  const restart = useCallback(() => setRound(round => round + 1), []);
  // A round of its own is a store of its own.
  const store = useMemo(() => jobStore(id, client, logs), [id, client, logs, round]);
  const state = useSyncExternalStore(store.subscribe, store.state, () => NOTHING);
  return useMemo(() => ({ ...state, restart }), [state, restart]);
}

/**
 * @param {string | null | undefined} id
 * @param {Milepost | undefined} client
 * @param {boolean | number} logs
 */
function jobStore(id, client, logs) {
  let state = NOTHING;
  /** @param {() => void} onState */
  const subscribe = onState => {
    if (!id) return () => {};
    // React may end it and begin anew, and then everything comes anew.
    state = NOTHING;
    /** @param {Partial<JobState>} news */
    const set = news => {
      state = { ...state, ...news };
      onState();
    };
    return (client ?? defaultClient()).watchJob(
      id,
      (job, change) => {
        const before = change.reset ? [] : state.lines;
        const lines = change.lines.length > 0 ? [...before, ...change.lines].slice(-LINES_MAX) : before;
        set({ job, lines, error: null, isDone: change.end });
      },
      { logs, onError: (error, { retrying }) => set({ error, isDone: !retrying }) },
    );
  };
  return { subscribe, state: () => state };
}
