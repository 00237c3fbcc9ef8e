// fastify and BullMQ: progress and log lines as a worker of BullMQ reports them, jobs as a page asks for them.
//
//     node bullmq.js REDIS_PORT WORKERS
//     node bullmq.js fill REDIS_PORT JOBS

import cluster from "node:cluster";
import { Job, Queue } from "bullmq";
import Fastify from "fastify";

const LINES = 20;
const LINES_MAX = 100;
const jobId = number => `0199e0c1-7c1e-7a52-9d0e-${number.toString(16).padStart(12, "0")}`;
const queueOn = port => new Queue("jobs", { connection: { host: "127.0.0.1", port } });

async function fill(port, count) {
  const queue = queueOn(port);
  for (let first = 0; first < count; first += 500) {
    const numbers = Array.from({ length: Math.min(500, count - first) }, (_, at) => first + at);
    const jobs = await queue.addBulk(numbers.map(number => ({
      name: "restyle", data: { clip: `/videos/${number}.mp4` }, opts: { jobId: jobId(number) },
    })));
    await Promise.all(jobs.flatMap((job, at) => Array.from({ length: LINES }, (_, line) =>
      job.log(`frame=${first + at}${line} fps=24 q=28.0 time=00:00:${line}.08 speed=1.21x`, LINES_MAX))));
  }
  await queue.close();
}

async function serve(redisPort, port) {
  const queue = queueOn(redisPort);
  const app = Fastify();
  const find = async (id, reply) => await Job.fromId(queue, id) ?? reply.code(404).send();
  app.get("/readyz", async () => ({ status: "ready" }));
  app.patch("/jobs/:id", async (request, reply) => {
    const job = await find(request.params.id, reply);
    await job.updateProgress(request.body);
    return { id: job.id, name: job.name, data: job.data, progress: job.progress, timestamp: job.timestamp };
  });
  app.post("/jobs/:id/logs", async (request, reply) => {
    const job = await find(request.params.id, reply);
    return { lines: await job.log(request.body.line, LINES_MAX) };
  });
  app.get("/jobs/:id", async (request, reply) => {
    const [job, log] = await Promise.all([find(request.params.id, reply), queue.getJobLogs(request.params.id, -LINES, -1)]);
    return { id: job.id, name: job.name, data: job.data, progress: job.progress, timestamp: job.timestamp, logs: log.logs };
  });
  await app.listen({ host: "127.0.0.1", port });
  process.on("SIGTERM", () => app.close().then(() => queue.close()).then(() => process.exit(0)));
  return app.server.address().port;
}

const [first, second, third] = process.argv.slice(2);
if (first === "fill") {
  await fill(Number(second), Number(third));
} else if (Number(second) === 1) {
  console.log(`listening on http://127.0.0.1:${await serve(Number(first), 0)}`);
} else if (cluster.isPrimary) {
  // All of them share the port that the first one gets.
  const workers = Array.from({ length: Number(second) }, () => cluster.fork());
  const ports = await Promise.all(workers.map(worker => new Promise(listening => worker.once("listening", listening))));
  console.log(`listening on http://127.0.0.1:${ports[0].port}`);
  process.on("SIGTERM", () => {
    workers.forEach(worker => worker.kill("SIGTERM"));
    Promise.all(workers.map(worker => new Promise(gone => worker.once("exit", gone)))).then(() => process.exit(0));
  });
} else {
  await serve(Number(first), 0);
}
