/** Agents: all of them in one scrolling list with filters, and one with its vitals, sources, policy, threats and blocks. */

import { get, list, query } from "../api.js";
import { bars, percentages } from "../chart.js";
import { el, fill, link, path, quoted, shown } from "../dom.js";
import { distance, time } from "../time.js";
import { facts, seldom, table } from "../view.js";
import { tagsForm } from "./agent_tags.js";

const ROW = 32;
const PAGE = 1000;
const COLUMNS = "minmax(10rem, 2fr) 5rem 6rem 7rem 7rem minmax(5rem, 1fr) 5rem 7rem";
const HEADS = ["Host", "State", "Health", "Mode", "Enforcement", "Site", "Release", "Last heard"];
const CHOICES = {
  status: ["", "online", "stale", "offline"],
  health: ["", "ok", "degraded"],
  mode: ["", "learning", "protection"],
  enforcement: ["", "nftables", "route", "simulated", "impossible", "unknown"],
};

export function open(place, [id], given) {
  return id ? one(place, id) : all(place, given);
}

function all(place, given) {
  const text = el("input", { type: "search", name: "text", value: given.get("text") ?? "" });
  const choices = Object.fromEntries(Object.entries(CHOICES).map(([name, values]) => [name,
    el("select", { name }, values.map((value) => el("option", { value, selected: given.get(name) === value }, value || "any")))]));
  const group = groupChoice(given.get("group") ?? "");
  const count = el("p", { class: "faint", role: "status" });
  const head = el("div", { class: "head", "aria-hidden": "true" }, HEADS.map((name) => el("span", {}, name)));
  const spacer = el("div", { class: "space" });
  head.style.gridTemplateColumns = COLUMNS;
  const rows = el("div", { class: "rows", tabindex: 0, role: "region", "aria-label": "Agents" }, head, spacer);
  const chart = el("div", {});
  const waiting = el("button", { type: "button", hidden: true, onclick: () => read() });
  let fresh = 0;
  let agents = [];
  let matching = [];
  /** The rows that are drawn, by agent. @type {Map<string, HTMLElement>} */
  let drawn = new Map();
  let complete = false;
  let ended = false;
  const filter = () => {
    const wanted = text.value.trim().toLowerCase();
    const asked = Object.fromEntries(Object.keys(CHOICES).map((name) => [name, choices[name].value]));
    matching = agents.filter((agent) => (!asked.status || agent.status === asked.status) && (!asked.health || agent.health === asked.health)
      && (!asked.mode || agent.mode === asked.mode) && (!asked.enforcement || agent.enforcement === asked.enforcement) && (!wanted || agent.searched.includes(wanted)));
    spacer.style.height = `${matching.length * ROW}px`;
    fill(count, `${matching.length} of ${agents.length}${complete ? "" : " (still reading)"} agents`);
    draw();
  };
  const draw = () => {
    const first = Math.max(0, Math.floor(rows.scrollTop / ROW) - 5);
    const last = Math.min(matching.length, Math.ceil((rows.scrollTop + rows.clientHeight) / ROW) + 5);
    const wanted = new Map(matching.slice(first, last).map((agent, index) => [agent.agentId, placed(drawn.get(agent.agentId) ?? rowOf(agent), first + index)]));
    for (const [agentId, row] of drawn) if (!wanted.has(agentId)) row.remove();
    let at = spacer.firstChild;
    for (const row of wanted.values()) {  // rows that stay are not touched: one of them may have the focus
      if (row === at) at = row.nextSibling;
      else spacer.insertBefore(row, at);
    }
    drawn = wanted;
  };
  rows.addEventListener("scroll", draw, { passive: true });
  for (const input of [text, ...Object.values(choices)]) input.addEventListener("input", filter);
  fill(place, el("h1", {}, "Agents"),
    el("form", { class: "line", onsubmit: (event) => event.preventDefault() }, el("label", {}, "Host, site, tag or release", text),
      Object.entries(choices).map(([name, choice]) => el("label", {}, name[0].toUpperCase() + name.slice(1), choice)), group),
    count, waiting, rows, el("h2", {}, "By state"), chart);
  const server = { unenforced: given.get("unenforced"), unconfirmed: given.get("unconfirmed"), group: given.get("group") };
  const read = async () => {
    let cursor = null;
    agents = [];
    fresh = 0;
    waiting.hidden = true;
    for (const row of drawn.values()) row.remove();
    drawn = new Map();
    do {
      const page = await list("/api/agents" + query({ ...server, brief: true, limit: PAGE, cursor }), { background: agents.length > 0 });
      if (ended) return;
      agents.push(...page.records.map(searchable));
      cursor = page.cursor;
      complete = cursor === null;
      filter();
    } while (cursor !== null);
    drawChart();
  };
  const drawChart = () => {
    const states = { online: 0, stale: 0, offline: 0 };
    for (const agent of agents) states[agent.status] += 1;
    if (complete && !ended) fill(chart, bars("Agents by state", states));
  };
  const chartAgain = seldom(2_000, drawChart);
  return {
    ready: read(),
    event: (name, event) => {
      if (name === "agent_registered" || name === "agent_removed") {
        fresh += 1;
        waiting.hidden = false;
        fill(waiting, `${fresh} new or removed: show`);
      }
      const status = { agent_online: "online", agent_stale: "stale", agent_offline: "offline" }[name];
      const known = status && agents.find((agent) => agent.agentId === event.agentId);
      if (!known) return;
      known.status = status;  // the row stays where it is: only its state changes
      const row = drawn.get(event.agentId);
      if (row) showStatus(row, status);
      chartAgain();
    },
    end: () => { ended = true; chartAgain.end(); },
  };
}

/** Return a choice of policy groups, which the manager resolves; nothing for a token that may not read them. */
function groupChoice(current) {
  const select = el("select", { name: "group", onchange: () => { location.hash = "/agents" + query({ group: select.value }); } },
    el("option", { value: current }, current || "any"));
  const label = el("label", { hidden: !current }, "Group", select);
  list("/api/policies/groups?limit=200", { background: true }).then(({ records }) => {
    const names = records.map(({ name }) => name).filter((name) => name !== current);
    select.append(...(current ? ["", ...names] : names).map((name) => el("option", { value: name }, name || "any")));
    label.hidden = !current && names.length === 0;
  }, () => {});
  return label;
}

function searchable(agent) {
  const texts = [agent.hostname, agent.site, agent.version, agent.agentId, agent.organizationId, ...agent.tags];
  return { ...agent, searched: texts.filter(Boolean).join("\n").toLowerCase() };
}

function placed(row, index) {
  row.style.top = `${index * ROW}px`;
  return row;
}

function rowOf(agent) {
  const row = el("a", { class: "row", href: "#" + path("agents", agent.agentId) },
    el("span", {}, quoted(agent.hostname)), el("span", {}),
    el("span", { class: agent.health === "degraded" ? "warn-text" : "" }, agent.health ?? "unknown"), el("span", {}, agent.mode ?? "\u2013"),
    el("span", {}, agent.enforcement), el("span", {}, agent.site ? quoted(agent.site) : "\u2013"), el("span", {}, quoted(agent.version)),
    el("span", {}, agent.lastHeartbeat ? distance(agent.lastHeartbeat) : "never"));
  row.style.gridTemplateColumns = COLUMNS;
  showStatus(row, agent.status);
  return row;
}

function showStatus(row, status) {
  row.children[1].className = status === "online" ? "" : "bad-text";
  fill(row.children[1], status);
}

function one(place, id) {
  const read = async () => {
    const agent = await get("/api/agents/" + encodeURIComponent(id));
    const [explained, blocks, vitals] = await Promise.all([
      get(`/api/policies/agent/${encodeURIComponent(id)}/explain`).catch(() => null),
      list("/api/blocks" + query({ target: id, limit: 50 })),
      get(`/api/agents/${encodeURIComponent(id)}/vitals`),
    ]);
    fill(place, draw(agent, explained, blocks, vitals, read));
  };
  return { ready: read(), event: () => {} };
}

function draw(agent, explained, blocks, vitals, reread) {
  return [
    el("h1", {}, quoted(agent.hostname)),
    facts([
      ["Id", el("code", {}, agent.agentId)], ["Organization", quoted(agent.organizationId)],
      ["State", [agent.status, ", since ", time(agent.statusSince), agent.reason ? [": ", quoted(agent.reason)] : ""]],
      ["Health", [agent.health ?? "unknown", agent.clone ? el("span", { class: "bad-text" }, ", runs more than once") : ""]],
      ["Mode", [agent.mode ?? "\u2013", agent.modeWanted && agent.modeWanted !== agent.mode ? `, ${agent.modeWanted} is wanted` : "",
        agent.trialSecondsLeft ? `, in trial for ${Math.round(agent.trialSecondsLeft)} s more` : ""]],
      ["Enforcement", enforcement(agent)],
      ["Policy", `version ${agent.policyVersion} of ${agent.activePolicyVersion}${agent.policyCurrent ? "" : ", not the one that is meant"}${agent.policyError ? ": " + shown(agent.policyError) : ""}`],
      ["Site", [agent.site ? quoted(agent.site) : "\u2013", agent.reportedSite && agent.reportedSite !== agent.site ? [", the guard says ", quoted(agent.reportedSite)] : ""]], ["Tags", agent.tags.map((tag) => [el("span", { class: "tag" }, quoted(tag)), " "])],
      ["System", quoted(`${agent.os} ${agent.arch}, release ${agent.version}`)], ["Last heard", time(agent.lastHeartbeat)],
      ["Vitals", `CPU ${agent.cpu ?? "\u2013"} %, memory ${agent.memory ?? "\u2013"} %, outbox ${agent.outboxSize ?? "\u2013"}`],
    ]),
    tagsForm(agent, reread),
    el("h2", {}, "Vitals of the last 24 hours"),
    overTime(vitals),
    el("h2", {}, "Sources"),
    agent.sources.length ? table(["Source", "State", "Records", "Last", "Reason"], agent.sources.map((each) => [
      quoted(each.name), each.state, each.records ?? "\u2013", time(each.lastAt), quoted(each.reason ?? "")]), "What the guard reads") : el("p", {}, "It says none."),
    el("h2", {}, "Blocks of this host"),
    blocks.records.length ? table(["Value", "Until", "Why"], blocks.records.map((each) => [
      link("/blocks?value=" + encodeURIComponent(each.value), quoted(each.value)), time(each.expiresAt), quoted(each.reason)]), "Its own; those of its organization and the fleet come on top") : el("p", {}, "None of its own."),
    el("h2", {}, "Newest threats"),
    agent.recentThreats.length ? table(["When", "Threat", "Severity"], agent.recentThreats.map((each) => [
      time(each.eventTime), link(path("threats", each.id), quoted(each.type)), each.severity]), "Its newest threats") : el("p", {}, "None."),
    el("p", {}, link("/threats?agentId=" + encodeURIComponent(agent.agentId), "All its threats")),
    el("h2", {}, "Where its policy comes from"),
    explained ? origins(explained) : el("p", {}, "Not to be read with this token."),
  ];
}

/** Return CPU and memory as lines; one point for each period of which heartbeats came. */
function overTime({ periods, periodSeconds }) {
  if (!periods.length) return el("p", {}, "No heartbeat has stated CPU and memory.");
  return percentages(`CPU (solid) and memory (dashed) in percent, means of ${periodSeconds / 60} minutes`, {
    names: ["enforced", "accepted"], step: periodSeconds, heads: ["From", "CPU", "Highest CPU", "Memory", "Events", "Heartbeats"],
    rows: periods.map((each) => ({ at: each.at, values: [each.cpu, each.memory],
      cells: [time(each.at), `${each.cpu} %`, `${each.cpuHighest} %`, `${each.memory} %`, each.events ?? "\u2013", each.heartbeats] })) });
}

/** Return the values of a policy that are no defaults, each with the scopes that set it, and behind them all values. */
function origins({ values, groups }) {
  const set = values.filter(({ scope }) => scope !== "default");
  const row = ({ path: name, value, scope, target, setBy = [] }) => {
    const others = setBy.filter((each) => each.scope !== scope || each.target !== target);
    return [quoted(name), el("code", {}, shown(JSON.stringify(value), 300)), scopeText({ scope, target }), others.length ? others.map((each, index) => [index ? ", " : "", scopeText(each)]) : "\u2013"];
  };
  return [
    el("p", {}, groups.length ? ["Groups, a later one takes precedence: ", groups.map((group) => [link("/policies/groups/" + encodeURIComponent(group.name ?? group), quoted(group.name ?? group)), " "])] : "It is in no group."),
    set.length ? table(["Value", "Is", "Set by", "Also set by"], set.map(row), "Values that are no defaults") : el("p", {}, "All values are the defaults."),
    el("details", {}, el("summary", {}, `All ${values.length} values`), table(["Value", "Is", "Set by", "Also set by"], values.map(row), "All values")),
  ];
}

function scopeText({ scope, target }) {
  return [scope, target ? [" ", quoted(target)] : ""];
}

function enforcement(agent) {
  if (!agent.enforced) return `${agent.enforcement}: it has not said what it enforces`;
  const bad = ["ineffective", "refused", "impossible", "failed"].filter((name) => agent.enforced[name] > 0);
  return [`${agent.enforcement}: ${agent.enforced.set ?? 0} set`, bad.map((name) => el("span", { class: "bad-text" }, `, ${agent.enforced[name]} ${name}`))];
}
