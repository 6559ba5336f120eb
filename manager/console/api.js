/** Requests to the manager's HTTP API, with the cookie and the CSRF token of the session. */

/** An answer that is no success; `message` is the manager's own sentence. */
export class ApiError extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

/** @type {{role: string, name: string, csrfToken: string}|null} */
let session = null;
let onSignedOut = () => {};

/** Milliseconds until an answer; a connection may be dead without a word. */
const PATIENCE = 30_000;
const PATIENCE_BEHIND = 10_000;

/** Call a function when the manager says that nobody is signed in any more. */
export function whenSignedOut(handle) {
  onSignedOut = handle;
}

/** Return who is signed in, or null. */
export async function readSession() {
  const answer = await fetch("/api/session", { credentials: "same-origin", cache: "no-store" });
  session = answer.ok ? (await answer.json()).data : null;
  return session;
}

/** Sign in; raises ApiError. */
export async function signIn(token) {
  session = (await send("POST", "/api/session", { token }, true)).data;
  return session;
}

/** Sign out. */
export async function signOut() {
  await send("DELETE", "/api/session");
  session = null;
}

/** Return whether the session's role includes a role. */
export function may(role) {
  const rank = { viewer: 0, responder: 1, admin: 2 };
  return session !== null && rank[session.role] >= rank[role];
}

/**
 * Return the data of an answer, or with `whole` all of it. `background` marks what the page asks by itself: it does not
 * keep the session alive.
 */
export async function get(path, { background = false, whole = false } = {}) {
  const answer = await send("GET", path, undefined, false, background);
  return whole ? answer : answer.data;
}

/** Return a page of a list: its records and whether there are more. */
export async function list(path, { background = false } = {}) {
  const answer = await send("GET", path, undefined, false, background);
  return { records: answer.data, cursor: answer.nextCursor };
}

/** Return the first record of a list that fits, read page by page; null where none does. */
export async function first(path, fits) {
  let cursor = null;
  do {
    const page = await list(path + query({ limit: 100, cursor }));
    const found = page.records.find(fits);
    if (found !== undefined) return found;
    cursor = page.cursor;
  } while (cursor !== null);
  return null;
}

/** Make a change and return the answer's data; raises ApiError. */
export async function change(method, path, body) {
  return (await send(method, path, body)).data;
}

/** Return a query string; members that are null or empty are left out. */
export function query(members) {
  const given = Object.entries(members).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return given.length ? "?" + new URLSearchParams(given) : "";
}

async function send(method, path, body, signingIn = false, background = false) {
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (session !== null && method !== "GET") headers["X-Panguard-CSRF"] = session.csrfToken;
  if (background) headers["X-Panguard-Background"] = "1";
  let answer;
  try {
    answer = await fetch(path, {
      method, headers, credentials: "same-origin", cache: "no-store", signal: AbortSignal.timeout(background ? PATIENCE_BEHIND : PATIENCE),
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new ApiError(0, "the manager does not answer");
  }
  let told = {};
  try {
    told = await answer.json();
  } catch { /* an answer of a proxy: its status is told */ }
  if (answer.ok) return told;
  if (answer.status === 401 && !signingIn) {
    session = null;
    onSignedOut();
  }
  throw new ApiError(answer.status, told.error ?? `the answer has status ${answer.status}`);
}
