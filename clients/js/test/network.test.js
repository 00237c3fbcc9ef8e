import assert from "node:assert/strict";
import { test } from "node:test";
import { Milepost } from "../src/index.js";
import { Proxy } from "./harness/proxy.js";
import { Service } from "./harness/service.js";
import { Watcher, range } from "./harness/watcher.js";

const JOBS = 8;
const APPENDS = 30;

/**
 * Workers and watchers behind a network that cuts, delays and duplicates, while the service is killed and started
 * again. A worker appends two lines at a time, now with its progress and now alone.
 *
 * @param {Milepost} client @param {number} number @param {(appends: number) => void} onAppend
 */
async function work(client, number, onAppend) {
  const { id } = await client.create({ kind: "restyle", labels: { number: String(number) }, status: "processing" });
  const watchers = [new Watcher(watching, id), new Watcher(watching, id, { logs: true })];
  everybody.push(...watchers);
  for (const append of range(APPENDS)) {
    const log = [`line ${2 * append - 1}`, `line ${2 * append}`];
    if (append % 3 === 0) await client.appendLog(id, log, { attempt: 1 });
    else await client.update(id, { progress_pct: append, log });
    onAppend(append);
  }
  await client.update(id, { status: "completed", result: { number } });
  await Promise.all(watchers.map(watcher => watcher.ended()));
  return watchers;
}

/** @type {Milepost} */
let watching;
/** @type {Watcher[]} */
const everybody = [];

test("through cuts, delays, repeats and restarts: every line once, in order, and the right end", async t => {
  const service = await Service.start();
  const faults = { cuts: 0.15, delayMs: 20, duplicates: 0.15 };
  const proxies = [
    await Proxy.start(service.url, faults),
    await Proxy.start(service.url, { ...faults, streamMs: 300 }),
  ];
  t.after(async () => {
    for (const watcher of everybody) watcher.stop();
    for (const proxy of proxies) proxy.stop();
    await service.stop();
  });
  const client = new Milepost(proxies[0].url);
  watching = new Milepost(proxies[1].url);
  let appends = 0;
  /** @type {Promise<void>[]} */
  const restarts = [];
  const onAppend = () => {
    appends += 1;
    const isTime = [0.3, 0.6].some(share => appends === Math.round(JOBS * APPENDS * share));
    if (isTime) restarts.push(service.restart());
  };
  const jobs = await Promise.all(range(JOBS).map(number => work(client, number, onAppend)));
  await Promise.all(restarts);

  const wanted = range(2 * APPENDS).map(line => `line ${line}`);
  for (const [at, [state, whole]] of jobs.entries()) {
    assert.deepEqual(whole.text, wanted);
    assert.deepEqual(whole.numbers, range(2 * APPENDS));
    const job = await client.read(whole.id, { logs: "all" });
    assert.deepEqual(job.logs, wanted, "and the service has each line once, too");
    for (const { job: last, ends } of [state, whole]) {
      assert.deepEqual(
        [last?.status, last?.result, last?.version, ends],
        ["completed", { number: at + 1 }, job.version, 1],
      );
    }
  }
  const made = [];
  for await (const { labels } of client.list({ kind: "restyle", order: "oldest", pageSize: 2 }))
    made.push(labels.number);
  assert.deepEqual(made.sort(), range(JOBS).map(String), "and each job once");
  assert.equal(restarts.length, 2);
  for (const { did } of proxies) assert.ok(did.cut > 10, JSON.stringify(did));
  assert.ok(proxies[0].did.duplicated > 10);
});
