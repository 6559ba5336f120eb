/** The event stream: tells the pages of events, and everybody whether it is live. */

import { query } from "./api.js";

/** Milliseconds without a sign of life after which the page says that it is not live. */
const SILENCE = 10_000;

/** Milliseconds without a sign of life after which the connection is given up and made anew: it may be half open. */
const GIVEN_UP = 20_000;
const CHECK = 1_000;

const NAMES = [
  "agent_registered", "agent_reconnected", "agent_online", "agent_stale", "agent_offline", "agent_removed", "agent_changed",
  "agent_degraded", "agent_recovered", "agent_cloned", "agent_clone_gone", "agent_suspended", "threats_reported",
  "suspicious_login", "critical_threat", "alerts_limited", "block_cut_connections", "block_ineffective",
  "block_withdrawn",
  "approval_waiting", "approval_over", "incident_opened", "incident_grew", "incident_merged", "incident_closed",
  "incident_chronic", "incident_response", "incident_work", "threat_recognized", "policy_created", "blocks_added", "responses_frozen",
  "responses_thawed", "mode_reverted", "reports_held_back", "reports_arrive_again", "channel_failing", "channel_recovered",
];

/** Follows the stream, and reconnects by itself. */
export class Stream {
  /**
   * @param {(name: string, event: any) => void} onEvent
   * @param {(live: boolean, since: Date) => void} onState
   * @param {() => void} onRefused called when the manager refuses the stream, before it is tried again
   */
  constructor(onEvent, onState, onRefused) {
    this.onRefused = onRefused;
    /** @type {EventSource|null} */
    this.source = null;
    /** Id of the last event that was heard. @type {string|null} */
    this.last = null;
    /** When a refused connection is tried again. @type {number|null} */
    this.again = null;
    /** When the connection was opened. */
    this.tried = 0;
    this.onEvent = onEvent;
    this.onState = onState;
    this.heard = performance.now();
    this.live = false;
    this.since = new Date();
  }

  start() {
    this.connect();
    this.timer = setInterval(() => this.check(), CHECK);
    this.onState(false, this.since);
  }

  stop() {
    clearInterval(this.timer);
    this.source?.close();
  }

  /** Open a connection that resumes after the last event that was heard. */
  connect() {
    this.source?.close();
    const source = new EventSource("/api/events/stream" + query({ alive: 3, lastEventId: this.last }));
    this.source = source;
    this.tried = performance.now();
    this.again = null;
    source.addEventListener("connected", () => {
      this.sign();
      this.onEvent("connected", {});  // what happened meanwhile is read anew
    });
    source.addEventListener("alive", () => this.sign());
    for (const name of NAMES) {
      source.addEventListener(name, (message) => {
        if (message.lastEventId) this.last = message.lastEventId;
        this.sign();
        this.onEvent(name, JSON.parse(message.data));
      });
    }
    source.onerror = () => {
      if (source.readyState === EventSource.CLOSED) this.again = performance.now() + 3_000;
    };
  }

  sign() {
    this.heard = performance.now();
    this.set(true);
  }

  check() {
    const now = performance.now();
    if (now - this.heard > SILENCE) this.set(false);
    if (this.again && now > this.again) {  // the manager refused it: EventSource does not try again by itself
      this.connect();
      this.onRefused();
    } else if (now - this.heard > GIVEN_UP && now - this.tried > GIVEN_UP) {
      this.connect();
    }
  }

  set(live) {
    if (live === this.live) return;
    this.live = live;
    this.since = live ? new Date() : new Date(Date.now() - (performance.now() - this.heard));
    this.onState(live, this.since);
  }
}
