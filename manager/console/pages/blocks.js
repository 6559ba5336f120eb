/** Blocks: search by address with why, since when and on whom; block by hand, and lift one address. */

import { change, get, list, may, query } from "../api.js";
import { hostCount, scopeFields } from "../block_scope.js";
import { el, fill, link, path, quoted, shown } from "../dom.js";
import { time } from "../time.js";
import { confirmed, pagedList, tell } from "../view.js";
import { importForm } from "./block_import.js";

const DURATIONS = [["1 hour", 3600], ["4 hours", 14_400], ["1 day", 86_400], ["7 days", 604_800]];

export function open(place, _ids, given) {
  const value = el("input", { name: "value", value: given.get("value") ?? "", placeholder: "203.0.113.9" });
  const said = el("div", { "aria-live": "polite" });
  const found = pagedList({
    address: (cursor) => "/api/blocks" + query({ value: given.get("value"), kind: given.get("value") ? "" : "ip", limit: 100, cursor }),
    heads: ["Value", "Hosts", "Why", "Since", "Until", "In force", ""],
    row: (block) => [
      [link("/blocks?value=" + encodeURIComponent(block.value), quoted(block.value)), block.value.includes("/") ? "" : [" ", link("/threats?source=" + encodeURIComponent(block.value), "threats")]], scope(block),
      [block.incidentId ? link(path("incidents", block.incidentId), quoted(block.reason)) : quoted(block.reason), block.addedBy ? [", by ", quoted(block.addedBy)] : ""],
      time(block.createdAt), time(block.expiresAt), onWhom(block),
      may("responder") && el("button", { type: "button", class: "danger", onclick: () => lift(block) }, "Lift\u2026"),
    ],
    caption: "Blocks in force, newest first",
    empty: given.get("value") ? "No block of the manager covers it. Guards may have decided one by themselves." : "No address is blocked.",
  });
  const lift = async (block) => {
    const [blocks, { totalAgents }] = await Promise.all([blocksOf(block.value), get("/api/overview")]);
    const hosts = Math.min(totalAgents, blocks.reduce((sum, { targetCount }) => sum + targetCount, 0));
    const done = await confirmed({
      title: "Lift every block of this address?", why: reasons(block, blocks),
      touches: [quoted(block.value), ` is unblocked: ${blocks.length} block${blocks.length === 1 ? "" : "s"}, on at most ${hostCount(hosts)}. For 5 minutes nobody blocks it, also what guards block by themselves ends.`],
      undo: "block it by hand on this page", action: `Lift ${shown(block.value, 64)}`,
      changed: async () => {
        const now = await blocksOf(block.value);
        if (now.length === 0) return "it is not blocked any more";
        const fresh = now.filter(({ id }) => !blocks.some((each) => each.id === id)).length;
        if (!now.some(({ id }) => id === block.id)) return "this block is not in force any more";
        return fresh ? `${fresh} more blocks of it are in force` : null;
      },
      make: () => change("DELETE", "/api/blocks" + query({ value: block.value })),
    });
    if (!done) return;
    said.className = "notice";
    fill(said, `${shown(done.value, 64)} is lifted on ${done.agents - done.notReached} of ${done.agents} hosts; ${done.notReached} may keep a block of their own.`);
    await found.read();
  };
  fill(place, el("h1", {}, "Blocks"),
    el("form", { class: "line", onsubmit: (event) => { event.preventDefault(); location.hash = "/blocks" + query({ value: value.value.trim() }); } },
      el("label", {}, "Address or network", value), el("button", { type: "submit" }, "Search")),
    said, found.element, may("responder") && byHand(found, said, given.get("value")));
  return { ready: found.ready, event: (name) => { if (name === "blocks_added") found.arrived(); } };
}

/** Return the numbers of hosts that have a block; of a search by address also their names, and why others have not. */
function onWhom(block) {
  const named = (hosts, word) => hosts?.length ? el("div", {}, word, hosts.map((each, index) => [index ? ", " : "", link(path("agents", each.agentId), quoted(each.hostname))])) : "";
  const reasons = (block.notEnforced ?? []).map((each) => el("div", {}, link(path("agents", each.agentId), quoted(each.hostname)), ": ", quoted(each.reason)));
  return [`accepted by ${block.acceptedCount}, enforced by ${block.enforcedCount} of ${block.targetCount}`, named(block.enforcedBy, "enforced by "), block.enforcedBy && reasons];
}

async function blocksOf(value) {
  const { records } = await list("/api/blocks" + query({ value, limit: 200 }));
  return records.filter((each) => each.value === value);
}

/** Return why an address is blocked: the reason of a block, and how many others there are. */
function reasons(block, blocks) {
  const others = blocks.filter(({ id }) => id !== block.id).length;
  return [block.incidentId ? link(path("incidents", block.incidentId), quoted(block.reason)) : quoted(block.reason), block.addedBy ? [", by ", quoted(block.addedBy)] : "", ", ", time(block.createdAt), others ? `; ${others} more blocks of it` : ""];
}

function scope(block) {
  if (block.scope === "fleet") return "the whole fleet";
  return block.scope === "agent" ? ["host ", link(path("agents", block.target), quoted(block.target))] : [block.scope + " ", quoted(block.target ?? "")];
}

function byHand(found, said, given) {
  const value = el("input", { name: "new", required: true, value: given ?? "" });
  const reason = el("input", { name: "reason", maxlength: 100 });
  const scope = scopeFields();
  const seconds = el("select", { name: "seconds" }, DURATIONS.map(([text, number]) => el("option", { value: number, selected: number === 14_400 }, text)));
  const add = async (event) => {
    event.preventDefault();
    const body = { value: value.value.trim(), seconds: Number(seconds.value) };
    if (reason.value.trim()) body.reason = reason.value.trim();
    let where;
    try {
      where = await scope.read();
      const check = await change("POST", "/api/blocks/import", { ...where.members, blocks: [body], dryRun: true });
      if (check.refused.length) throw new Error(check.refused[0].reason);
    } catch (error) {
      tell(said, error);
      return;
    }
    const done = await confirmed({
      title: "Block by hand?",
      touches: [quoted(body.value), " is blocked ", where.words, `, for ${seconds.selectedOptions[0].textContent}.`],
      undo: "Lift, in its row on this page", action: `Block ${shown(body.value, 64)}`,
      make: () => change("POST", "/api/blocks", { ...where.members, ...body }),
    });
    if (!done) return;
    said.className = "notice";
    fill(said, `The block of ${shown(done.value, 64)} is recorded for ${done.targetCount} hosts; the row shows who enforces it.`);
    await found.read();
  };
  return [el("h2", {}, "Block by hand"), el("form", { class: "line", onsubmit: add },
    el("label", {}, "Address or network", value), el("label", {}, "For", seconds), scope.elements,
    el("label", {}, "Reason", reason), el("button", { type: "submit", class: "danger" }, "Block\u2026")),
  el("h2", {}, "Import"), importForm(DURATIONS, async (sentence) => { said.className = "notice"; fill(said, sentence); await found.read(); })];
}
