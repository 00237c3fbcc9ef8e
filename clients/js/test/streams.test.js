import assert from "node:assert/strict";
import { test } from "node:test";
import { Requests } from "../src/requests.js";
import { listen } from "../src/streams.js";

/** An EventSource that says what the test says. */
class Source extends EventTarget {
  static last = /** @type {Source} */ (/** @type {unknown} */ (null));
  isOpen = true;
  onopen = () => {};

  constructor() {
    super();
    Source.last = this;
  }

  close() {
    this.isOpen = false;
  }

  say() {
    this.dispatchEvent(new MessageEvent("job", { data: "{}" }));
  }
}

/** @param {import("node:test").TestContext} t @param {boolean} isGreeted */
function open(t, isGreeted) {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  Object.assign(globalThis, { EventSource: Source });
  t.after(() => Reflect.deleteProperty(globalThis, "EventSource"));
  const requests = new Requests("http://127.0.0.1:1", { retrySeconds: 0, timeoutSeconds: 1 });
  const { signal } = new AbortController();
  return listen(requests, { path: "/", events: ["job"], isGreeted, onEvent: () => {}, signal });
}

test("a stream that opens and does not tell what there is to tell is held back", async t => {
  const stream = open(t, true);
  Source.last.onopen();
  t.mock.timers.tick(5_000);
  await assert.rejects(stream, { code: "stream_held_back" });
  assert.equal(Source.last.isOpen, false);
});

test("one that has nothing to tell yet is believed for a while, and then opened anew", async t => {
  const stream = open(t, false);
  Source.last.onopen();
  t.mock.timers.tick(29_999);
  assert.equal(Source.last.isOpen, true);
  t.mock.timers.tick(1);
  await stream;
  assert.equal(Source.last.isOpen, false);
});

test("one that has told something may be quiet for longer", async t => {
  const stream = open(t, true);
  Source.last.onopen();
  Source.last.say();
  t.mock.timers.tick(119_999);
  assert.equal(Source.last.isOpen, true);
  t.mock.timers.tick(1);
  await stream;
});
