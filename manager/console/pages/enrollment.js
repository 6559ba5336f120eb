/** Enrollment tokens: create with limits, revoke, and the line that enrolls a new host. */

import { change, first, may, query } from "../api.js";
import { hostCount } from "../block_scope.js";
import { el, fill, quoted, shown } from "../dom.js";
import { time } from "../time.js";
import { confirmed, pagedList } from "../view.js";

const DAY = 86_400_000;
const LIFETIMES = [["1 day", 1], ["7 days", 7], ["30 days", 30], ["without limit", 0]];
const LOOPBACK = /^(127\.\d+\.\d+\.\d+|localhost|\[::1\])$/;

/** Return the section of the page, and a promise of its first rows. */
export function enrollment() {
  const said = el("div", { role: "status" });
  const tokens = pagedList({
    address: (cursor) => "/api/tokens" + query({ limit: 100, cursor }),
    heads: ["Name", "Organization", "Site", "Tags", "Uses", "New hosts an hour", "Expires", ""],
    row: (each) => [
      quoted(each.name ?? each.tokenId), quoted(each.organizationId ?? "any"), quoted(each.site ?? "any"),
      each.tags?.length ? each.tags.map((tag) => [el("span", { class: "tag" }, quoted(tag)), " "]) : "any",
      `${each.uses}${each.maxUses ? " of " + each.maxUses : ""}${each.ephemeral ? ", ephemeral" : ""}`, each.rate ?? "the manager's limit",
      each.revokedAt ? ["revoked ", time(each.revokedAt)] : each.expiresAt ? time(each.expiresAt) : "never",
      may("admin") && !each.revokedAt && el("button", { type: "button", class: "danger", onclick: () => revoke(each) }, "Revoke\u2026")],
    caption: "Enrollment tokens, newest first",
    empty: "There is none.",
  });
  const revoke = async (each) => {
    const done = await confirmed({
      title: "Revoke this token?",
      touches: ["No new host can register with ", quoted(each.name ?? each.tokenId), ` from now on. What it has enrolled stays: ${hostCount(each.uses)}, and none of them is touched.`],
      undo: "create another one; this one stays revoked", action: "Revoke it",
      changed: () => changedSince(each),
      make: () => change("DELETE", "/api/tokens/" + encodeURIComponent(each.tokenId)),
    });
    if (done) await tokens.read();
  };
  const form = creation(async (made) => {
    said.className = "notice";
    fill(said, line(made));
    await tokens.read();
  });
  return { element: el("section", { "aria-label": "Enrollment" }, el("h2", {}, "Enrollment"), tokens.element, may("admin") && form, said), ready: tokens.ready };
}

/** Return what is different of a token since the page was read, or null. */
async function changedSince(shownBefore) {
  const now = await first("/api/tokens", ({ tokenId }) => tokenId === shownBefore.tokenId);
  if (now === null) return "there is no such token any more";
  if (now.revokedAt) return `it was revoked ${now.revokedAt}`;
  if (now.rotatedAt !== shownBefore.rotatedAt) return `it was rotated ${now.rotatedAt}: new hosts have a new text`;
  return now.uses === shownBefore.uses ? null : `it has enrolled ${hostCount(now.uses)}, was ${hostCount(shownBefore.uses)}`;
}

function creation(made) {
  const label = { pattern: "[A-Za-z0-9][A-Za-z0-9._@\\-]*", maxlength: 64 };
  const name = el("input", { name: "tokenName", ...label });
  const organization = el("input", { name: "organization", maxlength: 64, placeholder: "any" });
  const site = el("input", { name: "site", maxlength: 64, placeholder: "any" });
  const tags = el("input", { name: "tags", placeholder: "web, eu" });
  const uses = el("input", { name: "maxUses", type: "number", min: 1, value: 1 });
  const rate = el("input", { name: "rate", type: "number", min: 1, max: 1_000_000 });
  const days = el("select", { name: "days" }, LIFETIMES.map(([text, value]) => el("option", { value, selected: value === 1 }, text)));
  const ephemeral = el("input", { type: "checkbox", name: "ephemeral" });
  const create = async (event) => {
    event.preventDefault();
    const body = {
      name: name.value.trim(), organizationId: organization.value.trim(), site: site.value.trim(), tags: tags.value.split(/[\s,]+/).filter(Boolean),
      maxUses: uses.value && Number(uses.value), rate: rate.value && Number(rate.value), ephemeral: ephemeral.checked,
      expiresAt: Number(days.value) && new Date(Date.now() + Number(days.value) * DAY).toISOString(),
    };
    const members = Object.fromEntries(Object.entries(body).filter(([, value]) => value));
    const created = await confirmed({
      title: "Create this enrollment token?",
      touches: ["Whoever has it can register ", body.maxUses ? hostCount(body.maxUses) : "any number of hosts", " in ", quoted(body.organizationId || "any organization"), ". No host that is there is touched."],
      undo: "Revoke, in its row; hosts that have registered with it stay", action: "Create it", make: () => change("POST", "/api/tokens", members),
    });
    if (created) await made(created);
  };
  return el("form", { class: "line", name: "enrollment", onsubmit: create },
    el("label", {}, "Name", name), el("label", {}, "Organization", organization), el("label", {}, "Site", site), el("label", {}, "Tags", tags),
    el("label", {}, "Hosts at most", uses), el("label", {}, "New hosts an hour", rate), el("label", {}, "Good for", days),
    el("label", { class: "check" }, ephemeral, "Ephemeral hosts: removed an hour after they sign off"), el("button", { type: "submit" }, "Create an enrollment token\u2026"));
}

/** Return the token, and the commands for a new host; the token is in a file, not in the arguments of the guard. */
function line({ token, broker }) {
  const command = `(umask 077; printf '%s\\n' '${token}' > enroll.token) && panguard guard start --manager ${reachable(broker)} --enroll-token-file enroll.token --detach`;
  const code = el("code", { id: "enroll" }, command);
  const copied = el("span", { role: "status" });
  const copy = async () => {
    await navigator.clipboard.writeText(command);
    fill(copied, "copied");
  };
  return [
    el("p", {}, "The token is shown only here. On a new host where ", el("code", {}, "panguard"), " is installed:"), el("p", {}, code),
    el("p", {}, navigator.clipboard && el("button", { type: "button", onclick: copy }, "Copy the line"), " ", copied),
    el("p", { class: "faint" }, "On a host with systemd, as root, ", el("code", {}, "guard install"), " in the place of ", el("code", {}, "guard start"), " and without ", el("code", {}, "--detach"), ". The line has the token in it: it stays in the shell's history where that is kept."),
  ];
}

/** Return the broker's address for another host: where the manager reaches it on its own host, by the name that this page has. */
function reachable(broker) {
  const found = /^(mqtts?):\/\/(.+):(\d+)$/.exec(broker ?? "");
  if (found === null) return "mqtts://MANAGER:8883";
  const [, scheme, host, port] = found;
  return shown(`${scheme}://${LOOPBACK.test(host) ? location.hostname : host}:${port}`, 300);
}
