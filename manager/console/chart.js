/** Charts in SVG, each with its numbers as a table. */

import { el } from "./dom.js";
import { table } from "./view.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 480;
const HEIGHT = 120;
const ROW = 24;
const LABEL = 80;
const NUMBER = 60;

function svg(tag, attributes, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  made.append(...children);
  return made;
}

/** Return bars by name, with their numbers as a table; `what` heads the names. */
export function bars(title, counts, what = "State") {
  const entries = Object.entries(counts);
  const most = Math.max(1, ...entries.map(([, count]) => count));
  const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${entries.length * ROW}`, class: "bars", role: "img", "aria-label": title },
    ...entries.map(([name, count], index) => svg("g", { class: name },
      svg("rect", { x: LABEL, y: index * ROW + 4, width: Math.max(count ? 2 : 0, ((WIDTH - LABEL - NUMBER) * count) / most), height: 16 }),
      svg("text", { x: 0, y: index * ROW + 17 }, name),
      svg("text", { x: LABEL + Math.max(count ? 2 : 0, ((WIDTH - LABEL - NUMBER) * count) / most) + 6, y: index * ROW + 17 }, String(count)))));
  return el("figure", {}, el("figcaption", {}, title), drawing, numbers(table([what, "Number"], entries, title)));
}

/** Return lines of times: half, 95 % and all of the hosts, one line each, with the numbers as a table. */
export function spread(title, lines) {
  const known = ({ seconds }) => ["50", "95", "100"].map((percent) => seconds[percent] ?? null);
  const longest = Math.max(0.001, ...lines.flatMap(known).filter((value) => value !== null));
  const place = (value) => (WIDTH - 8) * (value / longest) + 4;
  const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${lines.length * ROW}`, class: "spread", role: "img", "aria-label": title },
    ...lines.map((line, index) => {
      const values = known(line).filter((value) => value !== null);
      const y = index * ROW + ROW / 2;
      return svg("g", {}, svg("line", { x1: 4, x2: place(Math.max(...values)), y1: y, y2: y }),
        ...values.map((value) => svg("circle", { cx: place(value), cy: y, r: 4 })));
    }));
  const seconds = (value) => (value === null ? "not reached" : `${value.toFixed(2)} s`);
  return el("figure", {}, el("figcaption", {}, title), drawing,
    numbers(table(["Incident", "Half", "95 %", "All"], lines.map((line) => [line.name, ...known(line).map(seconds)]), title)));
}

/** Return a table that a reader opens; screen readers find it as well. */
function numbers(shown) {
  return el("details", {}, el("summary", {}, "Numbers"), shown);
}

/**
 * Return percentages over time as lines, with their numbers as a table that opens on demand; a gap ends a line.
 * @param {string} title
 * @param {{names: string[], rows: {at: string, values: (number|null)[], cells: Node[]|string[]}[], step: number, heads: string[]}} given
 *     `step` is the distance of two rows in seconds.
 */
export function percentages(title, { names, rows, step, heads }) {
  const first = Date.parse(rows[0].at);
  const span = Math.max(step * 1000, Date.parse(rows[rows.length - 1].at) - first);
  const lines = names.flatMap((name, column) => pieces(rows, step).map((piece) => svg("polyline", {
    class: `curve ${name}`, points: piece.map(({ at, values }) => `${(WIDTH * (Date.parse(at) - first)) / span},${HEIGHT - (HEIGHT * (values[column] ?? 0)) / 100}`).join(" ") })));
  return el("figure", {}, el("figcaption", {}, title),
    svg("svg", { viewBox: `-2 -2 ${WIDTH + 4} ${HEIGHT + 4}`, role: "img", "aria-label": title }, ...lines),
    el("details", {}, el("summary", {}, "The numbers"), table(heads, rows.map(({ cells }) => cells), title)));
}

/** Return rows in pieces without a gap. */
function pieces(rows, step) {
  /** @type {any[][]} */
  const found = [[]];
  rows.forEach((row, index) => {
    if (index && Date.parse(row.at) - Date.parse(rows[index - 1].at) > step * 1500) found.push([]);
    found[found.length - 1].push(row);
  });
  return found.map((piece) => (piece.length === 1 ? [piece[0], piece[0]] : piece));
}

/** Return the curves of acceptance and enforcement of an incident's response over time, apart. */
export function curve(incident) {
  const points = ["50", "95", "100"].map((percent) => ({
    percent, accepted: incident.timeToAcceptance?.[percent] ?? null, enforced: incident.timeToImmunity?.[percent] ?? null }));
  if (points.every(({ accepted, enforced }) => accepted === null && enforced === null)) {
    return el("p", {}, "Half of its hosts have not accepted it yet, and half have not enforced it.");
  }
  const longest = Math.max(0.001, ...points.flatMap(({ accepted, enforced }) => [accepted ?? 0, enforced ?? 0]));
  const line = (name) => {
    const known = points.filter((point) => point[name] !== null);
    const places = known.map((point) => `${(WIDTH * point[name]) / longest},${HEIGHT - (HEIGHT * Number(point.percent)) / 100}`);
    return svg("polyline", { class: `curve ${name}`, points: [`0,${HEIGHT}`, ...places].join(" ") });
  };
  const seconds = (value) => (value === null ? "not reached" : `${value.toFixed(2)} s`);
  return el("figure", {},
    svg("svg", { viewBox: `-2 -2 ${WIDTH + 4} ${HEIGHT + 4}`, role: "img", "aria-label": "Share of hosts that accepted and enforced the response, over time" },
      line("accepted"), line("enforced")),
    table(["Share of hosts", "Accepted after", "Enforced after"],
      points.map(({ percent, accepted, enforced }) => [`${percent} %`, seconds(accepted), seconds(enforced)]),
      "Dashed: accepted. Solid: enforced in the kernel, which alone is immunity."));
}
