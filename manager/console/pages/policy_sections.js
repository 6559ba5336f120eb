/** The links between the pages about policies. */

import { el, link } from "../dom.js";

const SECTIONS = [["policies", "Documents"], ["policies/groups", "Groups"], ["policies/drift", "Drift"]];

/** Return the links between the pages about policies. */
export function sections(current) {
  return el("p", {}, SECTIONS.map(([path, title], index) => [
    index ? " \u00b7 " : "", title === current ? el("strong", {}, title) : link("/" + path, title)]));
}
