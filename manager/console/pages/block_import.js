/** Import of blocks: a file or a pasted list, checked whole before anything is blocked. */

import { change } from "../api.js";
import { addressesIn, blockOf, fault, looksLikeCsv } from "../block_list.js";
import { hostCount, scopeFields } from "../block_scope.js";
import { el, fill, quoted } from "../dom.js";
import { confirmed, table, tell } from "../view.js";

const BATCH = 200;
const LARGEST = 8 * 2 ** 20;
const SHOWN = 100;
const MOST_REASON = 100;

/** Return the form. `durations` are [text, seconds]; `done` is called with a sentence after an import. */
export function importForm(durations, done) {
  const result = el("div", { role: "status" });
  const file = el("input", { type: "file", name: "file", accept: ".txt,.csv,text/plain,text/csv" });
  const pasted = el("textarea", { name: "list", rows: 6, class: "short", spellcheck: false });
  const format = el("select", { name: "format" }, [["", "by its first line"], ["plain", "one address in each line"], ["csv", "CSV"]].map(([value, text]) => el("option", { value }, text)));
  const seconds = el("select", { name: "for" }, durations.map(([text, number]) => el("option", { value: number, selected: number === 14_400 }, text)));
  const reason = el("input", { name: "importReason", maxlength: MOST_REASON });
  const scope = scopeFields();
  const check = async (event) => {
    event.preventDefault();
    result.className = "";
    fill(result, "Checking\u2026");
    try {
      const text = pasted.value.trim() ? pasted.value : await textOf(file.files?.[0]);
      const lines = addressesIn(text, format.value ? format.value === "csv" : looksLikeCsv(text));
      if (!lines.length) throw new Error("there is no address in it");
      const where = await scope.read();
      const body = { ...where.members, seconds: Number(seconds.value), ...(reason.value.trim() ? { reason: reason.value.trim() } : {}) };
      const checked = await checkAll(lines, body, result);
      show({ lines, where, body, checked, forWords: seconds.selectedOptions[0].textContent });
    } catch (error) {
      tell(result, error);
    }
  };
  const show = (about) => {
    const { lines, checked: { refused, room, fresh } } = about;
    const taken = lines.filter((line) => !refused.has(line));
    result.className = "";
    fill(result,
      el("p", {}, `${lines.length} addresses and networks: ${taken.length} can be blocked, ${fresh} of them are not blocked there yet; ${refused.size} are refused. Nothing is blocked so far.`),
      refused.size > 0 && table(["Line", "Address", "Refused because"], [...refused].slice(0, SHOWN).map(([line, why]) => [line.number, quoted(line.value, 64), quoted(why, 300)]),
        refused.size > SHOWN ? `The first ${SHOWN} of ${refused.size} that are refused` : "Those that are refused"),
      fresh > room && el("p", { class: "error" }, `There is room for ${room} more: lift some, or block networks instead of single addresses.`),
      taken.length > 0 && fresh <= room && el("button", { type: "button", class: "danger", onclick: () => act({ ...about, taken }) },
        refused.size ? `Block the other ${taken.length}\u2026` : `Block ${taken.length}\u2026`));
  };
  const act = async ({ taken, where, body, forWords }) => {
    const made = await confirmed({
      title: `Block ${taken.length} addresses and networks?`,
      touches: [`They are blocked `, where.words, `, for ${forWords} where a line says no other time.`],
      undo: "lift each in its row on this page; by itself each ends with its time", action: `Block ${taken.length} on ${hostCount(where.hosts)}`,
      changed: async () => {
        const { refused } = await checkAll(taken, body, null);
        return refused.size ? `${refused.size} of them are refused now` : null;
      },
      make: () => addAll(taken, body),
    });
    if (!made) return;
    fill(result);
    await done(`${made} addresses and networks are blocked; the rows show who enforces them.`);
  };
  return el("form", { name: "import", onsubmit: check },
    el("p", { class: "faint" }, "One address or network in each line, # begins a comment; or CSV with a header: a column value, and if you like reason and for (90s, 15m, 4h, 7d)."),
    el("div", { class: "line" }, el("label", {}, "File", file), el("label", {}, "Format", format), el("label", {}, "For, where a line has none", seconds),
      el("label", {}, "Reason, where a line has none", reason), scope.elements),
    el("label", {}, "Or paste the list", pasted),
    el("div", { class: "line" }, el("button", { type: "submit" }, "Check")), result);
}

async function textOf(file) {
  if (file === undefined) throw new Error("choose a file, or paste a list");
  if (file.size > LARGEST) throw new Error("the file is larger than 8 MiB: split it");
  return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(await file.arrayBuffer());
}

/** Return each refused line with its reason, the number of new blocks, and the room for them. */
async function checkAll(lines, body, place) {
  const refused = new Map();
  let [fresh, room] = [0, Infinity];
  const sound = lines.filter((line) => {
    const why = fault(line);
    if (why !== null) refused.set(line, why);
    return why === null;
  });
  for (let start = 0; start < sound.length; start += BATCH) {
    const batch = sound.slice(start, start + BATCH);
    const asked = await change("POST", "/api/blocks/import", { ...body, blocks: batch.map(blockOf), dryRun: true });
    for (const each of asked.refused) refused.set(batch[each.index], each.reason);
    fresh += asked.new;
    room = asked.room;
    if (place) fill(place, `Checked ${Math.min(start + BATCH, sound.length)} of ${sound.length}\u2026`);
  }
  return { refused, fresh, room };
}

/** Block in batches; raises Error that says how many are blocked where one fails. */
async function addAll(lines, body) {
  let added = 0;
  for (let start = 0; start < lines.length; start += BATCH) {
    try {
      added += (await change("POST", "/api/blocks/import", { ...body, blocks: lines.slice(start, start + BATCH).map(blockOf) })).added;
    } catch (error) {
      throw new Error(`${added} are blocked, those from line ${lines[start].number} on are not: ${error.message}`);
    }
  }
  return added;
}
