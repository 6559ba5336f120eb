/** Tags and site of a host, which choose its policy groups: changed with the effect on its policy shown first. */

import { change, get, may } from "../api.js";
import { el, quoted } from "../dom.js";
import { confirmed, tell } from "../view.js";

/** Return a form for admins; `done` is called after a change. */
export function tagsForm(agent, done) {
  if (!may("admin")) return null;
  const said = el("div", { role: "status" });
  const tags = el("input", { name: "tags", value: agent.tags.join(", ") });
  const site = el("input", { name: "site", value: agent.site ?? "", maxlength: 64 });
  const set = async (event) => {
    event.preventDefault();
    const wanted = tags.value.split(/[\s,]+/).filter(Boolean);
    const body = { agentIds: [agent.agentId], ...changes(agent, wanted, site.value.trim() || null) };
    try {
      if (Object.keys(body).length === 1) throw new Error("Tags and site are what is set already.");
      const { policies, refused } = await change("POST", "/api/agents/change", { ...body, dryRun: true });
      if (refused.length) throw new Error(refused[0].reason);
      const made = await confirmed({
        title: "Set tags and site?",
        touches: [quoted(agent.hostname), ": 1 host, ", policies ? "whose policy changes by it." : "whose policy stays as it is."],
        undo: ["set the former ones: ", quoted(agent.tags.join(", ") || "no tag"), ", site ", quoted(agent.site ?? "none")], action: "Set them on 1 host",
        changed: async () => {
          const now = await get("/api/agents/" + encodeURIComponent(agent.agentId));
          return now.site === agent.site && String(now.tags) === String(agent.tags) ? null : "somebody set other tags or another site";
        },
        make: () => change("POST", "/api/agents/change", body),
      });
      if (made) await done();
    } catch (error) {
      tell(said, error);
    }
  };
  return el("form", { class: "line", name: "tags", onsubmit: set }, el("label", {}, "Tags", tags), el("label", {}, "Site", site),
    el("button", { type: "submit" }, "Set\u2026"), said);
}

/** Return the members of a change that lead from what an agent has to what is wanted; none for what stays. */
function changes(agent, tags, site) {
  const [addTags, removeTags] = [tags.filter((tag) => !agent.tags.includes(tag)), agent.tags.filter((tag) => !tags.includes(tag))];
  return { ...(addTags.length ? { addTags } : {}), ...(removeTags.length ? { removeTags } : {}), ...(site === (agent.site ?? null) ? {} : { site }) };
}
