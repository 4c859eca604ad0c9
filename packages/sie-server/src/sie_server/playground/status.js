/** The line that says what the server is doing, from its status stream. */

import { byId, counted } from "./elements.js";

/** @import { StatusMessage } from "./sdk.js" */
/** @import { Server } from "./server.js" */

const WINDOW_S = 2;
const KEPT_S = 60;
const PAUSE_MS = 5000;

/** Rates from the counters of successive statuses. */
export class Rates {
  /** @type {{ time: number, tokens: number }[]} */
  #seen = [];

  /**
   * @param {number} time - In seconds.
   * @param {number} tokens - Computed so far.
   * @returns {number} tokens per second, over the last two seconds.
   */
  add(time, tokens) {
    const last = this.#seen.at(-1);
    // The counter of a server that was started again begins anew.
    if (last !== undefined && (tokens < last.tokens || time < last.time)) this.#seen = [];
    this.#seen.push({ time, tokens });
    while (this.#seen.length > 2 && time - Number(this.#seen[0]?.time) > KEPT_S) this.#seen.shift();
    return this.#rate(time);
  }

  /**
   * @param {number} points
   * @returns {number[]} the rates of the last minute, oldest first.
   */
  history(points) {
    const now = this.#seen.at(-1)?.time ?? 0;
    return Array.from({ length: points }, (_, i) => this.#rate(now - (KEPT_S * (points - 1 - i)) / points));
  }

  /** @param {number} until */
  #rate(until) {
    const after = this.#seen.findLast(({ time }) => time <= until);
    const before = this.#seen.findLast(({ time }) => time <= until - WINDOW_S) ?? this.#seen[0];
    if (after === undefined || before === undefined || after.time <= before.time) return 0;
    return (after.tokens - before.tokens) / (after.time - before.time);
  }
}

/**
 * Shows the server's status for as long as the page is visible, and reconnects when the connection breaks.
 *
 * @param {Server} server
 * @param {(status: StatusMessage) => void} onStatus
 */
export async function showStatus(server, onStatus) {
  const rates = new Rates();
  for (;;) {
    await visible();
    const hidden = new AbortController();
    const hide = () => document.hidden && hidden.abort();
    document.addEventListener("visibilitychange", hide);
    try {
      for await (const status of server.watch(hidden.signal)) {
        draw(status, rates);
        onStatus(status);
      }
    } catch {
      if (!hidden.signal.aborted) {
        say("off", "The server does not answer; trying again…");
        await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      }
    } finally {
      document.removeEventListener("visibilitychange", hide);
    }
  }
}

function visible() {
  if (!document.hidden) return undefined;
  return new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
}

/**
 * @param {StatusMessage} status
 * @param {Rates} rates
 */
function draw(status, rates) {
  const rate = rates.add(status.timestamp, status.computed_tokens ?? 0);
  const waiting = status.models.reduce((sum, { queue_depth }) => sum + queue_depth, 0);
  const seconds = status.queue_seconds ?? 0;
  const loading = status.models.filter(({ state }) => state === "loading").map(({ name }) => name);
  const busy = rate > 0 || waiting > 0;
  const state = status.saturated
    ? "Full"
    : loading.length > 0
      ? "Loading"
      : !status.ready
        ? "Starting"
        : busy
          ? "Busy"
          : "Ready";
  say(
    status.ready ? (busy || loading.length > 0 ? "busy" : "on") : "off",
    [
      state,
      `${counted(status.loaded_models.length, "model")} in memory`,
      `${counted(waiting, "request")} waiting${seconds >= 0.1 ? ` (${seconds.toFixed(1)} s of work)` : ""}`,
      `${Math.round(rate).toLocaleString("en")} tokens/s`,
    ].join(" · "),
  );
  const points = rates.history(40);
  const most = Math.max(...points, 1);
  const path = points.map((each, i) => `${((i * 80) / 39).toFixed(1)} ${(19 - (each / most) * 17).toFixed(1)}`);
  byId("status-rates", SVGElement)
    .querySelector("path")
    ?.setAttribute("d", `M${path.join("L")}`);
  byId("version", HTMLElement).textContent = `sie-server ${status.server.version}`;
}

/**
 * @param {"on" | "busy" | "off"} state
 * @param {string} text
 */
function say(state, text) {
  byId("status-dot", HTMLElement).dataset["state"] = state;
  const line = byId("status-text", HTMLElement);
  if (line.textContent !== text) line.textContent = text;
}
