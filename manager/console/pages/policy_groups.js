/** Policy groups: the hosts with certain tags or at certain sites, and their policy. */

import { get, may, query } from "../api.js";
import { hostCount } from "../block_scope.js";
import { el, fill, link, quoted } from "../dom.js";
import { pagedList } from "../view.js";
import { policyEditor } from "./policy_editor.js";
import { sections } from "./policy_sections.js";

const SELECTOR = [["tagsAll", "All of these tags"], ["tagsAny", "One of these tags"], ["sites", "At one of these sites"]];

export function open(place, name) {
  return name ? one(place, name) : all(place);
}

function all(place) {
  const found = pagedList({
    address: (cursor) => "/api/policies/groups" + query({ limit: 100, cursor }),
    heads: ["Group", "Hosts", "Selects", "Priority", "Organization", "Set to protection", "In protection"],
    row: (each) => [
      link(pathOf(each.name), quoted(each.name)), link("/agents?group=" + encodeURIComponent(each.name), hostCount(each.agents)), selects(each.selector),
      each.priority, each.organization ? quoted(each.organization) : "all", each.setToProtection, `${each.inProtection}, ${each.blocking} can block`,
    ],
    caption: "Groups, the last set first; of those that match a host, a higher priority takes precedence",
    empty: "There is no group: hosts have the policies of the fleet, their organization and their own.",
  });
  const name = el("input", { name: "name", required: true, pattern: "[A-Za-z0-9._\\-]+", maxlength: 64 });
  fill(place, el("h1", {}, "Policies"), sections("Groups"), found.element,
    may("admin") && el("form", { class: "line", name: "group", onsubmit: (event) => { event.preventDefault(); location.hash = pathOf(name.value); } },
      el("label", {}, "New group", name), el("button", { type: "submit" }, "Write it")));
  return { ready: found.ready, event: (event) => { if (event === "policy_created") found.arrived(); } };
}

function one(place, name) {
  const address = "/api/policies/groups/" + encodeURIComponent(name);
  const read = async () => {
    try {
      return await get(address);
    } catch (error) {
      if (error.status === 404) return null;
      throw error;
    }
  };
  const draw = async () => {
    const group = await read();
    const { selector = {}, priority = "", organization = null, policy = {} } = group ?? {};
    const inputs = Object.fromEntries(SELECTOR.map(([member]) => [member, el("input", { name: member, value: (selector[member] ?? []).join(", ") })]));
    const rank = el("input", { name: "priority", type: "number", min: 0, max: 1_000_000, required: true, value: priority });
    const owner = el("input", { name: "organization", value: organization ?? "", placeholder: "all", pattern: "[A-Za-z0-9._\\-]+", maxlength: 64 });
    const bodyOf = (document) => ({
      selector: Object.fromEntries(SELECTOR.map(([member]) => [member, words(inputs[member].value)])),
      priority: Number(rank.value), policy: document, ...(owner.value.trim() ? { organization: owner.value.trim() } : {}),
    });
    fill(place, el("h1", {}, "Group ", quoted(name)), sections(""),
      group ? el("p", {}, "It has ", link("/agents?group=" + encodeURIComponent(name), hostCount(group.agents)), `; ${group.setToProtection} are set to protection, ${group.inProtection} are in it, ${group.blocking} can block.`)
        : el("p", {}, "There is no such group yet."),
      policyEditor({
        title: "Its hosts and their policy", address, document: policy, state: stateOf(group), read: async () => stateOf(await read()), bodyOf, removable: group !== null,
        fields: el("div", { class: "line" }, SELECTOR.map(([member, label]) => el("label", {}, label, inputs[member])), el("label", {}, "Priority", rank), el("label", {}, "Organization", owner)),
        done: draw, close: () => { location.hash = "/policies/groups"; },
      }));
  };
  return { ready: draw(), event: () => {} };
}

/** Return what people set of a group, without the numbers that change by themselves; null for no group. */
function stateOf(group) {
  if (group === null) return null;
  const { selector, priority, organization, policy } = group;
  return { selector, priority, organization, policy };
}

function words(text) {
  return text.split(/[\s,]+/).filter(Boolean);
}

function pathOf(name) {
  return "/policies/groups/" + encodeURIComponent(name);
}

function selects({ tagsAll = [], tagsAny = [], sites = [] }) {
  /** @type {[string, string[]][]} */
  const named = [["all of", tagsAll], ["one of", tagsAny], ["at", sites]];
  return named.filter(([, each]) => each.length).map(([word, each], index) => [index ? "; " : "", word, " ", each.map((label) => [el("span", { class: "tag" }, quoted(label)), " "])]);
}
