import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Milepost } from "../src/index.js";
import { Proxy } from "./harness/proxy.js";
import { Service } from "./harness/service.js";
import { Watcher, range } from "./harness/watcher.js";

/** @type {Service} */
let service;
/** @type {Milepost} */
let worker;
before(async () => {
  service = await Service.start();
  worker = new Milepost(service.url);
});
after(() => service.stop());

/**
 * @param {Partial<Proxy>} faults
 * @param {(proxy: Proxy, client: Milepost) => Promise<void>} story
 * @param {object} [options]
 */
async function behind(faults, story, options) {
  const proxy = await Proxy.start(service.url, faults);
  try {
    await story(proxy, new Milepost(proxy.url, options));
  } finally {
    proxy.stop();
  }
}

/** @param {string} id @param {object} [more] */
function begin(id, more = {}) {
  return worker.ensure(id, { kind: "restyle", status: "processing", ...more });
}

test("a job is told as it stands, as it changes and as it ends, with its result", async () => {
  await begin("one");
  const watcher = new Watcher(worker, "one");
  assert.equal(watcher.calls, 0, "not before watchJob has returned");
  await watcher.until(({ job }) => job);
  await worker.update("one", { progress_pct: 40, stage: "Cutting" });
  await watcher.until(({ job }) => job?.progress_pct === 40 && job.stage === "Cutting");
  await worker.update("one", { status: "completed", result: { url: "/v/1.mp4" } });
  await watcher.ended();
  assert.deepEqual(watcher.job?.result, { url: "/v/1.mp4" });
  assert.deepEqual([watcher.ends, watcher.errors], [1, []]);
  // One that has ended is told at once, and that it has.
  const late = new Watcher(worker, "one");
  await late.ended();
  assert.deepEqual([late.calls, late.job?.result], [1, { url: "/v/1.mp4" }]);
});

test("a job with its log: each line once and in order, from the first or from the last ones", async () => {
  await begin("log", { log: ["line 1", "line 2", "line 3"] });
  const whole = new Watcher(worker, "log", { logs: true });
  const last = new Watcher(worker, "log", { logs: 1 });
  await Promise.all([whole.until(({ lines }) => lines.length === 3), last.until(({ lines }) => lines.length === 1)]);
  await worker.appendLog("log", ["line 4", "line 5"]);
  await worker.update("log", { status: "failed", error: { reason: "gpu" }, log: "line 6" });
  await Promise.all([whole.ended(), last.ended()]);
  assert.deepEqual(
    whole.text,
    range(6).map(line => `line ${line}`),
  );
  assert.deepEqual(last.numbers, [3, 4, 5, 6]);
  assert.deepEqual([whole.job?.error, whole.ends, last.ends], [{ reason: "gpu" }, 1, 1]);
});

test("one that is not there, or no more, is an error, and the end", async () => {
  for (const logs of [false, true]) {
    const gone = (/** @type {Watcher} */ { errors }) => errors.some(({ retrying }) => !retrying);
    const none = new Watcher(worker, "none", { logs });
    await none.until(gone);
    assert.deepEqual([none.calls, none.errors[0].error.status, none.errors[0].error.code], [0, 404, "job_not_found"]);
    const bad = new Watcher(worker, "no/id", { logs });
    await bad.until(gone);
    assert.equal(bad.errors[0].error.code, "job_not_found");

    await begin(`removed-${logs}`);
    const removed = new Watcher(worker, `removed-${logs}`, { logs });
    await removed.until(({ job }) => job);
    await worker.remove(`removed-${logs}`);
    await removed.until(gone);
    assert.deepEqual([removed.ends, removed.errors.length], [0, 1]);
  }
});

test("fifty jobs are one connection, which is closed with the last of them", async () => {
  await behind({}, async (proxy, client) => {
    const ids = range(50).map(number => `fifty-${number}`);
    await Promise.all(ids.map(id => begin(id)));
    const watchers = ids.map(id => new Watcher(client, id));
    await Promise.all(watchers.map(watcher => watcher.until(({ job }) => job)));
    assert.deepEqual(proxy.feeds, { open: 1, most: 1, opened: 1 });
    assert.equal(proxy.did.requests, 1);
    await Promise.all(ids.map(id => worker.update(id, { progress_pct: 10 })));
    await Promise.all(watchers.map(watcher => watcher.until(({ job }) => job?.progress_pct === 10)));
    await service.restart();
    await Promise.all(
      ids.map((id, at) => worker.update(id, at % 2 ? { status: "completed", result: at } : { status: "failed" })),
    );
    await Promise.all(watchers.map(watcher => watcher.ended()));
    const wanted = ids.map((_, at) => (at % 2 ? ["completed", at] : ["failed", null]));
    assert.deepEqual(
      watchers.map(({ job }) => [job?.status, job?.result]),
      wanted,
    );
    assert.ok(watchers.every(({ ends }) => ends === 1));
    assert.equal(proxy.feeds.most, 1);
    await closed(proxy);
  });
});

test("jobs that come and go keep their connection, and a hundred and fifty have two", async () => {
  await behind({}, async (proxy, client) => {
    const ids = range(150).map(number => `many-${number}`);
    await Promise.all(ids.map(id => begin(id)));
    const first = new Watcher(client, ids[0]);
    await first.until(({ job }) => job);
    const others = ids.slice(1).map(id => new Watcher(client, id));
    await Promise.all(others.map(watcher => watcher.until(({ job }) => job)));
    while (proxy.feeds.open !== 2) await new Promise(setImmediate);
    const twice = new Watcher(client, ids[0]);
    await twice.until(({ job }) => job);
    assert.equal(proxy.feeds.opened, 3, "a job that is watched already needs nothing");
    first.stop();
    for (const watcher of others) watcher.stop();
    const { calls } = others[0];
    await worker.update(ids[1], { progress_pct: 5 });
    await worker.update(ids[0], { status: "completed" });
    await twice.ended();
    assert.deepEqual([first.ends, others[0].calls], [0, calls]);
    await closed(proxy);
  });
});

test("a signal ends it, and nothing stays open", async () => {
  await behind({}, async (proxy, client) => {
    await begin("signal");
    const control = new AbortController();
    const watchers = [false, true].map(logs => new Watcher(client, "signal", { logs, signal: control.signal }));
    await Promise.all(watchers.map(watcher => watcher.until(({ job }) => job)));
    control.abort();
    await closed(proxy);
    await begin("signal-2");
    const never = new Watcher(client, "signal-2", { signal: control.signal });
    await closed(proxy);
    assert.deepEqual([never.calls, never.errors, watchers.map(({ errors }) => errors)], [0, [], [[], []]]);
  });
});

test("more logs than connections are read over the shared one", async () => {
  await behind(
    {},
    async (proxy, client) => {
      const ids = range(8).map(number => `crowd-${number}`);
      await Promise.all(ids.map(id => begin(id, { log: "line 1" })));
      const watchers = ids.map(id => new Watcher(client, id, { logs: true }));
      await Promise.all(watchers.map(watcher => watcher.until(({ lines }) => lines.length === 1)));
      await Promise.all(ids.map(id => worker.appendLog(id, "line 2")));
      await Promise.all(watchers.map(watcher => watcher.until(({ lines }) => lines.length === 2)));
      await Promise.all(ids.map(id => worker.update(id, { status: "completed", log: "line 3", result: id })));
      await Promise.all(watchers.map(watcher => watcher.ended()));
      assert.deepEqual(
        watchers.map(({ job, numbers }) => [job?.result, numbers]),
        ids.map(id => [id, [1, 2, 3]]),
      );
      assert.equal(proxy.tails.most, 3);
      await closed(proxy);
    },
    { streamsMax: 4 },
  );
});

test("a job that was removed and made anew while nobody could see it is told as another one", async () => {
  await behind({}, async (proxy, client) => {
    await begin("again", { log: ["old 1", "old 2"] });
    const watcher = new Watcher(client, "again", { logs: true });
    await watcher.until(({ lines }) => lines.length === 2);
    proxy.refuses = /./;
    proxy.cutAll();
    await worker.remove("again");
    // The id stays reserved, so the store is another one.
    const { port } = service;
    await service.stop();
    service = await Service.start(port);
    await begin("again", { log: "new 1" });
    await worker.update("again", { status: "completed" });
    proxy.refuses = /^$/;
    await watcher.ended();
    assert.deepEqual([watcher.text, watcher.resets], [["new 1"], 1]);
  });
});

test("that a service is away is told, and when it is back, even if nothing is new then", async () => {
  await behind({}, async (proxy, client) => {
    await begin("away");
    const watchers = [false, true].map(logs => new Watcher(client, "away", { logs }));
    await Promise.all(watchers.map(watcher => watcher.until(({ job }) => job)));
    proxy.refuses = /./;
    proxy.cutAll();
    await Promise.all(watchers.map(watcher => watcher.until(({ errors }) => errors.length > 0)));
    assert.ok(watchers.every(({ errors }) => errors.every(({ retrying }) => retrying)));
    const calls = watchers.map(watcher => watcher.calls);
    proxy.refuses = /^$/;
    await Promise.all(watchers.map((watcher, at) => watcher.until(watcher => watcher.calls > calls[at])));
    for (const watcher of watchers) watcher.stop();
    assert.ok(watchers.every(({ job }) => job?.version === 1));
  });
});

test("a job can be iterated over", async () => {
  await begin("iterated", { log: "line 1" });
  let lines = 0;
  for await (const { job, lines: news, end } of worker.watch("iterated", { logs: true })) {
    lines += news.length;
    if (lines === 1 && news.length === 1)
      await worker.update("iterated", { status: "completed", log: ["line 2", "line 3"] });
    assert.equal(end, end && job.done);
  }
  assert.equal(lines, 3);
  await assert.rejects(worker.watch("none").next(), { code: "job_not_found" });
  const control = new AbortController();
  await begin("iterated-2");
  const iterator = worker.watch("iterated-2", { signal: control.signal });
  await iterator.next();
  setImmediate(() => control.abort());
  await assert.rejects(iterator.next(), { name: "AbortError" });
});

/** Once no stream is open. @param {Proxy} proxy */
async function closed(proxy) {
  while (proxy.feeds.open + proxy.tails.open > 0) await new Promise(setImmediate);
}
