/** What pages share: sections, tables, a second step before a change, and rows that wait until the reader asks for them. */

import { ApiError, list } from "./api.js";
import { el, fill, shown } from "./dom.js";

/** Milliseconds for which a second step cannot be taken yet, so that a double click takes none. */
const STRAY = 500;

/**
 * Return a table whose rows become blocks on a narrow screen.
 * @param {string[]} heads
 * @param {Array<Array<any>>} rows cells: nodes or texts
 * @param {string} caption said to screen readers
 */
export function table(heads, rows, caption) {
  return el("table", { class: "records" },
    el("caption", { class: "faint" }, caption),
    el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col" }, head || el("span", { class: "unseen" }, "Action"))))),
    el("tbody", {}, rows.map((cells) => el("tr", {}, cells.map((cell, index) => el("td", { "data-head": heads[index] }, cell))))));
}

/** Return a list of names and values. */
export function facts(pairs) {
  return el("table", {}, el("tbody", {}, pairs.map(([name, value]) => el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, value)))));
}

/**
 * Ask before a change: what it will touch and how it is undone; the change is made by a second step only.
 * @param {{title: string, why?: any, touches: any, undo: any, action: string, changed?: () => Promise<string|null>, make: () => Promise<any>}} about
 *   `why` is the evidence that the change rests on; `changed` returns what is different from what the page shows, or null.
 * @returns {Promise<any>} what `make` returned; null if the reader did not confirm
 */
export async function confirmed({ title, why, touches, undo, action, changed, make }) {
  let difference = changed ? await changed() : null;
  return new Promise((resolve) => {
    const said = el("p", { role: "alert" });
    const notice = el("p", { role: "alert" });
    const button = el("button", { type: "button", class: "danger", disabled: true, onclick: carryOut }, action);
    const cancel = el("button", { type: "button", onclick: () => dialog.close() }, "Cancel");
    const leave = () => dialog.close();  // a link in the dialog leads to another page
    addEventListener("hashchange", leave);
    const dialog = el("dialog", { "aria-labelledby": "dialog-title", onclose: () => { removeEventListener("hashchange", leave); dialog.remove(); resolve(null); } },
      el("h2", { id: "dialog-title" }, title), notice, el("div", {}, touches),
      why && el("p", { class: "why" }, "It rests on: ", why),
      el("p", { class: "faint" }, "To undo it: ", undo),
      said,
      el("div", { class: "line" }, cancel, button));
    function tellDifference() {
      notice.className = difference ? "notice" : "";
      fill(notice, difference && ["This has changed since you looked: ", difference]);
    }
    async function carryOut() {
      button.disabled = true;
      try {
        const now = changed ? await changed() : null;
        if (now !== difference) {  // it changed while the dialog was open: the reader decides anew
          difference = now;
          tellDifference();
          return;
        }
        const value = await make();
        resolve(value ?? true);
        dialog.close();
      } catch (error) {
        said.className = "error";
        fill(said, shown(error.message, 500));
      } finally {
        button.disabled = false;
      }
    }
    tellDifference();
    document.body.append(dialog);
    dialog.showModal();
    (dialog.querySelector("input") ?? cancel).focus();
    setTimeout(() => { button.disabled = false; }, STRAY);
  });
}

/**
 * Return a function that draws what it is given, but never under the reader's pointer or focus: there it waits, and says so.
 * @param {HTMLElement} place
 * @param {(value: any) => void} draw
 */
export function calm(place, draw) {
  const button = el("button", { type: "button", onclick: () => show() }, "new: show");
  const offer = el("div", { class: "fresh", role: "status" }, button);
  /** @type {{value: any}|null} */
  let waiting = null;
  let timer = 0;
  let isMouse = false;  // a finger hovers over nothing, though the browser says so of what it touched last
  place.addEventListener("pointerover", ({ pointerType }) => { isMouse = pointerType === "mouse"; });
  function isBusy() {
    const hovered = isMouse ? "a:hover, button:hover, input:hover, summary:hover, .row:hover, " : "";
    return place.querySelector(hovered + ":focus") !== null;
  }
  function show() {
    const shownNow = waiting;
    end();
    if (shownNow !== null) draw(shownNow.value);
  }
  function end() {
    clearInterval(timer);
    timer = 0;
    waiting = null;
    offer.remove();
  }
  function put(value) {
    const before = waiting;
    waiting = { value };
    if (!isBusy()) show();
    else if (before === null) {
      document.body.append(offer);
      timer = setInterval(() => { if (!isBusy()) show(); }, 300);
    }
  }
  put.end = end;
  return put;
}

/** Show an error in an element. */
export function tell(element, error) {
  element.className = "error";
  fill(element, shown(error instanceof ApiError ? error.message : String(error), 500));
}

/**
 * Return a list that grows by a button, and says how many new records wait instead of moving rows under the pointer.
 * @param {{address: (cursor: string|null) => string, row: (record: any) => any[], heads: string[], caption: string, empty: string}} about
 */
export function pagedList({ address, row, heads, caption, empty }) {
  const place = el("div", {});
  const waiting = el("button", { type: "button", hidden: true, onclick: () => read() });
  const more = el("button", { type: "button", hidden: true, onclick: () => read(cursor) }, "Show more");
  /** @type {string|null} */
  let cursor = null;
  /** @type {any[]} */
  let records = [];
  let fresh = 0;
  /** @param {string|null} from */
  async function read(from = null) {
    const page = await list(address(from));
    records = from === null ? page.records : [...records, ...page.records];
    cursor = page.cursor;
    more.hidden = cursor === null;
    waiting.hidden = true;
    fresh = 0;
    fill(place, records.length ? table(heads, records.map(row), caption) : el("p", {}, empty));
  }
  return {
    element: el("div", {}, waiting, place, more),
    ready: read(),
    read,
    /** Count a record that the page does not show yet. */
    arrived(count = 1) {
      fresh += count;
      waiting.hidden = false;
      fill(waiting, `${fresh} new: show`);
    },
  };
}

/** Call a function at most once in so many milliseconds, and once more at the end of a burst. */
export function seldom(milliseconds, call) {
  /** @type {number|undefined} */
  let timer;
  let last = 0;
  const run = () => { timer = undefined; last = performance.now(); call(); };
  const asked = () => {
    if (timer !== undefined) return;
    timer = setTimeout(run, Math.max(0, milliseconds - (performance.now() - last)));
  };
  asked.end = () => clearTimeout(timer);
  return asked;
}
