import { Group } from "./group.js";

/**
 * How jobs stand, over one connection for each hundred of them.
 *
 * @import { Slots } from "./connection.js"
 * @import { Listener } from "./group.js"
 * @import { Requests } from "./requests.js"
 */

export class Feed {
  /** @type {Group[]} */
  #groups = [];

  /** @param {Requests} requests @param {Slots} slots */
  constructor(requests, slots) {
    this.requests = requests;
    this.slots = slots;
  }

  /**
   * @param {string} id
   * @param {Listener} listener
   * @returns {() => void} which ends it
   */
  subscribe(id, listener) {
    let group = this.#groups.find(group => group.has(id)) ?? this.#groups.find(group => group.hasRoom(id));
    if (!group) {
      group = new Group(this.requests, this.slots);
      this.#groups.push(group);
    }
    const home = group;
    home.add(id, listener);
    return () => {
      home.remove(id, listener);
      if (home.isEmpty) this.#groups = this.#groups.filter(group => group !== home);
    };
  }
}
