/** Edits a policy document as JSON with its schema beside it; each change shows its effect before a second step. */

import { change, may, query } from "../api.js";
import { hostCount } from "../block_scope.js";
import { el, fill, quoted, shown } from "../dom.js";
import { schemaReference } from "../schema.js";
import { confirmed, table, tell } from "../view.js";

const MOST_SHOWN = 50;
const UNDO = "roll back in the history, on the page Policies";

/**
 * Return an editor.
 * @param {{title: any, address: string, document: any, state: any, read: () => Promise<any>, bodyOf?: (document: any) => any,
 *   removable?: boolean, fields?: any, done: () => Promise<void>, close: () => void}} about
 *   `state` is what is set, as the page has read it, null for nothing, and `read` returns it as it is now; `bodyOf` makes the body
 *   of a change from the document in the text; `fields` stand above it.
 */
export function policyEditor({ title, address, document, state, read, bodyOf = (given) => given, removable, fields, done, close }) {
  const text = el("textarea", { name: "document", spellcheck: false, "aria-label": "Document", readonly: !may("admin") }, JSON.stringify(document, null, 2));
  const message = el("input", { name: "message", maxlength: 256 });
  const said = el("div", { role: "status" });
  const reference = el("div", {});
  schemaReference("PolicyDocument").then((made) => fill(reference, made), (error) => tell(reference, error));
  const initial = state === null ? null : JSON.stringify(bodyOf(document));
  const changed = async () => (JSON.stringify(await read()) === JSON.stringify(state) ? null : "somebody set another document meanwhile");
  const act = (work) => async (event) => {
    event?.preventDefault();
    try {
      if (await work()) await done();
    } catch (error) {
      tell(said, error instanceof SyntaxError ? new Error(`This is no JSON: ${error.message}`) : error);
    }
  };
  const save = async () => {
    const body = bodyOf(JSON.parse(text.value));
    if (JSON.stringify(body) === initial) {
      said.className = "notice";
      fill(said, "It is what is set already: nothing would change.");
      return null;
    }
    const seen = await tried(body);
    return confirmed({
      title: "Set this document?", touches: effect(seen), undo: UNDO, action: `Set it: ${hostCount(seen.agents)}`, changed,
      make: () => change("PUT", address + query({ message: message.value.trim() }), body),
    });
  };
  const remove = async () => {
    const seen = await tried(bodyOf({}));
    return confirmed({
      title: "Remove this document?", touches: effect(seen), undo: UNDO, action: `Remove it: ${hostCount(seen.agents)}`, changed,
      make: () => change("DELETE", address + query({ message: message.value.trim() })),
    });
  };
  const tried = (body) => change("PUT", address + "?dry_run=true", body);
  const leave = el("button", { type: "button", onclick: close }, "Close");
  const buttons = may("admin") ? el("div", { class: "line" },
    el("label", {}, "Message for the history", message),
    el("button", { type: "submit" }, "Check and save\u2026"),
    removable && el("button", { type: "button", class: "danger", onclick: act(remove) }, "Remove\u2026"), leave) : leave;
  return el("form", { name: "editor", onsubmit: act(save) }, el("h2", { tabindex: -1 }, title), fields,
    el("div", { class: "beside" }, text, reference), said, buttons);
}

function effect({ agents, differences = [] }) {
  return [el("p", {}, `The policy of ${hostCount(agents)} changes.`), differenceTable(differences, "What changes in policies")];
}

/** Return the differences of policies as a table; nothing where there are none. */
export function differenceTable(found, caption) {
  if (!found.length) return "";
  const rows = found.slice(0, MOST_SHOWN).map((each) => [quoted(each.path), json(each.before), json(each.after)]);
  return table(["Where", "Before", "After"], rows, found.length > MOST_SHOWN ? `${caption}: the first ${MOST_SHOWN} of ${found.length}` : caption);
}

function json(value) {
  return el("code", {}, shown(JSON.stringify(value ?? null), 200));
}
