/** "It was me": a person says that a suspicious login was their own, and may lift the blocks of its source. */

import { change, get, list, may, query } from "./api.js";
import { el, quoted, shown } from "./dom.js";
import { time } from "./time.js";
import { confirmed } from "./view.js";

/**
 * Return a button for a threat; null where the role may not press it.
 * @param {any} threat a record of the API
 * @param {() => any} done called after the change
 */
export function recognizeButton(threat, done) {
  if (!may("responder")) return null;
  if (threat.recognized) return el("button", { type: "button", onclick: () => takeBack(threat, done) }, "It was not me\u2026");
  return el("button", { type: "button", onclick: () => recognize(threat, done) }, "It was me\u2026");
}

/**
 * Return the same button for a threat of which only its id and its agent are known.
 * @param {{id: string, agentId: string}} named
 * @param {() => any} done called after the change
 */
export function recognizeNamed({ id, agentId }, done) {
  if (!may("responder")) return null;
  const press = async () => {
    const threat = await get(`/api/threats/${encodeURIComponent(id)}` + query({ agentId }));
    await (threat.recognized ? takeBack : recognize)(threat, done);
  };
  return el("button", { type: "button", onclick: press }, "It was me\u2026");
}

/** Return who recognized a threat, when and with which note. */
export function recognition({ recognized }) {
  return recognized ? [quoted(recognized.by), " says that it was their own doing, ", time(recognized.at), recognized.note ? [": ", quoted(recognized.note, 1_000)] : ""] : "nobody";
}

async function recognize(threat, done) {
  const source = threat.threat.evidence?.sourceIp ?? null;
  const [organizations, blocks] = source === null ? [[], []] : await Promise.all([
    get("/api/organizations"), list("/api/blocks" + query({ value: source, org_id: threat.organizationId })).then(({ records }) => records)]);
  const hosts = organizations.find(({ organization }) => organization === threat.organizationId)?.agents ?? 0;
  const lift = el("input", { type: "checkbox", name: "lift" });
  const note = el("input", { name: "note", maxlength: 1000 });
  const made = await confirmed({
    title: "It was me",
    why: line(threat),
    touches: [
      "Everybody sees that you say so, and the console does not count it among those who got in any more. No host is touched by that.",
      source !== null && el("label", { class: "check" }, lift, el("span", {}, "Also lift ", blockCount(blocks), " of ", quoted(source),
        ` in `, quoted(threat.organizationId), ` (${hosts} hosts), with what its guards block by themselves; nobody blocks it there for 5 minutes.`)),
      el("label", {}, "Note", note),
    ],
    undo: ["It was not me, on the page of this threat; block the address by hand if you lifted it"],
    action: "It was me",
    changed: () => changedSince(threat),
    make: async () => {
      if (lift.checked) await change("DELETE", "/api/blocks" + query({ value: source, org_id: threat.organizationId }));
      return change("POST", address(threat), note.value.trim() ? { note: note.value.trim() } : undefined);
    },
  });
  if (made) await done();
}

async function takeBack(threat, done) {
  const made = await confirmed({
    title: "It was not me",
    why: line(threat),
    touches: ["The login counts among those who got in again. No host is touched."],
    undo: "It was me, on the page of this threat",
    action: "It was not me",
    changed: () => changedSince(threat),
    make: () => change("DELETE", address(threat)),
  });
  if (made) await done();
}

function blockCount(blocks) {
  return `${blocks.length} block${blocks.length === 1 ? "" : "s"}`;
}

function line({ type, hostname, threat, eventTime }) {
  const { user, sourceIp } = threat.evidence ?? {};
  return [quoted(type), " on ", quoted(hostname), user ? [", user ", quoted(user, 80)] : "", sourceIp ? [", from ", quoted(sourceIp)] : "", ", ", time(eventTime)];
}

async function changedSince(threat) {
  const now = await get(`/api/threats/${encodeURIComponent(threat.id)}` + query({ agentId: threat.agentId }));
  if (now.recognized?.by === threat.recognized?.by) return null;
  return now.recognized ? `${shown(now.recognized.by, 64)} says that it was their own doing` : "it is not said to be anybody's own doing any more";
}

function address({ id, agentId }) {
  return `/api/threats/${encodeURIComponent(id)}/recognize` + query({ agentId });
}
