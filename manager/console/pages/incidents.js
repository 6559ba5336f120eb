/** Incidents: the list, and one with its timeline, its spread, and what a responder can do about it. */

import { change, get, may, query } from "../api.js";
import { hostCount, hostsOfOrganization } from "../block_scope.js";
import { curve } from "../chart.js";
import { el, fill, link, path, quoted } from "../dom.js";
import { recognizeNamed } from "../recognize.js";
import { time } from "../time.js";
import { calm, confirmed, facts, pagedList, seldom, table } from "../view.js";

const KINDS = { source_ip: "address", file_hash: "file hash", technique: "technique" };

/** Types of threats that may be a person's own login. */
const LOGIN = /login|sudo/;

/**
 * What people do about an incident beside its response.
 * @type {[string, {title: string, touches: string, undo: string}][]}
 */
const WORK = [
  ["acknowledge", { title: "Acknowledge", touches: "Everybody sees that you look into it.", undo: "nothing takes it back; close it, or add a note" }],
  ["note", { title: "Add a note", touches: "The note stands in the timeline for everybody.", undo: "nothing takes it back; add another note" }],
  ["close", { title: "Close", touches: "Everybody sees that the work is done; a further report opens it again.", undo: "acknowledge it" }],
];

export function open(place, [id], given) {
  return id ? one(place, id) : all(place, given);
}

function all(place, given) {
  const value = el("input", { name: "value", value: given.get("value") ?? "" });
  const waits = el("input", { type: "checkbox", name: "waits", checked: given.get("waits") === "true" });
  const members = () => ({ value: value.value.trim(), response: waits.checked ? "pending_approval" : "" });
  const found = pagedList({
    address: (cursor) => "/api/incidents" + query({ ...members(), merged: false, limit: 100, cursor }),
    heads: ["Opened", "What", "Organization", "Hosts", "Response", "Work"],
    row: (each) => [
      time(each.openedAt), link(path("incidents", each.id), `${KINDS[each.kind]} `, quoted(each.value)), quoted(each.organizationId),
      each.agentCount, response(each), each.workState,
    ],
    caption: "Incidents, the last opened first",
    empty: "No incident matches.",
  });
  fill(place, el("h1", {}, "Incidents"),
    el("form", { class: "line", onsubmit: (event) => { event.preventDefault(); found.read(); } },
      el("label", {}, "Address, hash or technique", value), el("label", {}, "Only those that wait for approval", waits),
      el("button", { type: "submit" }, "Search")),
    found.element);
  return { ready: found.ready, event: (name) => { if (name === "incident_opened") found.arrived(); } };
}

/** Return what was decided, and on how many targets it is in force by the guards' own word. */
export function response(incident) {
  if (incident.response === null) return "none";
  if (incident.response === "applied" && incident.enforcedCount === 0) return "recorded, no host enforces it";
  if (incident.response === "applied") return `enforced on ${incident.enforcedCount} of ${incident.targetCount}`;
  return incident.response.replaceAll("_", " ");
}

function one(place, id) {
  /** @type {any} */
  let shown = null;
  const said = el("div", { "aria-live": "polite" });
  const address = "/api/incidents/" + encodeURIComponent(id);
  const show = (found) => {
    shown = found;
    fill(place, draw(found), said);
  };
  const put = calm(place, show);
  const read = async (background = false) => {
    const found = await get(address, { background });
    (background ? put : show)(found);
  };
  const work = async (action, { title, touches, undo }) => {
    const note = el("input", { name: "note", required: action === "note", maxlength: 1000 });
    const done = await confirmed({
      title, why: evidenceLine(shown), touches: [touches, " No host is touched, no block changes.", el("label", {}, "Note", note)], undo, action: title, changed: since(shown),
      make: () => {
        if (action === "note" && !note.value.trim()) throw new Error("write the note first");
        return change("POST", `${address}/${action}`, note.value.trim() ? { note: note.value.trim() } : undefined);
      },
    });
    if (done) await read();
  };
  /** Return a check of what differs from what the page shows now, whatever it shows later. */
  const since = (seen) => async () => {
    const current = await get(address);
    const differences = ["response", "workState", "agentCount", "targetCount"]
      .filter((name) => current[name] !== seen[name]).map((name) => `${name} is ${current[name]}, was ${seen[name]}`);
    return differences.length ? differences.join("; ") : null;
  };
  const undo = async () => {
    const hosts = shown.targetCount;
    const done = await confirmed({
      title: "Undo the response?", why: evidenceLine(shown),
      touches: [`The blocks of `, quoted(shown.value), ` are withdrawn on ${hostCount(hosts)}, and the incident does not respond again.`],
      undo: ["block the address by hand on the page ", link("/blocks?value=" + encodeURIComponent(shown.value), "Blocks")],
      action: `Withdraw on ${hostCount(hosts)}`, changed: since(shown),
      make: () => change("POST", `${address}/undo`),
    });
    if (done) await read();
  };
  const approve = async () => {
    const hosts = await hostsOfOrganization(shown.organizationId);
    const done = await confirmed({
      title: "Approve the response?", why: evidenceLine(shown),
      touches: [quoted(shown.value), " is blocked for every host of ", quoted(shown.organizationId), ` (${hostCount(hosts)}), by the word of ${shown.vouchedAgentCount} of ${shown.agentCount} hosts that prove what they report.`],
      undo: "Undo, on this page", action: `Block on ${hostCount(hosts)}`, changed: since(shown),
      make: () => change("POST", `${address}/approve`),
    });
    if (done) await read();
  };
  function draw(incident) {
    return [
      el("h1", {}, `${KINDS[incident.kind]} `, quoted(incident.value)),
      facts([
        incident.kind === "source_ip" && ["Address", [link("/threats?source=" + encodeURIComponent(incident.value), "its threats"), ", ", link("/blocks?value=" + encodeURIComponent(incident.value), "its blocks")]],
        incident.kind === "technique" && ["Technique", link("/threats?technique=" + encodeURIComponent(incident.value), "its threats")],
        ["Seen by", `${incident.agentCount} hosts of ${incident.organizationId}; ${incident.vouchedAgentCount} prove what they report`],
        ["Reports", [`${incident.reportCount}, the last `, time(incident.lastSeenAt)]],
        ["Response", [response(incident), incident.responseReason ? [": ", quoted(incident.responseReason)] : ""]],
        ["Why", evidenceLine(incident)],
        incident.approvalExpiresAt && ["Waits for approval until", time(incident.approvalExpiresAt)],
        ["Work", [incident.workState, incident.workBy ? [" by ", quoted(incident.workBy)] : ""]],
      ].filter(Boolean)),
      may("responder") && el("div", { class: "line" },
        incident.response === "pending_approval" && el("button", { type: "button", onclick: approve }, "Approve\u2026"),
        WORK.map(([action, about]) => el("button", { type: "button", onclick: () => work(action, about) }, about.title + "\u2026"))),
      may("responder") && incident.entries.length > 0 && el("div", { class: "line" },
        el("button", { type: "button", class: "danger", onclick: undo }, "Undo the response\u2026")),
      el("h2", {}, "How the response spread"),
      curve(incident),
      incident.notEnforced.length > 0 && [el("h2", {}, "Hosts that do not enforce it"),
        el("ul", {}, incident.notEnforced.map((each) => el("li", {}, link(path("agents", each.agentId), quoted(each.hostname)), ": ", quoted(each.reason))))],
      el("h2", {}, "What happened"),
      el("ol", {}, incident.timeline.map((each) => el("li", {}, time(each.at), ` ${each.event.replaceAll("_", " ")}`,
        each.by ? [" by ", quoted(each.by)] : "", each.text ? [": ", quoted(each.text, 1_000)] : ""))),
      el("h2", {}, "Who was hit"),
      table(["When", "Host", "Threat", "Severity", "User", ""], incident.threats.map((each) => [
        time(each.eventTime), link(path("agents", each.agentId), quoted(each.hostname)), link(path("threats", each.id) + query({ agentId: each.agentId }), quoted(each.type)),
        each.severity, each.user ? quoted(each.user, 80) : "\u2013", LOGIN.test(each.type) && recognizeNamed(each, read)]), "The newest threats of the incident"),
    ];
  }
  const again = seldom(2_000, () => read(true).catch(() => {}));
  return {
    ready: read(),
    event: (name, event) => { if (event.data?.incidentId === id || name === "connected") again(); },
    end: () => { again.end(); put.end(); },
  };
}

function evidenceLine(incident) {
  const [first] = incident.threats;
  return first ? [quoted(first.type), " on ", quoted(first.hostname), ", ", time(first.eventTime), ` and ${incident.threats.length - 1} more below`] : "its reports are no longer kept";
}
