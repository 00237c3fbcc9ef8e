import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Milepost } from "../src/index.js";
import { Proxy } from "./harness/proxy.js";
import { Service } from "./harness/service.js";
import { Watcher, range } from "./harness/watcher.js";

describe("where streams do not work, plain requests tell the same", { concurrency: true }, () => {
  for (const [name, faults] of /** @type {[string, Partial<Proxy>][]} */ ([
    ["when a proxy refuses them", { refuses: /events/ }],
    ["when a proxy holds them back", { holdsBack: true }],
  ])) {
    test(name, t => story(t, faults));
  }
});

/** @param {import("node:test").TestContext} t @param {Partial<Proxy>} faults */
async function story(t, faults) {
  const service = await Service.start();
  t.after(() => service.stop());
  const proxy = await Proxy.start(service.url, faults);
  t.after(() => proxy.stop());
  const worker = new Milepost(service.url);
  const client = new Milepost(proxy.url);
  const ids = range(20).map(number => `many-${number}`);
  for (const id of ["one", ...ids]) await worker.ensure(id, { kind: "restyle", status: "processing" });
  await worker.appendLog("one", range(5).map(String));

  const state = new Watcher(client, "one");
  const whole = new Watcher(client, "one", { logs: true });
  const last = new Watcher(client, "one", { logs: 2 });
  await Promise.all([state, whole, last].map(watcher => watcher.until(({ job }) => job)));
  await worker.appendLog("one", range(2000, 6).map(String));
  await service.restart();
  await worker.update("one", { status: "completed", result: 7, log: "bye" });
  await Promise.all([state, whole, last].map(watcher => watcher.ended()));
  assert.deepEqual(
    [state, whole, last].map(({ job, ends }) => [job?.result, ends]),
    [
      [7, 1],
      [7, 1],
      [7, 1],
    ],
  );
  assert.deepEqual(whole.numbers, range(2006));
  assert.deepEqual(last.numbers, range(2003, 4));

  // Too many for each to wait for its news.
  const many = ids.map(id => new Watcher(client, id));
  await Promise.all(many.map(watcher => watcher.until(({ job }) => job)));
  await Promise.all(ids.map(id => worker.update(id, { status: "cancelled" })));
  await Promise.all(many.map(watcher => watcher.ended()));
}
