/** Access: tokens of people and programs; below them those of new hosts. */

import { change, may, query } from "../api.js";
import { el, fill, quoted } from "../dom.js";
import { time } from "../time.js";
import { confirmed, pagedList } from "../view.js";
import { enrollment } from "./enrollment.js";

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
      make: () => change("DELETE", "/api/access/" + encodeURIComponent(each.name)),
    });
    if (done) await tokens.read();
  };
  const name = el("input", { name: "name", required: true, pattern: "[A-Za-z0-9][A-Za-z0-9._@\\-]*", maxlength: 64 });
  const role = el("select", { name: "role" }, ["viewer", "responder", "admin", "metrics", "feed"].map((each) => el("option", {}, each)));
  const create = async (event) => {
    event.preventDefault();
    const made = await confirmed({
      title: "Create this token?", touches: ["Whoever has it may do what ", quoted(name.value), ` may: ${role.value}, in all organizations. No host is touched.`],
      undo: "Revoke, in its row", action: "Create it",
      make: () => change("POST", "/api/access", { name: name.value, role: role.value }),
    });
    if (!made) return;
    said.className = "notice";
    fill(said, "The token is shown only here: ", el("code", { id: "made" }, made.token));
    await tokens.read();
  };
  fill(place, el("h1", {}, "Access"), said, tokens.element,
    may("admin") && el("form", { class: "line", onsubmit: create }, el("label", {}, "Name", name), el("label", {}, "Role", role), el("button", { type: "submit" }, "Create a token\u2026")),
    enrolled.element);
  return { ready: Promise.all([tokens.ready, enrolled.ready]), event: () => {} };
}
