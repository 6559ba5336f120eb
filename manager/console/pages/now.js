/** The first screen: did anybody get in, do we hurt, what waits, where are we blind. One request answers it. */

import { get, list, may, query } from "../api.js";
import { el, fill, link, path, quoted } from "../dom.js";
import { recognizeButton } from "../recognize.js";
import { distance, time } from "../time.js";
import { calm, seldom } from "../view.js";

const SHOWN = 2;
const BEHIND = 5;

export function open(place) {
  let ended = false;
  const screen = el("div", {});
  const charts = el("div", {});
  fill(place, screen, charts);
  const read = async (background = false) => {
    const found = await get("/api/now", { background });
    if (!ended && background) put(found);
    else if (!ended) fill(screen, draw(found, read));
    return found;
  };
  const put = calm(screen, (found) => fill(screen, draw(found, read)));
  const drawCharts = async (found) => {
    const { fleetCharts } = await import("./now_charts.js");
    const incidents = await list("/api/incidents" + query({ merged: false, limit: 50 }), { background: true });
    if (!ended) putCharts(fleetCharts(found, incidents.records));
  };
  const putCharts = calm(charts, (drawn) => {
    const wereOpen = [...charts.querySelectorAll("details")].map(({ open: isOpen }) => isOpen);
    fill(charts, drawn);
    charts.querySelectorAll("details").forEach((each, index) => { each.open = wereOpen[index] ?? false; });
  });
  /** @type {number|undefined} */
  let retry;
  const again = seldom(1_000, () => read(true).catch(() => { retry = setTimeout(again, 3_000); }));
  const afresh = () => read(true).then(drawCharts).catch(() => again());
  const timer = setInterval(afresh, 25_000 + 10_000 * Math.random());  // consoles that were opened together ask apart
  const first = read();
  first.then((found) => requestIdleCallback(() => drawCharts(found).catch(() => {})), () => {});
  return { ready: first, event: () => again(), end: () => { ended = true; clearInterval(timer); clearTimeout(retry); again.end(); put.end(); putCharts.end(); } };
}

function draw(found, reread) {
  return [
    el("h1", { class: "unseen" }, "Now"),
    verdict(found, reread),
    el("ul", { class: "four" }, gotIn(found.gotIn), weHurt(found.weHurt), waits(found.waits), blind(found.blind, found.manager)),
    dealtWith(found),
  ];
}

function verdict({ agents, gotIn: { records, otherCritical }, weHurt: { harm, unenforced }, waits: { count }, blind: { stale, degraded, heldBack } }, reread) {
  if (agents.total === 0) return el("p", { class: "verdict unknown" }, "No agent has registered yet.");
  const [login] = records;
  if (login !== undefined) {
    return el("p", { class: "verdict bad", "data-verdict": "somebody" }, "Somebody may be in: ", who(login),
      el("span", { class: "line" }, link(path("threats", login.id), "open"), " ", recognizeButton(login, reread)));
  }
  if (otherCritical > 0) {
    return el("p", { class: "verdict warn", "data-verdict": "critical" }, "Nobody logged in after failures, but ",
      link("/threats?severity=critical", `${otherCritical} critical ${otherCritical === 1 ? "report" : "reports"}`), " to look at.");
  }
  const nothing = count + harm.count + unenforced.count === 0;
  const unseen = stale.count + degraded.count + heldBack.count;
  const one = [stale, degraded, heldBack].flatMap(({ records: few }) => few)[0];
  const silent = unseen === 1 && one ? quoted(one.hostname) : hosts(unseen);
  const seen = unseen > 0 ? [", as far as is seen: ", silent, " cannot tell."] : ".";
  return el("p", { class: "verdict" + (unseen > 0 ? " warn" : ""), "data-verdict": "nobody" }, "Nobody got in", seen,
    el("small", {}, "Within 24 h no host reported a login after failed attempts; a login with a stolen password at the first try may look like any other.", nothing ? " Nothing waits for you." : ""));
}

/** Return host, user, source and time of a login, and what is known of its session. */
export function who({ hostname, agentId, threat, eventTime, sessionEndedAt, vouched }) {
  const { user, sourceIp } = threat.evidence;
  return [link(path("agents", agentId), quoted(hostname)), user ? [", user ", quoted(user, 80)] : "",
    sourceIp ? [", from ", link("/threats?source=" + encodeURIComponent(sourceIp), quoted(sourceIp))] : "",
    ", ", time(eventTime, { brief: true }), sessionEndedAt ? [", session ended ", time(sessionEndedAt, { brief: true })] : ", no end of the session seen", vouched ? "" : ", not proven by its host"];
}

function gotIn({ count, more, records, otherCritical }) {
  const others = otherCritical > 0 && [link("/threats?severity=critical", `${otherCritical} critical reports of other types`)];
  return line("got in", count + otherCritical, "/threats?type=login_after_failures&severity=critical", [
    ...records.map((each, index) => [link(path("threats", each.id), "login"), " on ", index ? who(each) : quoted(each.hostname), failures(each), answered(each)]),
    ...(others ? [others] : [])], more, SHOWN, " to check");
}

/** Return after how many failed attempts a login came, where its guard counted them. */
function failures({ threat: { count } }) {
  return count > 1 ? ` after ${count} failed attempts` : "";
}

/** Return what the guard did about a login by itself, and the way to block its address. */
function answered({ response, threat }) {
  const { sourceIp } = threat.evidence;
  const block = sourceIp && may("responder") ? [". ", link("/blocks?value=" + encodeURIComponent(sourceIp), "block it")] : "";
  if (!response?.action) return [": nothing was done about it", block];
  if (response.outcome !== "taken") return [": ", quoted(response.action), " ", quoted(response.outcome ?? ""), block];
  if (response.action === "throttle_ip") return [": ", quoted(sourceIp), " is slowed down there, not blocked: it may be a person's own", block];
  return response.action === "block_ip" ? [": ", quoted(sourceIp), " is blocked there"] : [": ", quoted(response.action), block];
}

function weHurt({ harm, unenforced }) {
  const items = [
    ...harm.records.map((each) => [harmed(each), each.incidentId ? [" ", link(path("incidents", each.incidentId), "incident")] : ""]),
    ...unenforced.records.map((agent) => [link(path("agents", agent.agentId), quoted(agent.hostname)), ": ", reasons(agent)]),
  ];
  return line("we hurt", harm.count + unenforced.count, unenforced.count ? "/agents?unenforced=true" : "/blocks", items, harm.more);
}

/** Return what a block did: cut connections, did not hold, or was withdrawn because somebody logged in. */
function harmed({ event, hostname, agentId, value, connections, reason, threatId, at }) {
  const address = link("/blocks?value=" + encodeURIComponent(value ?? ""), quoted(value));
  const where = hostname ? [" on ", link(path("agents", agentId), quoted(hostname))] : "";
  const evidence = threatId ? [" (", link(path("threats", threatId), "why"), ")"] : "";
  const cut = connections === 1 ? "cut 1 of its connections" : `cut ${connections} of its connections`;
  const done = { block_cut_connections: `: ${cut}, to services that it had not attacked`, block_withdrawn: ": withdrawn, somebody logged in from it" }[event]
    ?? [": does not hold", reason ? [", ", quoted(reason)] : ""];
  return ["block of ", address, where, done, evidence, ", ", time(at, { brief: true }), event === "block_withdrawn" ? "" : [
    ". A friend? ", link("/blocks?value=" + encodeURIComponent(value ?? ""), "lift it")]];
}

function reasons(agent) {
  const given = agent.enforced?.reasons ?? [];
  return given.length ? given.slice(0, 2).map(({ value, reason }, index) => [index ? "; " : "", quoted(value), " ", quoted(reason)]) : "blocks that do not hold";
}

function waits({ count, records }) {
  return line("waits for you", count, "/incidents?waits=true", records.map((each) => [
    "block ", link(path("incidents", each.id), quoted(each.value)), ` on ${hosts(each.targetCount)} of `, quoted(each.organizationId),
    each.approvalExpiresAt ? [": ", el("strong", {}, left(each.approvalExpiresAt)), " left to approve it, else the request lapses"] : "", `, reported by ${hosts(each.agentCount)}: `, link(path("incidents", each.id), "approve or not")]));
}

/** Return the time left until a moment: "10 min". */
function left(iso) {
  return Date.parse(iso) > Date.now() ? distance(iso).replace(/^in /, "") : "no time";
}

function blind({ stale, degraded, unconfirmed, heldBack, channels, warnings }, manager) {
  const some = (part, address, what) => part.count > 0 && [link(address, `${part.count} ${what}`), ": ", names(part)];
  const late = manager.behindSeconds > BEHIND;
  const items = [
    manager.problem && ["the manager: ", quoted(manager.problem, 300)],
    late && `the manager is ${Math.round(manager.behindSeconds)} s behind: ${manager.waitingMessages} messages wait`,
    some(stale, "/agents?status=stale", "silent (stale)"),
    some(degraded, "/agents?health=degraded", "degraded"),
    some(heldBack, "/agents", "with reports that do not arrive"),
    some(unconfirmed, "/agents?unconfirmed=true", "in trial or not in the mode that is wanted"),
    ...channels.map((each) => [link("/notifications", "channel ", quoted(each.name)), " fails since ", time(each.failingSince, { brief: true }), ": ", quoted(each.reason)]),
    ...warnings.filter((sentence) => !channels.some(({ name }) => sentence.startsWith(`notifications to ${name} fail`)))
      .map((sentence) => quoted(sentence, 500)),
  ].filter(Boolean);
  const counted = stale.count + degraded.count + heldBack.count + unconfirmed.count;
  const others = items.length - [stale, degraded, heldBack, unconfirmed].filter(({ count }) => count > 0).length;
  return line("we are blind", counted + others, "/agents", items, false, 4);
}

/** Return the first hosts of a part, each with the time since when. */
function names({ count, records }) {
  const shown = records.slice(0, SHOWN).map((each, index) => [index ? ", " : "", link(path("agents", each.agentId), quoted(each.hostname)),
    each.status === "stale" ? [" since ", time(each.statusSince, { brief: true })] : each.since ? [" since ", time(each.since, { brief: true })] : ""]);
  return [shown, count > shown.length ? ` and ${count - shown.length} more` : ""];
}

/** Return one of the four lines: its number, zero or a link, and its first items. */
function line(name, count, address, items, more = false, shown = SHOWN, what = "") {
  const rest = count - Math.min(items.length, shown);
  return el("li", { "data-line": name, "data-count": count },
    el("span", { class: "number" + (count ? " bad" : "") }, `${name}: `, count ? link(address, `${count}${more ? "+" : ""}${what}`) : "0"),
    items.length > 0 && el("ul", {}, items.slice(0, shown).map((item) => el("li", {}, item)),
      items.length > shown && rest > 0 && el("li", {}, link(address, `and ${rest} more`))));
}

function dealtWith({ dealtWith: { total, sources, blocks }, agents, at }) {
  return el("p", { "data-line": "dealt with" }, "Dealt with: ", link("/threats", `${total} reports`),
    ` from ${sources} ${sources === 1 ? "address" : "addresses"} within 24 h; `, link("/blocks", `${blocks} blocks in force`), ". ",
    el("small", { class: "faint" }, `${agents.online} of ${agents.total} agents online, read `, time(at, { ago: false, brief: true }), "."));
}

function hosts(count) {
  return count === 1 ? "1 host" : `${count} hosts`;
}
