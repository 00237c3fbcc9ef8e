import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { Chromium } from "./harness/chromium.js";
import { binary } from "./harness/service.js";

test("examples/page is started by one command, and its buttons do what they say", async () => {
  const start = join(import.meta.dirname, "../../../examples/page/start");
  const child = spawn(start, ["--page", "127.0.0.1:0", "--service", "127.0.0.1:0"], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, MILEPOST_BINARY: binary() },
  });
  const ended = new Promise(resolve => child.once("exit", resolve));
  const browser = new Chromium();
  try {
    const words = await new Promise(resolve => createInterface(child.stdout).once("line", resolve));
    const url = words.replace("open ", "");
    const page = await browser.open(url);
    const click = (/** @type {string} */ button) =>
      page.run(`document.querySelector(${JSON.stringify(button)}).click()`);
    const row = (/** @type {number} */ number) => `document.getElementById("jobs").children[${number}]`;
    const shows = (/** @type {string} */ text) =>
      page.until(`${row(0)}?.querySelector("span").textContent === "${text}"`);
    await click("#create");
    await page.until(`${row(0)}?.querySelector("progress").value > 0`);
    await click("#jobs .log");
    await page.until(`${row(0)}.querySelector("pre").textContent.startsWith("frame 20 of 400\\nframe 40 of 400\\n")`);
    await click("#jobs .cancel");
    await shows("cancelled");
    await click("#jobs .retry");
    await shows("Reading the clip");
    await page.visit(url);
    await shows("completed");
    assert.equal(await page.run(`${row(0)}.querySelector("progress").value`), 100);
    assert.deepEqual(page.errors, []);
  } finally {
    await browser.stop();
    child.kill("SIGTERM");
    await ended;
  }
});
