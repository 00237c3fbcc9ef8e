// A worker that pretends: it claims the page's jobs, four at a time, and takes some seconds for each.
import { setTimeout as sleep } from "node:timers/promises";
import { Milepost } from "../../clients/js/src/index.js";

const STEPS = 20;
const STAGES = ["Reading the clip", "Matting subject", "Restyling", "Writing the file"];

/** @param {string} url where the service is */
export async function work(url) {
  const milepost = new Milepost(url);
  const loop = async () => {
    for (;;) {
      const job = await claim(url).catch(() => sleep(1000));
      if (job) await restyle(milepost, job).catch(error => console.error(`${job.id}: ${error.message}`));
    }
  };
  await Promise.all(Array.from({ length: 4 }, loop));
}

async function claim(url) {
  const body = JSON.stringify({ kinds: ["page"], worker: "pretender", lease_seconds: 30, wait_seconds: 30 });
  const answer = await fetch(`${url}/jobs/claim`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body,
  });
  return answer.status === 200 ? answer.json() : null;
}

async function restyle(milepost, { id, attempt, input }) {
  for (let step = 1; step <= STEPS; step += 1) {
    await sleep(input.step_milliseconds);
    const stage = STAGES[Math.floor(((step - 1) * STAGES.length) / STEPS)];
    const changes = { progress_pct: (100 * step) / STEPS, stage, log: `frame ${20 * step} of ${20 * STEPS}` };
    const { cancel_requested: isUnwanted } = await milepost.update(id, changes, { attempt });
    if (isUnwanted) return milepost.update(id, { status: "cancelled" }, { attempt });
  }
  return milepost.update(id, { status: "completed", result: { url: `/v/${id}.mp4` } }, { attempt });
}
