/** Access: tokens of people and programs; below them those of new hosts. */

import { change, first, may, query } from "../api.js";
import { hostCount, hostsOfOrganization } from "../block_scope.js";
import { el, fill, quoted } from "../dom.js";
import { time } from "../time.js";
import { confirmed, pagedList, tell } from "../view.js";
import { enrollment } from "./enrollment.js";

const DAY = 86_400_000;
const LIFETIMES = [["without limit", 0], ["1 day", 1], ["7 days", 7], ["30 days", 30], ["90 days", 90], ["365 days", 365]];

/** Sentences on each role: of all organizations, and of a token that is limited to some. */
const MAY = {
  viewer: ["read everything, and change nothing", "read what is of them, and change nothing"],
  responder: ["read everything, work on incidents, recognize threats, add and lift blocks, and change the allowlist", "read what is of them, work on their incidents, recognize their threats, add and lift their blocks, and change their allowlist"],
  admin: ["do everything, also make and revoke tokens", "read what is of them, respond there, set their policies and remove their agents; nothing that concerns the whole fleet, such as tokens"],
  metrics: ["read the figures of /metrics, and nothing else", ""],
  feed: ["read the blocklist feeds, and nothing else", "read their blocklist feeds, and nothing else"],
};

export function open(place) {
  const said = el("div", { "aria-live": "polite" });
  const tokens = pagedList({
    address: (cursor) => "/api/access" + query({ limit: 100, cursor }),
    heads: ["Name", "Role", "Organizations", "Last used", "Expires", ""],
    row: (each) => [quoted(each.name), each.role, each.organizations?.map((name) => el("span", { class: "tag" }, quoted(name))) ?? "all",
      time(each.lastUsedAt), each.revokedAt ? "revoked" : time(each.expiresAt),
      may("admin") && !each.revokedAt && el("button", { type: "button", class: "danger", onclick: () => revoke(each) }, "Revoke\u2026")],
    caption: "Access tokens, newest first",
    empty: "There is none beside the admin token.",
  });
  const enrolled = enrollment();
  const revoke = async (each) => {
    const done = await confirmed({
      title: "Revoke this token?",
      touches: ["The token of ", quoted(each.name), ` (${each.role}) is refused from now on, and its sessions end. No host is touched.`],
      undo: "create another of the same name", action: "Revoke it",
      changed: () => changedSince(each),
      make: () => change("DELETE", "/api/access/" + encodeURIComponent(each.name)),
    });
    if (done) await tokens.read();
  };
  const form = creation(said, async (made) => {
    said.className = "notice";
    fill(said, "The token is shown only here: ", el("code", { id: "made" }, made.token));
    await tokens.read();
  });
  fill(place, el("h1", {}, "Access"), said, tokens.element, may("admin") && form, enrolled.element);
  return { ready: Promise.all([tokens.ready, enrolled.ready]), event: () => {} };
}

function creation(said, done) {
  const name = el("input", { name: "name", required: true, pattern: "[A-Za-z0-9][A-Za-z0-9._@\\-]*", maxlength: 64 });
  const organizations = el("input", { name: "organizations", placeholder: "all" });
  const role = el("select", { name: "role", onchange: () => { organizations.disabled = role.value === "metrics"; } }, Object.keys(MAY).map((each) => el("option", {}, each)));
  const days = el("select", { name: "accessDays" }, LIFETIMES.map(([text, value]) => el("option", { value }, text)));
  const create = async (event) => {
    event.preventDefault();
    const named = organizations.disabled ? [] : [...new Set(organizations.value.split(/[\s,]+/).filter(Boolean))];
    const expiresAt = Number(days.value) ? new Date(Date.now() + Number(days.value) * DAY).toISOString() : undefined;
    const body = { name: name.value, role: role.value, organizations: named, expiresAt };
    let hosts;
    try {
      hosts = await Promise.all(named.map(hostsOfOrganization));
    } catch (error) {
      tell(said, error);
      return;
    }
    const made = await confirmed({
      title: "Create this token?", touches: rights(body, hosts), undo: "Revoke, in its row", action: "Create it",
      make: () => change("POST", "/api/access", body),
    });
    if (made) await done(made);
  };
  return el("form", { class: "line", name: "access", onsubmit: create }, el("label", {}, "Name", name), el("label", {}, "Role", role),
    el("label", {}, "Organizations", organizations), el("label", {}, "Good for", days), el("button", { type: "submit" }, "Create a token\u2026"));
}

/** Return what the holder of a token may do, where, and until when. */
function rights({ name, role, organizations, expiresAt }, hosts) {
  const where = organizations.map((each, index) => [index ? ", " : "", quoted(each), ` (${hostCount(hosts[index])})`]);
  return [
    "Whoever has the token of ", quoted(name), organizations.length ? [` has the role ${role} in `, where, ` alone, and may ${MAY[role][1]}, `] : ` has the role ${role} in all organizations, and may ${MAY[role][0]}, `,
    expiresAt ? ["until ", time(expiresAt)] : "until somebody revokes it", ". No host is touched.",
  ];
}

/** Return what is different of a token since the page was read, or null; a revoked token's name may be another one's by now. */
async function changedSince(shownBefore) {
  const now = await first("/api/access", ({ name }) => name === shownBefore.name);
  if (now === null) return "there is no token of this name any more";
  if (now.createdAt !== shownBefore.createdAt) return `it was revoked, and the name is that of another token: ${now.role}, made ${now.createdAt}`;
  if (now.revokedAt) return `it was revoked ${now.revokedAt}`;
  if (now.rotatedAt !== shownBefore.rotatedAt) return `it was rotated ${now.rotatedAt}: its holder has a new text`;
  return now.lastUsedAt && !shownBefore.lastUsedAt ? `it was used ${now.lastUsedAt}` : null;
}
