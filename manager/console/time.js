/** Times: in the reader's zone, which is named, of 24 hours as in logs, with UTC on hover. */

import { el } from "./dom.js";

const long = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium", hourCycle: "h23" });
const zone = new Intl.DateTimeFormat(undefined, { timeZoneName: "short" });

const short = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit", minute: "2-digit", hourCycle: "h23", timeZoneName: "short",
});
const DAY = 86_400_000;

/** Return the short name of the reader's zone at a time. */
function zoneAt(date) {
  return zone.formatToParts(date).find((part) => part.type === "timeZoneName")?.value ?? "";
}

/** Return how long ago a time was, or how far ahead it is: "3 min ago", "in 2 h". */
export function distance(iso, now = Date.now()) {
  const seconds = Math.round((now - Date.parse(iso)) / 1000);
  const size = Math.abs(seconds);
  const [count, unit] = size < 90 ? [size, "s"] : size < 5400 ? [Math.floor(size / 60), "min"]
    : size < 172800 ? [Math.floor(size / 3600), "h"] : [Math.floor(size / 86400), "d"];
  return seconds >= 0 ? `${count} ${unit} ago` : `in ${count} ${unit}`;
}

/**
 * Return a time as an element; without one a dash.
 * `brief` leaves out the date and the seconds of a time within a day.
 */
export function time(iso, { ago = true, brief = false } = {}) {
  if (!iso) return "\u2013";
  const date = new Date(iso);
  const near = brief && Math.abs(Date.now() - date.getTime()) < DAY;
  const text = near ? short.format(date) : `${long.format(date)} ${zoneAt(date)}`;
  return el("time", { datetime: iso, title: `${date.toISOString()} (UTC)` }, ago ? `${text} (${distance(iso)})` : text);
}
