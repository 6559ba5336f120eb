/** Threats: a search by source, technique, type and severity, and one threat with its evidence. */

import { get, query } from "../api.js";
import { el, fill, link, path, quoted, shown } from "../dom.js";
import { time } from "../time.js";
import { recognition, recognizeButton } from "../recognize.js";
import { calm, facts, pagedList, seldom } from "../view.js";

const FILTERS = [["source", "Source address"], ["technique", "Technique"], ["type", "Type"], ["severity", "Severity"], ["agentId", "Agent id"], ["recognized", "Own doing"]];
const CHOICES = {
  severity: [["", "any"], ["low", "low"], ["medium", "medium"], ["high", "high"], ["critical", "critical"]],
  recognized: [["", "any"], ["true", "recognized"], ["false", "not recognized"]],
};

export function open(place, [id], given) {
  return id ? one(place, id, given.get("agentId")) : search(place, given);
}

function search(place, given) {
  const inputs = Object.fromEntries(FILTERS.map(([name]) => [name, field(name, given.get(name) ?? "")]));
  const values = () => Object.fromEntries(FILTERS.map(([name]) => [name, inputs[name].value.trim()]));
  const found = pagedList({
    address: (cursor) => "/api/threats" + query({ ...values(), limit: 100, cursor }),
    heads: ["When", "Host", "Threat", "Severity", "Source", "What the guard did", "Own doing"],
    row: (each) => [
      time(each.eventTime), link(path("agents", each.agentId), quoted(each.hostname)),
      link(path("threats", each.id) + query({ agentId: each.agentId }), quoted(each.type)), each.severity, source(each), response(each),
      each.recognized ? ["of ", quoted(each.recognized.by)] : "\u2013",
    ],
    caption: "Threats, newest first",
    empty: "No threat matches.",
  });
  const form = el("form", { class: "line", onsubmit: (event) => { event.preventDefault(); location.hash = "/threats" + query(values()); } },
    FILTERS.map(([name, label]) => el("label", {}, label, inputs[name])), el("button", { type: "submit" }, "Search"));
  fill(place, el("h1", {}, "Threats"), form, found.element);
  let count = 0;
  const told = seldom(1_000, () => { found.arrived(count); count = 0; });
  return {
    ready: found.ready,
    event: (name, event) => { if (name === "threats_reported") { count += event.data?.count ?? 1; told(); } },
    end: () => told.end(),
  };
}

/** Return a field of the search; a value in the page's address that is none of its choices is among them, so that it is seen. */
function field(name, value) {
  if (!(name in CHOICES)) return el("input", { name, value });
  const choices = CHOICES[name].some(([known]) => known === value) ? CHOICES[name] : [...CHOICES[name], [value, shown(value, 64)]];
  return el("select", { name }, choices.map(([known, text]) => el("option", { value: known, selected: known === value }, text)));
}

function one(place, id, agentId) {
  const address = "/api/threats/" + encodeURIComponent(id) + query({ agentId });
  const draw = (each) => fill(place,
    el("h1", {}, quoted(each.type), " on ", link(path("agents", each.agentId), quoted(each.hostname))),
    facts([
      ["When", time(each.eventTime)], ["Received", time(each.receivedAt)], ["Severity", each.severity],
      ["Confidence", `${each.confidence} %`], ["Technique", quoted(each.threat.technique ?? "\u2013")],
      ["What the guard did", response(each)],
      ...Object.entries(each.threat.evidence ?? {}).map(([name, value]) => [quoted(name, 60), evidence(name, value)]),
      ["Proven by the guard", (each.threat.vouched ?? []).join(", ") || "nothing"],
      ["Own doing", recognition(each)],
    ]),
    recognizeButton(each, read));
  const read = async () => draw(await get(address));
  const put = calm(place, draw);
  const again = (name, event) => { if (name === "threat_recognized" && event.data?.threatId === id) get(address, { background: true }).then(put, () => {}); };
  return { ready: read(), event: again, end: () => put.end() };
}

/** Return the action of the guard, and its outcome where the guard says it. */
function response({ response: taken }) {
  if (taken === null || typeof taken !== "object") return quoted(taken ?? "\u2013");
  return [quoted(taken.action ?? "\u2013"), taken.outcome ? [", ", quoted(taken.outcome.replaceAll("_", " "))] : ""];
}

function source(threat) {
  const address = threat.threat.evidence?.sourceIp;
  return address ? link("/blocks?value=" + encodeURIComponent(address), quoted(address)) : "\u2013";
}

function evidence(name, value) {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return name === "sourceIp" ? link("/blocks?value=" + encodeURIComponent(text), quoted(text)) : el("code", {}, quoted(text, 2_000));
}
