/** The first screen: did anybody get in, do we hurt, what waits, where are we blind. */

import { get, list, query } from "../api.js";
import { el, fill, link, path, quoted } from "../dom.js";
import { recognizeButton } from "../recognize.js";
import { distance, time } from "../time.js";
import { seldom } from "../view.js";

const DAY = 86_400_000;
const SHOWN = 3;
const MOST = 200;

export function open(place) {
  let ended = false;
  let at = null;
  const read = async (background = false) => {
    const found = await situation(background);
    if (ended) return;
    at = found.at;
    fill(place, draw(found, read));
  };
  const again = seldom(2_000, () => read(true).catch(() => {}));
  const timer = setInterval(again, 30_000);
  return {
    ready: read(),
    event: () => again(),
    end: () => { ended = true; clearInterval(timer); again.end(); },
    get at() { return at; },
  };
}

async function situation(background) {
  const since = new Date(Date.now() - DAY).toISOString();
  const asked = { background };
  const [logins, waiting, overview, degraded, unenforced, unconfirmed, blocks] = await Promise.all([
    list("/api/threats" + query({ type: "login_after_failures", severity: "critical", recognized: false, since, limit: 20 }), asked),
    list("/api/incidents" + query({ response: "pending_approval", merged: false, limit: 50 }), asked),
    get("/api/overview", asked),
    list("/api/agents" + query({ health: "degraded", limit: MOST }), asked),
    list("/api/agents" + query({ unenforced: true, limit: MOST }), asked),
    list("/api/agents" + query({ unconfirmed: true, limit: MOST }), asked),
    list("/api/blocks" + query({ kind: "ip", limit: MOST }), asked),
  ]);
  return { at: new Date(), logins, waiting, overview, degraded, unenforced, unconfirmed, blocks };
}

function draw({ at, logins, waiting, overview, degraded, unenforced, unconfirmed, blocks }, reread) {
  const stale = overview.staleAgents;
  const blind = stale + degraded.records.length + unconfirmed.records.length + overview.heldBack.length + overview.warnings.length;
  return [
    el("h1", { class: "faint" }, "Now"),
    verdict(logins, overview, reread),
    el("ul", { class: "four" },
      line("got in", logins, logins.records.map((each) => el("li", {}, who(each), ", ", link(path("threats", each.id), "open")))),
      line("we hurt", unenforced, unenforced.records.map((agent) => el("li", {},
        link(path("agents", agent.agentId), quoted(agent.hostname)), ": ", reasons(agent)))),
      line("waits for you", waiting, waiting.records.map((incident) => el("li", {},
        link(path("incidents", incident.id), quoted(incident.value)), ` on ${incident.agentCount} hosts, `,
        incident.approvalExpiresAt ? ["ends ", distance(incident.approvalExpiresAt)] : ""))),
      lineOf("we are blind", blind, [
        stale > 0 && el("li", {}, link("/agents?status=stale", `${stale} silent`)),
        degraded.records.length > 0 && el("li", {}, link("/agents?health=degraded", `${number(degraded)} degraded`)),
        unconfirmed.records.length > 0 && el("li", {}, link("/agents?unconfirmed=true", `${number(unconfirmed)} in trial or not in the mode that is wanted`)),
        overview.heldBack.length > 0 && el("li", {}, `${overview.heldBack.length} with reports that do not arrive`),
        overview.warnings.map((sentence) => el("li", {}, quoted(sentence, 500))),
      ].flat().filter(Boolean))),
    el("p", {}, "Dealt with: ", link("/blocks", `${number(blocks)} addresses are blocked now`),
      `; ${overview.threatSummary.last24h.total ?? sum(overview.threatSummary.last24h)} reports within 24 h from ${overview.totalAgents} agents.`),
    el("p", { class: "faint" }, "Read ", time(at.toISOString(), { ago: false }), "."),
  ];
}

function verdict(logins, overview, reread) {
  if (overview.totalAgents === 0) return el("p", { class: "verdict unknown" }, "No agent has registered yet.");
  const [newest] = logins.records;
  if (newest === undefined) {
    return el("p", { class: "verdict", "data-verdict": "nobody" }, "Nobody got in, by what the guards have seen within 24 h.");
  }
  return el("p", { class: "verdict bad", "data-verdict": "somebody" }, "Somebody may be in: ", who(newest), ". ",
    link(path("threats", newest.id), "open"), " ", recognizeButton(newest, reread));
}

/** Return host, user, source and time of a login. */
function who(threat) {
  const { user, sourceIp } = threat.threat.evidence;
  return [quoted(threat.hostname), user ? [", user ", quoted(user, 80)] : "", sourceIp ? [", from ", link("/threats?source=" + encodeURIComponent(sourceIp), quoted(sourceIp))] : "",
    ", ", time(threat.eventTime)];
}

function reasons(agent) {
  const given = agent.enforced?.reasons ?? [];
  return given.length ? given.slice(0, 2).map(({ value, reason }, index) => [index ? "; " : "", quoted(value), " ", quoted(reason)]) : "blocks that do not hold";
}

function line(name, page, items) {
  return lineOf(name, number(page), items, page.records.length);
}

function lineOf(name, count, items, size = count) {
  const rest = items.length - SHOWN;
  return el("li", { "data-line": name },
    el("span", { class: "number" + (size ? " bad" : "") }, size ? `${name}: ${count}` : `${name}: 0`),
    items.length ? el("ul", {}, items.slice(0, SHOWN), rest > 0 && el("li", { class: "faint" }, `and ${rest} more`)) : el("span", { class: "faint" }, "nothing"));
}

/** Return the number of a list's records, with a plus where there are more pages. */
function number({ records, cursor }) {
  return records.length + (cursor ? "+" : "");
}

function sum(counts) {
  return Object.values(counts).reduce((total, each) => total + (typeof each === "number" ? each : 0), 0);
}
