import assert from "node:assert/strict";
import { test } from "node:test";
import { EventParser } from "../src/sse.js";

const TEXT =
  'retry: 1500\n\n: silence\n\nid: 1.0\nevent: job\ndata: {"a":\ndata:1}\n\r\nevent: log\r\ndata: {}\r\n\r\ndata: plain\r\rid: 2\n\n';
const EVENTS = [
  ["job", '{"a":\n1}'],
  ["log", "{}"],
  ["message", "plain"],
];

test("events come out the same wherever the network cuts them", () => {
  for (let size = 1; size <= TEXT.length; size += 1) {
    /** @type {string[][]} */
    const told = [];
    const parser = new EventParser((event, data) => told.push([event, data]));
    for (let at = 0; at < TEXT.length; at += size) parser.feed(TEXT.slice(at, at + size));
    assert.deepEqual(told, EVENTS, `in pieces of ${size}`);
  }
});
