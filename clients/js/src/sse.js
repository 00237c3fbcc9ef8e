/**
 * Reads server-sent events from text as it comes, in pieces of any size.
 * https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
 */
export class EventParser {
  #rest = "";
  #event = "";
  /** @type {string[]} */
  #data = [];

  /**
   * @param {(event: string, data: string) => void} onEvent ids are not told: they are in what the service sends, too
   */
  constructor(onEvent) {
    this.onEvent = onEvent;
  }

  /** @param {string} text */
  feed(text) {
    // A CR at the end may be half of a CRLF: it waits for what follows.
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop() ?? "";
    for (const line of lines) this.#line(line);
  }

  /** @param {string} line */
  #line(line) {
    if (line === "") {
      if (this.#data.length > 0) this.onEvent(this.#event || "message", this.#data.join("\n"));
      this.#event = "";
      this.#data = [];
      return;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") this.#event = value;
    if (field === "data") this.#data.push(value);
  }
}
