/** The charts below the first screen: agents by state, threats by severity, time to immunity. */

import { bars, spread } from "../chart.js";
import { el, link, path, quoted } from "../dom.js";

const SHOWN = 10;

/** Return the charts of a situation and of the newest incidents, each with its numbers as a table. */
export function fleetCharts({ agents, dealtWith }, incidents) {
  const { online, stale, offline } = agents;
  const { critical, high, medium, low } = dealtWith;
  const answered = incidents.filter(({ timeToImmunity }) => timeToImmunity?.["95"] != null).slice(0, SHOWN);
  return el("section", { class: "charts", "aria-label": "Charts" },
    bars("Agents by state", { online, stale, offline }, "State"),
    bars("Reports within 24 h by severity", { critical, high, medium, low }, "Severity"),
    answered.length > 0
      ? spread("Seconds until half, 95 % and all hosts enforced a block", answered.map((each) => ({
        name: link(path("incidents", each.id), quoted(each.value)), seconds: each.timeToImmunity })))
      : false);
}
