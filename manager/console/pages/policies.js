/** Policies: the documents of each scope, their history and roll-back; groups and drift have pages of their own. */

import { change, get, list, may, query } from "../api.js";
import { hostCount } from "../block_scope.js";
import { el, fill, link, quoted } from "../dom.js";
import { time } from "../time.js";
import { confirmed, pagedList, tell } from "../view.js";
import * as drift from "./policy_drift.js";
import { differenceTable, policyEditor } from "./policy_editor.js";
import * as groups from "./policy_groups.js";
import { sections } from "./policy_sections.js";

const SECTIONS = { groups, drift };

export function open(place, [section, id], given) {
  const found = SECTIONS[section];
  return found ? found.open(place, id, given) : documents(place);
}

function documents(place) {
  const editor = el("div", {});
  const said = el("div", { role: "status" });
  const all = pagedList({
    address: (cursor) => "/api/policies" + query({ limit: 100, cursor }),
    heads: ["Scope", "Revision", "Changed", "By", ""],
    row: (each) => [scopeText(each), each.revision, time(each.updatedAt), quoted(each.author), openButton(each)],
    caption: "Documents",
    empty: "No document is set: the defaults hold everywhere.",
  });
  const openButton = (each) => each.scope === "group" ? link("/policies/groups/" + encodeURIComponent(each.target), "Open")
    : el("button", { type: "button", onclick: () => edit(each) }, may("admin") ? "Open and edit" : "Open");
  const revisions = pagedList({
    address: (cursor) => "/api/policies/history" + query({ limit: 20, cursor }),
    heads: ["Revision", "Scope", "When", "By", "Message", ""],
    row: (each) => [each.revision, scopeText(each), time(each.updatedAt ?? each.at), quoted(each.author), quoted(each.message ?? ""),
      may("admin") && el("button", { type: "button", class: "danger", onclick: () => rollBack(each.revision) }, "Roll back to it\u2026")],
    caption: "Changes, newest first",
    empty: "Nothing was changed yet.",
  });
  const refresh = () => Promise.all([all.read(), revisions.read()]);
  const edit = async (about) => {
    try {
      const address = addressOf(about);
      const read = () => get(address);
      const document = await read();
      const close = () => fill(editor);
      fill(editor, policyEditor({ title: scopeText(about), address, document, state: document, read, removable: Object.keys(document).length > 0, close,
        done: async () => { close(); await refresh(); } }));
      editor.querySelector("h2")?.focus();
      fill(said);
      said.className = "";
    } catch (error) {
      tell(said, error);
    }
  };
  const rollBack = async (revision) => {
    const newest = await newestRevision();
    const [seen, differences] = await Promise.all([
      change("POST", "/api/policies/rollback", { revision, dryRun: true }),
      change("POST", "/api/policies/diff", { from: newest, to: revision })]);
    const done = await confirmed({
      title: `Roll back to revision ${revision}?`,
      touches: [el("p", {}, `Every document becomes what it was after revision ${revision}; the policy of ${hostCount(seen.agents)} changes.`),
        differenceTable(differences, "What changes in documents")],
      undo: `roll back to revision ${newest}`, action: `Change ${hostCount(seen.agents)}`,
      changed: async () => {
        const now = await newestRevision();
        return now === newest ? null : `the newest revision is ${now}`;
      },
      make: () => change("POST", "/api/policies/rollback", { revision, message: `rollback to ${revision}` }),
    });
    if (done) await refresh();
  };
  fill(place, el("h1", {}, "Policies"), sections("Documents"), all.element, may("admin") && chooser(edit), said, editor, el("h2", {}, "History"), revisions.element);
  return { ready: Promise.all([all.ready, revisions.ready]), event: (name) => { if (name === "policy_created") revisions.arrived(); } };
}

/** Return a form that opens the document of a scope, whether it is set or not. */
function chooser(edit) {
  const scope = el("select", { name: "scope", onchange: follow }, [["global", "the whole fleet"], ["organization", "an organization"], ["agent", "one host, by its agent id"]].map(
    ([value, text]) => el("option", { value }, text)));
  const target = el("input", { name: "target", required: true, maxlength: 64 });
  const named = el("label", { hidden: true }, "Its name", target);
  function follow() {
    named.hidden = scope.value === "global";
    target.disabled = named.hidden;
  }
  follow();
  return el("form", { class: "line", name: "scope", onsubmit: (event) => { event.preventDefault(); edit({ scope: scope.value, target: target.value.trim() }); } },
    el("label", {}, "Document of", scope), named, el("button", { type: "submit" }, "Edit"));
}

async function newestRevision() {
  return (await list("/api/policies/history?limit=1")).records[0]?.revision ?? 1;
}

function scopeText(each) {
  return each.scope === "global" ? "the whole fleet" : [each.scope + " ", quoted(each.target ?? "")];
}

function addressOf({ scope, target }) {
  const named = encodeURIComponent(target ?? "");
  return { global: "/api/policies/global", organization: `/api/policies/organizations/${named}`, agent: `/api/policies/agents/${named}` }[scope];
}
