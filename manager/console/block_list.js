/** Reads lists of addresses to block: one in each line, or CSV, as `panguard manager blocks import` reads them. */

const ADDRESS_COLUMNS = ["value", "address", "ip", "cidr"];
const COLUMNS = [...ADDRESS_COLUMNS, "reason", "for"];
const LINE_END = /\r\n|[\n\r\v\f\u001c-\u001e\u0085\u2028\u2029]/;
const UNITS = { s: 1, m: 60, h: 3600, d: 86_400, w: 604_800 };
const LONGEST = 366 * 86_400;
const LONGEST_VALUE = 64;
const LONGEST_REASON = 100;

/**
 * Return the addresses of a list, each once, with the number of its line.
 * @param {string} text
 * @param {boolean} isCsv
 * @returns {{number: number, value: string, reason: string|null, duration: string|null}[]} raises Error for a CSV without a known header
 */
export function addressesIn(text, isCsv) {
  const byValue = new Map();
  for (const line of isCsv ? csvLines(text) : plainLines(text)) byValue.set(line.value, line);
  return [...byValue.values()];
}

/** Return whether the first line of a text is the header of a CSV. */
export function looksLikeCsv(text) {
  const names = text.split(LINE_END, 1)[0].split(",").map((name) => trim(name).toLowerCase());
  return names.some((name) => ADDRESS_COLUMNS.includes(name));
}

/** Return the reason why a line cannot be sent to the manager, or null. The manager checks the address itself. */
export function fault({ value, reason, duration }) {
  if (value.length === 0 || value.length > LONGEST_VALUE) return "is no address and no network";
  if (reason !== null && (reason.length > LONGEST_REASON || /[\u0000-\u001f\u007f]/.test(reason))) return `the reason is longer than ${LONGEST_REASON} characters, or has control characters`;
  if (duration === null) return null;
  const seconds = secondsOf(duration);
  if (seconds === null) return `${duration} is no duration: write 90s, 15m, 24h or 7d`;
  return seconds < 1 || seconds > LONGEST ? `${duration} is not between 1s and 366d` : null;
}

/** Return a line as a block of the API. */
export function blockOf({ value, reason, duration }) {
  return { value, ...(reason === null ? {} : { reason }), ...(duration === null ? {} : { seconds: secondsOf(duration) }) };
}

function secondsOf(duration) {
  const found = /^([0-9]{1,9})([smhdw])$/.exec(duration);
  return found === null ? null : Number(found[1]) * UNITS[found[2]];
}

function* plainLines(text) {
  for (const [index, line] of linesOf(text).entries()) {
    const value = trim(line.split("#", 1)[0]);
    if (value) yield { number: index + 1, value, reason: null, duration: null };
  }
}

function* csvLines(text) {
  const rows = csvRows(linesOf(text));
  const header = (rows.next().value?.cells ?? []).map((name) => trim(name).toLowerCase());
  const column = ADDRESS_COLUMNS.find((name) => header.includes(name));
  if (column === undefined || !header.every((name) => COLUMNS.includes(name))) {
    throw new Error("line 1: the header has a column value (or address, ip, cidr), and may have reason and for; take other columns away");
  }
  for (const { number, cells } of rows) {
    if (!cells.some((cell) => trim(cell))) continue;
    const named = Object.fromEntries(header.slice(0, cells.length).map((name, index) => [name, trim(cells[index])]));
    yield { number, value: named[column] ?? "", reason: named.reason || null, duration: named.for || null };
  }
}

/** Yield the rows of CSV: fields between commas, in double quotes where they have commas, quotes or line ends. */
function* csvRows(lines) {
  let cells = [];
  let field = "";
  let state = "start";
  for (const [index, line] of lines.entries()) {
    if (line === "" && state === "start" && cells.length === 0) {
      yield { number: index + 1, cells: [] };
      continue;
    }
    for (const character of line) {
      if (state === "quoted") {
        if (character === '"') state = "quote";
        else field += character;
      } else if (character === '"' && state !== "plain") {
        if (state === "quote") field += character;
        state = "quoted";
      } else if (character === ",") {
        cells.push(field);
        field = "";
        state = "start";
      } else {
        field += character;
        state = "plain";
      }
    }
    if (state === "quoted") continue;
    yield { number: index + 1, cells: [...cells, field] };
    cells = [];
    field = "";
    state = "start";
  }
  if (state === "quoted") yield { number: lines.length, cells: [...cells, field] };
}

function linesOf(text) {
  const lines = text.split(LINE_END);
  if (lines.at(-1) === "") lines.pop();
  return lines;
}

/** Return a text without white space at its ends. */
function trim(text) {
  return text.replace(/^[\s\u001c-\u001f\u0085]+|[\s\u001c-\u001f\u0085]+$/g, "");
}
