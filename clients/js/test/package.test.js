import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { build } from "esbuild";
import { Milepost } from "../src/index.js";
import { Chromium } from "./harness/chromium.js";
import { Service } from "./harness/service.js";
import { serveSite } from "./harness/site.js";

const PACKAGE = resolve(import.meta.dirname, "..");
const README = readFileSync(join(PACKAGE, "README.md"), "utf8");
/** The example of the repository's README. */
const BARS =
  /^    import .*? from "milepost";\n(?:(?:    .*)?\n)+/m.exec(
    readFileSync(join(PACKAGE, "../../README.md"), "utf8"),
  )?.[0] ?? "";
const run = promisify(execFile);

/** The README's blocks of a language, with the address of the test's service. @param {string} language */
function blocks(language) {
  const found = [...README.matchAll(/^```(\w+)\n(.*?)^```$/gms)].filter(([, name]) => name === language);
  return found.map(([, , text]) => text.replaceAll("http://127.0.0.1:8080", service.url));
}

/** @type {Service} */
let service;
/** Where nothing but the package is installed. @type {string} */
let clean;
before(async () => {
  service = await Service.start();
  clean = mkdtempSync(join(tmpdir(), "milepost-clean-"));
  await run("npm", ["pack", "--pack-destination", clean], { cwd: PACKAGE });
  writeFileSync(join(clean, "package.json"), '{"type": "module"}');
  const [tarball] = readdirSync(clean).filter(name => name.endsWith(".tgz"));
  await run("npm", ["install", "--offline", "--no-audit", "--no-fund", `./${tarball}`], { cwd: clean });
});
after(async () => {
  rmSync(clean, { recursive: true, force: true });
  await service.stop();
});

test("the package has its modules and their types, and brings nothing else along", () => {
  assert.deepEqual(
    readdirSync(join(clean, "node_modules")).filter(name => !name.startsWith(".")),
    ["milepost"],
  );
  const installed = join(clean, "node_modules/milepost");
  assert.deepEqual(readdirSync(installed).sort(), ["README.md", "package.json", "src", "types"]);
  const modules = readdirSync(join(installed, "src")).map(name => name.replace(/\.js$/, ".d.ts"));
  assert.deepEqual(readdirSync(join(installed, "types")).sort(), modules.sort());
});

test("the README's programs print what it says", async () => {
  const printed = blocks("text");
  const programs = blocks("js");
  assert.deepEqual([programs.length, printed.length], [2, 2]);
  for (const [at, program] of programs.entries()) {
    writeFileSync(join(clean, "example.js"), program);
    const { stdout } = await run(process.execPath, ["example.js"], { cwd: clean, timeout: 20_000 });
    assert.ok(stdout.endsWith(printed[at]), stdout);
  }
});

test("the README's pages show jobs", async () => {
  const [page] = blocks("html");
  const bars = BARS.replace("http://127.0.0.1:8080", service.url).replace(
    "milepost",
    "/node_modules/milepost/src/index.js",
  );
  const contents = `import { createRoot } from "react-dom/client";${blocks("jsx")[0]}
    createRoot(document.body).render(<Job id="clip-2" />);`;
  const bundled = await build({
    stdin: { contents, resolveDir: clean, loader: "jsx" },
    // React comes from the tests' own packages, milepost from the clean ones.
    nodePaths: [join(PACKAGE, "node_modules")],
    bundle: true,
    write: false,
    format: "esm",
    jsx: "automatic",
    define: { "process.env.NODE_ENV": '"production"' },
  });
  const site = await serveSite(
    {
      "/page.html": page,
      "/bars.html": `<!doctype html><progress id="clip-1" max="100"></progress><script type="module">${bars}</script>`,
      "/react.html": '<!doctype html><body><script type="module" src="/react.js"></script></body>',
      "/react.js": bundled.outputFiles[0].text,
    },
    clean,
  );
  const browser = new Chromium();
  const worker = new Milepost(service.url);
  try {
    const plain = await browser.open(`${site.url}/page.html`);
    await plain.until(`document.getElementById("status").textContent === "queued"`);
    await worker.update("clip-1", { status: "processing", progress_pct: 30, log: ["frame 1", "frame 2"] });
    await plain.until(`document.getElementById("bar").value === 30`);
    await plain.until(`document.getElementById("log").textContent === "frame 1\\nframe 2\\n"`);
    const many = await browser.open(`${site.url}/bars.html`);
    await many.until(`document.querySelector("progress").value === 30`);
    await plain.run(`document.getElementById("cancel").click()`);
    for await (const { job } of worker.watch("clip-1")) if (job.cancel_requested) break;

    await worker.ensure("clip-2", { kind: "restyle", status: "processing", log: ["frame 1", "frame 2"] });
    const react = await browser.open(`${site.url}/react.html`);
    await react.until(`document.querySelector("pre")?.innerText.trim() === "frame 1\\nframe 2"`);
    await worker.update("clip-2", { status: "failed", progress_pct: 50 });
    await react.until(
      `document.querySelector("progress").value === 50 && document.querySelector("button").textContent === "Again"`,
    );
    await react.run(`document.querySelector("button").click()`);
    await react.until(`document.body.innerText.includes("queued")`);
    assert.deepEqual([plain.errors, many.errors, react.errors], [[], [], []]);
  } finally {
    await browser.stop();
    site.stop();
  }
});

test("a program in TypeScript that uses it is checked", async () => {
  const program = `
    import { Milepost, MilepostError, watchJob, type Change, type Job } from "milepost";
    const client = new Milepost("http://127.0.0.1:8080", { headers: { "x-team": "7" } });
    const job: Job = await client.create({ kind: "restyle", labels: { user: "42" } });
    const stop: () => void = client.watchJob(job.id, (job: Job, { lines, end }: Change) => {
      const texts: string[] = lines.map(({ line }) => line);
      const done: boolean = end && job.status === "completed";
    }, { logs: 10, onError: (error: MilepostError, { retrying }) => retrying || error.code });
    watchJob(job.id, ({ progress_pct }) => progress_pct.toFixed());
    for await (const { stage } of client.list({ status: "failed" })) stage?.trim();
    // @ts-expect-error: no such status
    await client.update(job.id, { status: "finished" });
    stop();`;
  writeFileSync(join(clean, "use.ts"), program);
  const options = [
    "--noEmit",
    "--strict",
    "--target",
    "es2022",
    "--module",
    "nodenext",
    "--lib",
    "es2022,dom",
    "use.ts",
  ];
  const tsc = join(PACKAGE, "node_modules/.bin/tsc");
  await run(tsc, [...options, "--types", ""], { cwd: clean }).catch(({ stdout }) => assert.fail(stdout));
});
