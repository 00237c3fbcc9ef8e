import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { Milepost, MilepostError } from "../src/index.js";
import { Service } from "./harness/service.js";
import { range } from "./harness/watcher.js";

/** @type {Service} */
let service;
/** @type {Milepost} */
let client;
before(async () => {
  service = await Service.start();
  client = new Milepost(service.url);
});
after(() => service.stop());

test("a job is made, changed, ended, tried again and removed", async () => {
  const job = await client.create({
    kind: "restyle",
    input: { clip: "/v/1.mp4" },
    labels: { user: "42" },
    log: "made",
  });
  assert.deepEqual([job.status, job.input, job.labels], ["queued", { clip: "/v/1.mp4" }, { user: "42" }]);
  const { id } = job;
  assert.equal((await client.update(id, { status: "processing", progress_pct: 30 })).progress_pct, 30);
  assert.equal((await client.appendLog(id, ["one", "two"], { pct: 40, stage: "Cutting", attempt: 1 })).log_count, 3);
  const found = await client.read(id, { logsAfter: 1, input: true });
  assert.deepEqual(
    [found.logs, found.progress_pct, found.stage, found.input],
    [["one", "two"], 40, "Cutting", { clip: "/v/1.mp4" }],
  );
  assert.equal((await client.cancel(id, { reason: "wrong clip" })).cancel_requested, true);
  assert.equal((await client.update(id, { status: "cancelled" })).outcome, "cancelled");
  assert.deepEqual([(await client.retry(id)).status, (await client.read(id, { logs: 0 })).attempt], ["queued", 2]);
  assert.equal(await client.remove(id), undefined);
  await assert.rejects(client.read(id), { name: "MilepostError", status: 404, code: "job_not_found" });
});

test("a client that is not told where the service is asks the environment", async t => {
  process.env.MILEPOST_URL = service.url;
  t.after(() => delete process.env.MILEPOST_URL);
  const { id } = await new Milepost().create({ kind: "restyle" });
  assert.equal((await client.read(id)).id, id);
});

test("a job of one's own id is made once", async () => {
  const [one, other] = await Promise.all(range(2).map(() => client.ensure("mine", { kind: "short" })));
  assert.equal(one.created_at, other.created_at);
  await assert.rejects(client.ensure("mine", { kind: "long" }), { status: 409, code: "job_exists" });
  const idempotencyKey = "order-17";
  const made = await Promise.all(range(5).map(() => client.create({ kind: "short" }, { idempotencyKey })));
  assert.equal(new Set(made.map(({ id }) => id)).size, 1);
});

test("lists are read to their end", async () => {
  await Promise.all(
    range(7).map(number => client.create({ kind: "listed", labels: { user: "a:b", number: String(number) } })),
  );
  const jobs = [];
  for await (const job of client.list({
    kind: ["listed", "other"],
    status: "queued",
    labels: { user: "a:b" },
    pageSize: 3,
  })) {
    jobs.push(job);
  }
  assert.equal(jobs.length, 7);
});

test("a change of what somebody else has changed is refused", async () => {
  await client.ensure("matched", { kind: "short" });
  await client.update("matched", { stage: "one" }, { ifMatch: 1 });
  const refused = client.update("matched", { stage: "two" }, { ifMatch: 1 });
  await assert.rejects(refused, error => error instanceof MilepostError && error.problem?.current_version === 2);
  await assert.rejects(client.update("matched", { stage: "two" }, { attempt: 7 }), { code: "stale_attempt" });
});

test("lines of a new attempt are counted anew, and those of a failed request are not lost", async () => {
  await client.ensure("counted", { kind: "short", status: "processing" });
  await client.appendLog("counted", ["1", "2"]);
  await client.update("counted", { status: "queued" });
  await client.update("counted", { status: "processing", log: "3" });
  const impatient = new Milepost(service.url, { retrySeconds: 0 });
  await impatient.appendLog("counted", "4");
  await service.die();
  await assert.rejects(impatient.appendLog("counted", "5"), { status: 0, code: "unreachable" });
  await service.live();
  await impatient.appendLog("counted", "5");
  await Promise.all(range(5, 6).map(line => impatient.appendLog("counted", String(line))));
  assert.deepEqual((await client.read("counted", { logs: "all" })).logs, range(10).map(String));
});

/** A service that answers as told. @param {import("node:http").RequestListener} answer */
async function fake(answer) {
  const server = createServer(answer);
  await new Promise(resolve => server.listen(0, "127.0.0.1", () => resolve(undefined)));
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  return { url: `http://127.0.0.1:${port}`, stop: () => (server.closeAllConnections(), server.close()) };
}

test("the service is left alone for as long as it says, and is not asked twice what may not be done twice", async () => {
  /** @type {number[]} */
  const asked = [];
  const { url, stop } = await fake((request, answer) => {
    asked.push(performance.now());
    if (asked.length === 1) return answer.writeHead(429, { "retry-after": "1" }).end();
    if (request.method === "PATCH") return request.socket.destroy();
    answer.end('{"id": "a"}');
  });
  const client = new Milepost(`${url}/`, { headers: { "x-team": "7" } });
  assert.equal((await client.read("a")).id, "a");
  assert.ok(asked[1] - asked[0] >= 990, String(asked));
  await assert.rejects(client.update("a", { stage: "x" }, { ifMatch: 1 }), { code: "unreachable" });
  assert.equal(asked.length, 3);
  const control = new AbortController();
  const aborted = client.update("a", { stage: "x" }, { signal: control.signal });
  control.abort();
  await assert.rejects(aborted, { name: "AbortError" });
  stop();
});

test("an answer that does not come is not waited for without end", async () => {
  const { url, stop } = await fake(() => {});
  await assert.rejects(new Milepost(url, { timeoutSeconds: 0.05, retrySeconds: 0 }).read("a"), { code: "timeout" });
  stop();
});
