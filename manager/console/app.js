/** The console's frame: signs in, shows the page that the address names, and passes events on to it. */

import { ApiError, readSession, signIn, signOut, whenSignedOut } from "./api.js";
import { el, fill, shown } from "./dom.js";
import { Stream } from "./stream.js";
import { time } from "./time.js";
import * as now from "./pages/now.js";

/**
 * The pages, by the first part of the address; all but the first are loaded once that one is shown.
 * @type {Array<{path: string, title: string, load: () => Promise<{open: (place: HTMLElement, parts: any, given: URLSearchParams) => View}>}>}
 */
const PAGES = [
  { path: "now", title: "Now", load: async () => now },
  { path: "agents", title: "Agents", load: () => import("./pages/agents.js") },
  { path: "incidents", title: "Incidents", load: () => import("./pages/incidents.js") },
  { path: "threats", title: "Threats", load: () => import("./pages/threats.js") },
  { path: "blocks", title: "Blocks", load: () => import("./pages/blocks.js") },
  { path: "policies", title: "Policies", load: () => import("./pages/policies.js") },
  { path: "notifications", title: "Notifications", load: () => import("./pages/notifications.js") },
  { path: "access", title: "Access", load: () => import("./pages/access.js") },
  { path: "audit", title: "Audit", load: () => import("./pages/audit.js") },
];

const ENDED = "The session has ended.";

/** A page as it is shown. @typedef {{ready: Promise<any>, event?: (name: string, event: any) => void, end?: () => void}} View */

const main = place("main");
const nav = place("nav");
const live = place("live");
const who = place("who");
/** @type {Stream|null} */
let stream = null;
/** @type {View|null} */
let current = null;
/** Counts the pages that were asked for: one that comes late is not shown. */
let asked = 0;

/** Return an element of the frame. @param {string} id */
function place(id) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no ${id}`);
  return found;
}

function begin(session) {
  nav.hidden = false;
  fill(nav, PAGES.map(({ path, title }) => el("a", { href: "#/" + path, "data-page": path }, title)));
  fill(who, el("bdi", {}, shown(session.name)), ` (${session.role}) `, el("button", { type: "button", onclick: leave }, "Sign out"));
  const refused = () => readSession().then((found) => found === null && stream !== null && askForToken(ENDED), () => {});
  stream = new Stream((name, event) => current?.event?.(name, event), showState, refused);
  stream.start();
  show();
}

async function leave() {
  try {
    await signOut();
  } catch { /* the session is gone already */ }
  askForToken("You are signed out.");
}

function showState(isLive, since) {
  document.body.dataset.live = isLive ? "live" : "lost";
  live.dataset.state = isLive ? "live" : "lost";
  fill(live, isLive ? "live" : ["not live since ", time(since.toISOString())]);
}

async function show() {
  const [first, ...rest] = location.hash.replace(/^#\/?/, "").split("?")[0].split("/").map(decodeURIComponent);
  const found = PAGES.find(({ path }) => path === (first || "now")) ?? PAGES[0];
  for (const each of nav.querySelectorAll("a")) {
    if (each.dataset.page === found.path) {
      each.setAttribute("aria-current", "page");
      each.scrollIntoView({ block: "nearest", inline: "center" });
    }
    else each.removeAttribute("aria-current");
  }
  document.title = `${found.title} \u2013 Panguard`;
  const mine = (asked += 1);
  current?.end?.();
  current = null;
  const place = el("div", {});
  fill(main, place);
  main.setAttribute("aria-busy", "true");
  try {
    const page = await found.load();
    if (mine !== asked) return;
    current = page.open(place, rest.filter((part) => part !== ""), new URLSearchParams(location.hash.split("?")[1] ?? ""));
    await current.ready;
    requestIdleCallback(() => PAGES.forEach(({ load }) => load().catch(() => {})));
  } catch (error) {
    if (mine === asked) fill(place, problem(error));
  } finally {
    if (mine === asked) main.removeAttribute("aria-busy");
  }
}

/** Return what is shown where a page cannot be read. */
function problem(error) {
  if (error instanceof ApiError && error.status === 401) return "";
  return el("p", { class: "error", role: "alert" }, shown(error.message, 500));
}

function askForToken(notice = "") {
  asked += 1;
  main.removeAttribute("aria-busy");
  stream?.stop();
  stream = null;
  current?.end?.();
  current = null;
  nav.hidden = true;
  delete document.body.dataset.live;
  fill(live);
  fill(who);
  const token = el("input", { type: "password", name: "token", autocomplete: "current-password", required: true, id: "token" });
  const said = el("p", { role: "alert" });
  const name = el("input", { name: "username", autocomplete: "username", value: "Panguard", hidden: true });  // for password managers
  const form = el("form", { class: "line", onsubmit: submit }, name,
    el("label", { for: "token" }, "Access token", token), el("button", { type: "submit" }, "Sign in"));
  async function submit(event) {
    event.preventDefault();
    try {
      begin(await signIn(token.value.trim()));
    } catch (error) {
      said.className = "error";
      fill(said, shown(error.message, 500));
      token.select();
    }
  }
  fill(main, el("h1", {}, "Sign in"), notice && el("p", {}, notice), form, said,
    el("p", { class: "faint" }, "An admin makes a token: ", el("code", {}, "panguard manager access create --name you --role viewer")));
  token.focus();
}

whenSignedOut(() => askForToken(ENDED));
addEventListener("hashchange", () => {
  if (stream === null) return;
  show().then(() => main.focus({ preventScroll: true }));
});
document.body.dataset.live = "lost";
readSession().then(
  (session) => (session === null ? askForToken() : begin(session)),
  () => askForToken("The manager does not answer."),
);
