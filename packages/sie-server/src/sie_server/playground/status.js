/** The line that says what the server is doing, from its status stream. */

import { byId, counted } from "./elements.js";
import { Rates } from "./rates.js";
import { address } from "./server.js";

/** @import { StatusMessage } from "./sdk.js" */
/** @import { Server } from "./server.js" */

const PAUSE_MS = 5000;

/**
 * Shows the server's status for as long as the page is visible, and reconnects when the connection breaks.
 *
 * @param {Server} server
 * @param {(status: StatusMessage) => void} onStatus
 */
export async function showStatus(server, onStatus) {
  const rates = new Rates();
  let failures = 0;
  for (;;) {
    await visible();
    const hidden = new AbortController();
    const hide = () => document.hidden && hidden.abort();
    document.addEventListener("visibilitychange", hide);
    try {
      for await (const status of server.watch(hidden.signal)) {
        failures = 0;
        draw(status, rates);
        onStatus(status);
      }
    } catch {
      if (!hidden.signal.aborted) {
        say("off", failures++ === 0 ? "Connecting again…" : `${await whyNot()}; trying again…`);
        await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      }
    } finally {
      document.removeEventListener("visibilitychange", hide);
    }
  }
}

/** @returns {Promise<string>} the reason why there is no stream, which a browser does not tell. */
async function whyNot() {
  const answer = await fetch(`${address}/healthz`).catch(() => undefined);
  return answer?.ok ? "No live status: WebSockets do not get through" : "The server does not answer";
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
