/** The audit log: who did what, when, from where. */

import { query } from "../api.js";
import { el, fill, quoted, shown } from "../dom.js";
import { time } from "../time.js";
import { pagedList } from "../view.js";

export function open(place) {
  const inputs = Object.fromEntries(["actor", "action", "target"].map((name) => [name, el("input", { name })]));
  const found = pagedList({
    address: (cursor) => "/api/audit" + query({ ...Object.fromEntries(Object.entries(inputs).map(([name, input]) => [name, input.value.trim()])), limit: 100, cursor }),
    heads: ["When", "Who", "Action", "Target", "From", "Change"],
    row: (each) => [time(each.at), [quoted(each.actor), each.role ? ` (${each.role})` : ""], each.action, quoted(each.target), quoted(each.address ?? "\u2013"),
      difference(each)],
    caption: "Newest first",
    empty: "Nothing matches.",
  });
  fill(place, el("h1", {}, "Audit"),
    el("form", { class: "line", onsubmit: (event) => { event.preventDefault(); found.read(); } },
      Object.entries(inputs).map(([name, input]) => el("label", {}, name, input)), el("button", { type: "submit" }, "Search")),
    found.element);
  return { ready: found.ready, event: () => {} };
}

function difference({ before, after }) {
  const told = [["was ", before], ["is ", after]].filter(([, value]) => value !== null);
  return told.length ? told.map(([word, value]) => [word, el("code", {}, shown(JSON.stringify(value), 160)), " "]) : "\u2013";
}
