/** For which hosts a block is: the whole fleet, an organization, a group or one host; and how many these are. */

import { get, list, query } from "./api.js";
import { el, quoted } from "./dom.js";

const SCOPES = [["fleet", "the whole fleet"], ["organization", "an organization"], ["group", "a group"], ["agentId", "one host"]];

/** Return fields that choose the hosts of a block, and a function that reads them. */
export function scopeFields() {
  const target = el("input", { name: "target", required: true, maxlength: 255 });
  const named = el("label", { hidden: true }, "Its name", target);
  const scope = el("select", { name: "scope", onchange: follow }, SCOPES.map(([value, text]) => el("option", { value }, text)));
  function follow() {
    named.hidden = scope.value === "fleet";
    target.disabled = named.hidden;
  }
  follow();
  return {
    elements: [el("label", {}, "Hosts", scope), named],
    /** Return the members for the API, the number of hosts, and both in words; raises ApiError or Error. */
    read: () => chosen(scope.value, target.value.trim()),
  };
}

/** Return the number of hosts of an organization that the manager knows; raises Error where it knows none. */
export async function hostsOfOrganization(name) {
  const found = (await get("/api/organizations")).find(({ organization }) => organization === name);
  if (found === undefined) throw new Error(`no agent, token or policy names the organization ${name}: look for a mistyped name`);
  return found.agents;
}

async function chosen(scope, name) {
  if (scope === "organization") return { members: { organization: name }, ...inWords(await hostsOfOrganization(name), "in the organization ", name) };
  if (scope === "group") return { members: { group: name }, ...inWords((await get("/api/policies/groups/" + encodeURIComponent(name))).agents, "in the group ", name) };
  if (scope === "agentId") {
    const agent = await agentNamed(name);
    return { members: { agentId: agent.agentId }, ...inWords(1, "on ", agent.hostname) };
  }
  const { totalAgents } = await get("/api/overview");
  return { members: {}, hosts: totalAgents, words: [`in the whole fleet: on ${hostCount(totalAgents)}, and on those that register later`] };
}

function inWords(hosts, before, name) {
  return { hosts, words: [before, quoted(name), `: on ${hostCount(hosts)}`] };
}

/** Return a number of hosts in words. */
export function hostCount(number) {
  return `${number} host${number === 1 ? "" : "s"}`;
}

async function agentNamed(name) {
  if (name.startsWith("ag-")) return get("/api/agents/" + encodeURIComponent(name));
  const { records } = await list("/api/agents" + query({ hostname: name, limit: 2 }));
  if (records.length === 1) return records[0];
  throw new Error(records.length ? `several hosts are named ${name}: write the agent's id` : `no host is named ${name}`);
}
