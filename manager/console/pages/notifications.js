/** Notifications: the channels with their state, and what people were told. */

import { change, get, may, query } from "../api.js";
import { el, fill, quoted, shown } from "../dom.js";
import { time } from "../time.js";
import { calm, confirmed, pagedList, table } from "../view.js";

const PAUSE = 2 * 3600;

const ACTIONS = {
  test: { title: "Send a test", touches: "gets one message that says that it is a test.", undo: "a message that is sent stays sent" },
  pause: { title: "Pause for 2 h", touches: "gets nothing for 2 hours, also nothing on who got in.", undo: "Continue, in its row" },
  continue: { title: "Continue", touches: "gets what it has missed, and what comes.", undo: "Pause, in its row" },
};

export function open(place) {
  const said = el("div", { "aria-live": "polite" });
  const channels = el("div", {});
  const mutes = el("div", {});
  const load = (background = false) => Promise.all([get("/api/notifications", { background }), get("/api/notifications/mutes", { background })]);
  const draw = ([found, muted]) => {
    fill(mutes, muted.length ? table(["Muted", "Of", "By", "Until", "Reason", ""], muted.map(muteRow), "Mutes")
      : el("p", {}, "Nothing is muted."));
    fill(channels, found.length ? table(["Channel", "Type", "Goes to", "State", "Last sent", "Waiting", ""], found.map(row), "Channels")
      : el("p", {}, "There is none: nobody is told of anything. Define ", el("code", {}, "[notifications.NAME]"), " in manager.toml."));
  };
  const read = async () => draw(await load());
  const row = (each) => [
    quoted(each.name), each.type, quoted(each.destination), state(each), time(each.lastSentAt),
    `${each.pending} messages, ${each.behind} events behind${each.notTold ? `, ${each.notTold} never told` : ""}`,
    may("admin") && el("div", { class: "line" },
      el("button", { type: "button", onclick: () => act(each, "POST", "test") }, "Send a test\u2026"),
      each.state === "paused" ? el("button", { type: "button", onclick: () => act(each, "DELETE", "pause") }, "Continue\u2026")
        : el("button", { type: "button", onclick: () => act(each, "POST", "pause", { seconds: PAUSE }) }, "Pause for 2 h\u2026")),
  ];
  const muteRow = (each) => [
    each.topic ?? "all but got_in", scope(each), quoted(each.author), time(each.mutedUntil), each.reason ? quoted(each.reason, 300) : "",
    may("responder") && el("button", { type: "button", onclick: () => unmute(each) }, "End the mute\u2026"),
  ];
  const unmute = async (each) => {
    const done = await confirmed({
      title: "End the mute?", touches: ["People are told again of ", each.topic ?? "all topics", " of ", scope(each), ". No host is touched."],
      undo: ["mute it again: ", el("code", {}, "panguard manager notifications mute")], action: "End the mute",
      changed: async () => (await get("/api/notifications/mutes")).some(({ id }) => id === each.id) ? null : "it has ended",
      make: () => change("DELETE", `/api/notifications/mutes/${encodeURIComponent(each.id)}`),
    });
    if (done) await told("notice", "The mute has ended.");
  };
  const act = async (each, method, what, body) => {
    const { title, touches, undo } = ACTIONS[body ? "pause" : method === "DELETE" ? "continue" : "test"];
    const done = await confirmed({
      title, touches: [quoted(each.name), ` ${touches} No host is touched.`], undo, action: title, changed: () => changedSince(each),
      make: () => change(method, `/api/notifications/${encodeURIComponent(each.name)}/${what}`, body),
    });
    if (!done) return;
    await told(done.delivered === false ? "error" : "notice",
      what === "test" ? (done.delivered ? `The test reached ${shown(each.name)}.` : `The test did not reach ${shown(each.name)}: ${shown(done.reason, 300)}`)
        : done.pausedUntil ? `${shown(each.name)} is paused; afterwards it gets what it has missed.` : `${shown(each.name)} continues.`);
  };
  const told = async (kind, sentence) => {
    said.className = kind;
    fill(said, sentence);
    await read();
  };
  const history = pagedList({
    address: (cursor) => "/api/notifications/history" + query({ limit: 50, cursor }),
    heads: ["When", "Channel", "Group", "Message", "State"],
    row: (each) => [time(each.createdAt), quoted(each.channel), quoted(each.group), [el("strong", {}, quoted(each.title, 300)), each.lines.map((line) => [el("br"), quoted(line, 300)])],
      [each.state.replaceAll("_", " "), each.reason ? [": ", quoted(each.reason, 300)] : ""]],
    caption: "What people were told, newest first; what machines took is only counted",
    empty: "Nobody was told of anything yet.",
  });
  const standing = el("div", {}, channels, el("h2", {}, "Mutes"), mutes);
  const put = calm(standing, draw);
  fill(place, el("h1", {}, "Notifications"), said, standing, el("h2", {}, "History"), history.element);
  return {
    ready: Promise.all([read(), history.ready]),
    event: (name) => { if (name.startsWith("channel_") || name.startsWith("notifications_")) load(true).then(put, () => {}); },
    end: () => put.end(),
  };
}

/** Return what is different of a channel since the page was read, or null. */
async function changedSince(shownBefore) {
  const now = (await get("/api/notifications")).find(({ name }) => name === shownBefore.name);
  if (now === undefined) return "there is no such channel any more";
  if (now.destination !== shownBefore.destination) return `it goes to ${shown(now.destination)}`;
  if (now.pausedUntil !== shownBefore.pausedUntil) return now.pausedUntil ? `it is paused until ${now.pausedUntil}` : "it is not paused any more";
  return now.state === shownBefore.state ? null : `its state is ${now.state}, was ${shownBefore.state}`;
}

function scope(each) {
  const parts = [each.organizationId && ["organization ", quoted(each.organizationId)], each.site && ["site ", quoted(each.site)],
    each.agentId && ["agent ", quoted(each.hostname ?? each.agentId)]].filter(Boolean);
  return parts.length ? parts.flatMap((part, index) => (index ? [", ", ...part] : part)) : "the whole fleet";
}

function state(each) {
  if (each.state === "failing") return el("span", { class: "bad-text" }, "fails since ", time(each.failingSince), ": ", quoted(each.reason ?? "", 300));
  if (each.state === "paused") return ["paused until ", time(each.pausedUntil)];
  return each.state;
}
