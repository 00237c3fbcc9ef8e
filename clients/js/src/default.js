import { Milepost } from "./client.js";

/** @type {Milepost | undefined} */
let ofThisPage;

/** The service at the page's own origin: one client for all who ask, so that they share its connection. */
export function defaultClient() {
  return (ofThisPage ??= new Milepost());
}
