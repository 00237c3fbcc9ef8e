import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { build } from "esbuild";
import { Milepost } from "../src/index.js";
import { Chromium } from "./harness/chromium.js";
import { Proxy } from "./harness/proxy.js";
import { Service } from "./harness/service.js";
import { serveSite } from "./harness/site.js";
import { range } from "./harness/watcher.js";

const IDS = range(50).map(number => `page-${number}`);

/** Keeps what it is told; `told.page-1` is `{calls, ends, job, lines}`. */
const WATCHING = `<!doctype html><script type="module">
  import { Milepost } from "/src/index.js";
  const query = new URLSearchParams(location.search);
  if (query.has("no-event-source")) delete window.EventSource;
  window.client = new Milepost(query.get("url"));
  window.told = {};
  window.watch = (id, options) => {
    const all = told[id] = { calls: 0, ends: 0, lines: [], errors: [], job: null };
    all.stop = client.watchJob(id, (job, { lines, end }) => {
      all.job = job;
      all.calls += 1;
      all.ends += Number(end);
      all.lines.push(...lines.map(({ line }) => line));
    }, { onError: error => all.errors.push(error.code), ...options });
  };
</script>`;

const REACT = `
  import { StrictMode, createElement as h, useState } from "react";
  import { createRoot } from "react-dom/client";
  import { Milepost } from "./src/index.js";
  import { useJob } from "./src/react.js";
  const client = new Milepost(new URLSearchParams(location.search).get("url"));
  function Job({ id, logs }) {
    const { job, lines, error, isDone, restart } = useJob(id, { client, logs });
    const text = job ? [job.status, job.progress_pct, JSON.stringify(job.result ?? null), isDone].join(" ") : (error?.code ?? "-");
    return h("li", { id }, h("b", null, text), h("pre", null, lines.map(({ line }) => line).join()), h("button", { onClick: restart }));
  }
  function Page() {
    const [jobs, setJobs] = useState([]);
    window.setJobs = setJobs;
    return h("ul", null, jobs.map(job => h(Job, { key: job.id, ...job })));
  }
  createRoot(document.body).render(h(StrictMode, null, h(Page)));
`;

/** @type {Service} */
let service;
/** @type {Milepost} */
let worker;
/** @type {Chromium} */
let browser;
/** @type {Awaited<ReturnType<typeof serveSite>>} */
let site;
/** @type {Proxy[]} */
const proxies = [];
before(async () => {
  const stdin = { contents: REACT, resolveDir: `${import.meta.dirname}/..` };
  const bundled = await build({
    stdin,
    bundle: true,
    write: false,
    format: "esm",
    define: { "process.env.NODE_ENV": '"development"' },
  });
  const script = bundled.outputFiles[0].text;
  site = await serveSite({
    "/watching.html": WATCHING,
    "/react.html": '<!doctype html><body><script type="module" src="/bundle.js"></script></body>',
    "/bundle.js": script,
  });
  service = await Service.start();
  worker = new Milepost(service.url);
  browser = new Chromium();
});
after(async () => {
  await browser.stop();
  for (const proxy of proxies) proxy.stop();
  await service.stop();
  site.stop();
});

/** @param {Partial<Proxy>} [faults] */
async function openProxy(faults) {
  const proxy = await Proxy.start(service.url, faults);
  proxies.push(proxy);
  return proxy;
}

for (const way of ["", "&no-event-source"]) {
  test(`a page watches fifty jobs over one connection, through a restart, by ${way ? "fetch" : "EventSource"}`, async () => {
    const prefix = way ? "fetch-" : "";
    const ids = IDS.map(id => prefix + id);
    await Promise.all(ids.map(id => worker.ensure(id, { kind: "restyle", status: "processing" })));
    const proxy = await openProxy();
    const page = await browser.open(`${site.url}/watching.html?url=${proxy.url}${way}`);
    await page.until("window.watch");
    await page.run(`${JSON.stringify(ids)}.forEach(id => watch(id))`);
    const all = (/** @type {string} */ what) => page.until(`Object.values(told).every(({ job, ends }) => ${what})`);
    await all("job");
    assert.deepEqual(proxy.feeds, { open: 1, most: 1, opened: 1 });
    await Promise.all(ids.map((id, at) => worker.update(id, { progress_pct: at + 1 })));
    await all("job.progress_pct > 0");
    const opened = proxy.feeds.opened;
    await service.die();
    await page.until("Object.values(told).every(({ errors }) => errors.length > 0)");
    await service.live();
    await Promise.all(
      ids.map((id, at) => worker.update(id, at % 2 ? { status: "completed", result: at } : { status: "failed" })),
    );
    await all("ends > 0");
    const ends = await page.run("Object.values(told).map(({ job, ends }) => [job.id, job.status, job.result, ends])");
    assert.deepEqual(
      ends,
      ids.map((id, at) => [id, at % 2 ? "completed" : "failed", at % 2 ? at : null, 1]),
    );
    assert.equal(proxy.feeds.most, 1, "never a second one beside it");
    assert.ok(proxy.feeds.opened > opened);
    while (proxy.feeds.open > 0) await new Promise(setImmediate);
    assert.deepEqual(page.errors, []);
    await page.close();
  });
}

test("a page shows ten logs at once through a bad network, and still has connections for what it asks", async () => {
  const proxy = await openProxy({ cuts: 0.1, delayMs: 10, duplicates: 0.1, streamMs: 3_000 });
  const ids = range(10).map(number => `logs-${number}`);
  await Promise.all(ids.map(id => worker.ensure(id, { kind: "restyle", status: "processing", log: "line 1" })));
  const page = await browser.open(`${site.url}/watching.html?url=${proxy.url}`);
  await page.until("window.watch");
  await page.run(`${JSON.stringify(ids)}.forEach(id => watch(id, { logs: true }))`);
  await page.until("Object.values(told).every(({ lines }) => lines.length === 1)");
  assert.equal(await page.run(`client.read("logs-1").then(({ id }) => id)`), "logs-1");
  await service.restart();
  await Promise.all(ids.map(id => worker.appendLog(id, ["line 2", "line 3"])));
  await page.until("Object.values(told).every(({ lines }) => lines.length === 3)");
  await page.run(`Promise.all(${JSON.stringify(ids)}.map(id => client.cancel(id)))`);
  await Promise.all(ids.map(id => worker.update(id, { status: "cancelled", log: "line 4" })));
  await page.until("Object.values(told).every(({ ends }) => ends)");
  const lines = await page.run("Object.values(told).map(({ lines, job }) => [job.status, ...lines])");
  assert.deepEqual(
    lines,
    ids.map(() => ["cancelled", "line 1", "line 2", "line 3", "line 4"]),
  );
  assert.ok(proxy.did.cut > 0);
  assert.deepEqual(page.errors, []);
  await page.close();
});

test("components show jobs with the hook, through a restart and a retry", async () => {
  const proxy = await openProxy();
  const ids = range(5).map(number => `hook-${number}`);
  await Promise.all(ids.map(id => worker.ensure(id, { kind: "restyle", status: "processing", log: "line 1" })));
  const page = await browser.open(`${site.url}/react.html?url=${proxy.url}`);
  await page.until("window.setJobs");
  const jobs = [...ids.map((id, at) => ({ id, logs: at === 0 })), { id: "nobody" }];
  await page.run(`setJobs(${JSON.stringify(jobs)})`);
  const shows = (/** @type {string} */ id, /** @type {string} */ text) =>
    page.until(`document.getElementById("${id}")?.textContent === ${JSON.stringify(text)}`);
  await Promise.all(ids.map((id, at) => shows(id, `processing 0 null false${at ? "" : "line 1"}`)));
  await shows("nobody", "job_not_found");
  await service.restart();
  await worker.update("hook-1", { progress_pct: 40, log: "line 2" });
  await worker.update("hook-2", { status: "completed", result: "/v/2.mp4" });
  await shows("hook-1", "processing 40 null falseline 1,line 2");
  await shows("hook-2", 'completed 100 "/v/2.mp4" true');
  await worker.retry("hook-2");
  await page.run(`document.querySelector("#hook-2 button").click()`);
  await shows("hook-2", "queued 0 null false");
  // The one that is given up for another may look open for a moment longer.
  while (proxy.feeds.open !== 1) await new Promise(setImmediate);
  await page.run("setJobs([])");
  while (proxy.feeds.open + proxy.tails.open > 0) await new Promise(setImmediate);
  assert.deepEqual(page.errors, []);
  await page.close();
});

test("a page of the service's own origin needs not say where it is", async () => {
  await worker.ensure("own", { kind: "restyle", status: "processing" });
  const page = await browser.open(`${service.url}/livez`);
  const watched = page.run(`import("${site.url}/src/index.js").then(({ watchJob }) =>
    new Promise(resolve => watchJob("own", (job, { end }) => end && resolve(job.result))))`);
  await worker.update("own", { status: "completed", result: "mine" });
  assert.equal(await watched, "mine");
  await page.close();
});
