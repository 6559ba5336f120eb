/** Builds elements. Text from anywhere becomes text nodes; there is no way from a string to markup. */

/** @typedef {Node|string|number|boolean|null|undefined|any[]} Content text or nodes; false and null are left out */

/**
 * Return an element.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Object<string, any>} attributes `on…` are listeners, `class` and others attributes; null and false are left out
 * @param {...Content} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "href") made.setAttribute("href", ownAddress(String(value)));
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  append(made, children);
  return made;
}

/** Replace an element's content. */
export function fill(element, ...children) {
  element.replaceChildren();
  append(element, children);
}

/** Return text as a reader can take it: control and direction marks shown as a box, at most `most` characters. */
export function shown(text, most = 200) {
  const plain = String(text ?? "").replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g, "\u25a1");
  return plain.length > most ? plain.slice(0, most) + "\u2026" : plain;
}

/** Return an element with text that came from a machine: kept apart from the sentence around it. */
export function quoted(text, most = 200) {
  return el("bdi", {}, shown(text, most));
}

/** Return a link within the console. */
export function link(path, ...children) {
  return el("a", { href: "#" + path }, ...children);
}

/** Return the path of a page with ids in it. */
export function path(...parts) {
  return "/" + parts.map((part) => encodeURIComponent(part)).join("/");
}

function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
}

/** Links lead to pages of the console alone. */
function ownAddress(address) {
  if (!address.startsWith("#")) throw new Error("a link of the console begins with #");
  return address;
}
