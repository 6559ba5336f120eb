/** Policies: the documents of each scope, editing with the effect shown before saving, and their history. */

import { change, list, may, query } from "../api.js";
import { el, fill, quoted, shown } from "../dom.js";
import { time } from "../time.js";
import { confirmed, pagedList, table, tell } from "../view.js";

export function open(place) {
  const editor = el("div", {});
  const documents = pagedList({
    address: (cursor) => "/api/policies" + query({ limit: 100, cursor }),
    heads: ["Scope", "Revision", "Changed", "By", ""],
    row: (each) => [scopeText(each), each.revision, time(each.updatedAt), quoted(each.author),
      el("button", { type: "button", onclick: () => edit(editor, each, refresh) }, may("admin") ? "Open and edit" : "Open")],
    caption: "Documents",
    empty: "No document is set: the defaults hold everywhere.",
  });
  const revisions = pagedList({
    address: (cursor) => "/api/policies/history" + query({ limit: 20, cursor }),
    heads: ["Revision", "Scope", "When", "By", "Message", ""],
    row: (each) => [each.revision, scopeText(each), time(each.updatedAt ?? each.at), quoted(each.author), quoted(each.message ?? ""),
      may("admin") && el("button", { type: "button", class: "danger", onclick: () => rollBack(each.revision) }, "Roll back to it\u2026")],
    caption: "Changes, newest first",
    empty: "Nothing was changed yet.",
  });
  const refresh = () => Promise.all([documents.read(), revisions.read()]);
  const rollBack = async (revision) => {
    const seen = await change("POST", "/api/policies/rollback", { revision, dryRun: true });
    const done = await confirmed({
      title: `Roll back to revision ${revision}?`,
      touches: `Every document becomes what it was after revision ${revision}; the policy of ${seen.agents} hosts changes.`,
      undo: "roll back to the newest revision in the list", action: `Change ${seen.agents} hosts`,
      make: () => change("POST", "/api/policies/rollback", { revision, message: `rollback to ${revision}` }),
    });
    if (done) await refresh();
  };
  fill(place, el("h1", {}, "Policies"), documents.element,
    may("admin") && el("button", { type: "button", onclick: () => edit(editor, { scope: "global", document: {} }, refresh) }, "Edit the fleet's document"),
    editor, el("h2", {}, "History"), revisions.element);
  return { ready: Promise.all([documents.ready, revisions.ready]), event: (name) => { if (name === "policy_created") revisions.arrived(); } };
}

function scopeText(each) {
  return each.scope === "global" ? "the whole fleet" : [each.scope + " ", quoted(each.target ?? each.organizationId ?? "")];
}

function address({ scope, target }) {
  const named = encodeURIComponent(target ?? "");
  return { global: "/api/policies/global", organization: `/api/policies/organizations/${named}`, agent: `/api/policies/agents/${named}`,
    group: `/api/policies/groups/${named}` }[scope];
}

async function edit(place, about, refresh) {
  const current = about.scope === "group" ? about.document : (await list(address(about))).records;
  const text = el("textarea", { spellcheck: false, "aria-label": "Document", readonly: !may("admin") }, JSON.stringify(current ?? {}, null, 2));
  const said = el("div", { "aria-live": "polite" });
  const save = async () => {
    try {
      const document = JSON.parse(text.value);
      const seen = await change("PUT", address(about) + "?dry_run=true", document);
      const done = await confirmed({
        title: "Set this document?",
        touches: [`The policy of ${seen.agents} hosts changes.`, differences(seen.differences ?? [])],
        undo: "roll back in the history below", action: `Change ${seen.agents} hosts`,
        changed: async () => {
          if (about.scope === "group") return null;
          const now = (await list(address(about))).records;
          return JSON.stringify(now) === JSON.stringify(current) ? null : "somebody set another document meanwhile";
        },
        make: () => change("PUT", address(about), document),
      });
      if (done) { await refresh(); fill(place); }
    } catch (error) {
      tell(said, error instanceof SyntaxError ? new Error(`This is no JSON: ${error.message}`) : error);
    }
  };
  fill(place, el("h2", {}, scopeText(about)), text, said,
    may("admin") && el("div", { class: "line" }, el("button", { type: "button", onclick: save }, "Check and save\u2026"), el("button", { type: "button", onclick: () => fill(place) }, "Close")));
}

function differences(found) {
  if (!found.length) return "";
  return table(["Where", "Before", "After"], found.slice(0, 50).map((each) => [
    quoted(each.path), el("code", {}, shown(JSON.stringify(each.before ?? null), 200)), el("code", {}, shown(JSON.stringify(each.after ?? null), 200))]), "What changes");
}
