/** The schema of a body of the API, as a reference for who writes one. */

import { get } from "./api.js";
import { el, shown } from "./dom.js";

const REFERENCE = "#/components/schemas/";
const DEEPEST = 6;

/** @type {Object<string, any>} */
let schemas = {};

/** Return a reference of a body: each member, the values that it takes, and its default. */
export async function schemaReference(name) {
  if (!(name in schemas)) schemas = (await get("/openapi.json", { whole: true })).components.schemas;
  const members = Object.entries(schemas[name].properties).map(([member, schema]) => {
    const rows = [...membersOf(schema, "", 0)];
    return el("details", {}, el("summary", {}, el("code", {}, member), " ", rows.length ? "" : takes(schema)), described(schema),
      rows.map(([path, each]) => el("p", { class: "member" }, el("code", {}, path), " ", takes(each), fallback(each), described(each))));
  });
  return el("section", { class: "schema", "aria-label": "Schema" }, el("h3", {}, "Schema"), el("p", { class: "faint" }, "Only what is set is changed; what is left out comes from the wider scopes."), members);
}

/** Yield the members within a schema, with their paths. */
function* membersOf(schema, before, depth) {
  const known = resolved(schema);
  if (depth > DEEPEST) return;
  if (known.properties) {
    for (const [name, each] of Object.entries(known.properties)) {
      yield [before + name, each];
      yield* membersOf(each, `${before}${name}.`, depth + 1);
    }
  } else if (known.items) yield* membersOf(known.items, `${before}[].`.replace("..", "."), depth + 1);
  else if (known.anyOf) for (const each of known.anyOf) yield* membersOf(each, before, depth);
}

/** Return a schema with its reference followed, and without the alternative null. */
function resolved(schema) {
  if (schema.$ref) return resolved(schemas[schema.$ref.replace(REFERENCE, "")]);
  const others = schema.anyOf?.filter(({ type }) => type !== "null") ?? [];
  return others.length === 1 ? resolved(others[0]) : schema;
}

function takes(schema) {
  const known = resolved(schema);
  if (known.enum) return known.enum.join(" | ");
  if (known.anyOf) return known.anyOf.map(takes).join(" or ");
  if (known.type === "array") return `list of ${takes(known.items ?? {})}`;
  if (known.type === "string" && known.pattern) return known.pattern.length < 60 ? `text ${known.pattern}` : "text";
  const words = { string: "text", integer: "whole number", boolean: "true | false" };
  const bounds = known.minimum !== undefined && known.maximum !== undefined ? ` ${known.minimum} to ${known.maximum}` : "";
  return (words[known.type] ?? known.type ?? "any value") + bounds;
}

function fallback(schema) {
  return schema.default === undefined || schema.default === null ? "" : el("span", { class: "faint" }, ` (without it ${shown(JSON.stringify(schema.default), 80)})`);
}

function described(schema) {
  const text = schema.description ?? resolved(schema).description;
  return text ? el("span", { class: "faint" }, ` ${text.replaceAll(/\s+/g, " ")}`) : "";
}
