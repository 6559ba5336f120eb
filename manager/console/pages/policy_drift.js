/** Drift: hosts whose policy in force, blocklist or mode is not the one that is meant. */

import { query } from "../api.js";
import { el, fill, link, path, quoted, shown } from "../dom.js";
import { time } from "../time.js";
import { pagedList } from "../view.js";
import { sections } from "./policy_sections.js";

export function open(place) {
  const found = pagedList({
    address: (cursor) => "/api/policies/drift" + query({ limit: 100, cursor }),
    heads: ["Host", "Meant since", "Policy", "Blocklist", "Mode", "The guard says"],
    row: (each) => [
      link(path("agents", each.agentId), quoted(each.hostname ?? each.agentId)), time(each.since), policy(each), blocklist(each),
      each.policyMode && each.mode !== each.policyMode ? `${each.mode ?? "not known"}, ${each.policyMode} is meant` : "as meant",
      [each.state ? quoted(each.state) : "nothing", each.error ? [": ", quoted(each.error, 300)] : ""],
    ],
    caption: "Hosts, by their ids; each leads to where its policy comes from",
    empty: "Every host says that it has the policy, the blocklist and the mode that are meant for it.",
  });
  const again = el("button", { type: "button", onclick: () => found.read() }, "Read again");
  fill(place, el("h1", {}, "Policies"), sections("Drift"),
    el("p", { class: "faint" }, "A guard that has just been told is in this list until it says that it has applied its policy; one that is offline stays in it."),
    found.element, again);
  return { ready: found.ready, event: () => {} };
}

function policy({ version, digest, versionInForce, digestInForce }) {
  if (digest === digestInForce) return "as meant";
  const inForce = versionInForce ? `version ${versionInForce} (${short(digestInForce)})` : "none";
  return `${inForce}, version ${version} (${short(digest)}) is meant`;
}

function blocklist({ blocklistSequence, blocklistInForce }) {
  return blocklistInForce < blocklistSequence ? `${blocklistInForce}, ${blocklistSequence} is meant` : "as meant";
}

function short(digest) {
  return digest ? shown(digest.slice(0, 12)) : "none";
}
