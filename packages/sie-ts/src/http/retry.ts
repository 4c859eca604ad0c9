/**
 * The retry policy: pure functions, without a clock and without I/O.
 *
 * | Response | Retried | Delay |
 * |---|---|---|
 * | 503 PROVISIONING | if waiting for capacity | Retry-After or 5 s |
 * | 503 MODEL_LOADING | always | Retry-After or 5 s |
 * | 503 LORA_LOADING | 10 times | Retry-After or 1 s |
 * | 503 RESOURCE_EXHAUSTED | `maxOomRetries` times | Retry-After or 5 s, then 10, 20, 30, 30, ... |
 * | 429; 503 QUEUE_FULL, BILLING_CAPACITY_UNAVAILABLE | always | Retry-After or 1 s |
 * | 503 QUEUE_UNAVAILABLE, transport_failure, or without a code | if it has a Retry-After | Retry-After |
 * | 504 | if waiting for capacity, inference only | Retry-After or 5 s |
 * | refused, unknown host, cut off before the response was complete | if waiting for capacity | 0.5, 1, 2, 4, 8, 8, ... s |
 * | timed out, anything else | never | |
 *
 * "Always" means until the call's time budget is spent, which the caller keeps track of. A delay that the server did
 * not choose is shortened by up to 25 %, at random, so that clients that failed together do not retry together.
 */

import type { FailureKind } from "../errors.js";

export type Reason = "capacity" | "loading" | "lora" | "memory" | "busy" | "gateway" | "connection";

/** The retries of a call so far, by reason. */
export type Retries = Partial<Record<Reason, number>>;

/** The retries that the caller allows; `inference` is false for requests that run no model. */
export interface RetryOptions {
  readonly waitForCapacity: boolean;
  readonly maxOomRetries: number;
  readonly inference: boolean;
}

/** A retry after `delayMs`. */
export interface Retry {
  readonly reason: Reason;
  readonly delayMs: number;
}

const MAX_LORA_RETRIES = 10;
const JITTER = 0.25;
// Keeps a call from retrying in a tight loop while a busy server sends "Retry-After: 0".
const SHORTEST_DELAY_MS = 100;
/** A year; a longer delay is an error of the server. */
export const LONGEST_DELAY_MS = 31_536_000_000;

/**
 * Returns the retry after an error response; undefined if its error is final.
 *
 * `askedMs` is the response's Retry-After, `draw` a random number in [0, 1).
 */
export function afterResponse(
  status: number,
  code: string | undefined,
  askedMs: number | undefined,
  retries: Retries,
  options: RetryOptions,
  draw: number,
): Retry | undefined {
  const retry = (reason: Reason, defaultMs: number): Retry => ({
    reason,
    delayMs: Math.max(askedMs ?? jittered(defaultMs, draw), SHORTEST_DELAY_MS),
  });
  if (status === 429) return retry("busy", 1000);
  if (status === 504) return options.waitForCapacity && options.inference ? retry("gateway", 5000) : undefined;
  if (status !== 503) return undefined;
  switch (code) {
    case "QUEUE_FULL":
    case "BILLING_CAPACITY_UNAVAILABLE":
      return retry("busy", 1000);
    case "QUEUE_UNAVAILABLE":
    case "transport_failure":
    case undefined:
      return askedMs === undefined ? undefined : retry("busy", askedMs);
    case "PROVISIONING":
      return options.waitForCapacity ? retry("capacity", 5000) : undefined;
    case "MODEL_LOADING":
      return retry("loading", 5000);
    case "LORA_LOADING":
      return (retries.lora ?? 0) < MAX_LORA_RETRIES ? retry("lora", 1000) : undefined;
    case "RESOURCE_EXHAUSTED": {
      const times = retries.memory ?? 0;
      if (times >= options.maxOomRetries) return undefined;
      return times === 0
        ? retry("memory", 5000)
        : { reason: "memory", delayMs: jittered(doubled(5000, times, 30_000), draw) };
    }
    default:
      return undefined;
  }
}

/** Returns the retry after a request without a complete response; undefined if its error is final. */
export function afterFailure(
  kind: FailureKind,
  retries: Retries,
  options: RetryOptions,
  draw: number,
): Retry | undefined {
  if (kind !== "connect" || !options.waitForCapacity) return undefined;
  return { reason: "connection", delayMs: jittered(doubled(500, retries.connection ?? 0, 8000), draw) };
}

/**
 * Parses a Retry-After header, a number of seconds or an HTTP date (RFC 9110, 5.6.7 and 10.2.3), into milliseconds.
 *
 * A past date is 0, and more than a year is a year. Anything else (negative, infinite, "12abc", "soon", "") is
 * undefined.
 */
export function parseRetryAfter(value: string | null, nowMs: number): number | undefined {
  const text = (value ?? "").trim();
  if (/^[0-9]+(\.[0-9]*)?$/.test(text)) {
    const ms = Number(text) * 1000;
    return Number.isFinite(ms) ? Math.min(ms, LONGEST_DELAY_MS) : undefined;
  }
  const date = parseHttpDate(text);
  return date === undefined ? undefined : Math.min(Math.max(0, date - nowMs), LONGEST_DELAY_MS);
}

const MONTHS = "JanFebMarAprMayJunJulAugSepOctNovDec";
const TIME = "(?<time>\\d{2}:\\d{2}:\\d{2})";
const HTTP_DATES = [
  new RegExp(`^[A-Z][a-z]{2}, (?<day>\\d{2}) (?<month>[A-Z][a-z]{2}) (?<year>\\d{4}) ${TIME} GMT$`),
  new RegExp(`^[A-Z][a-z]+day, (?<day>\\d{2})-(?<month>[A-Z][a-z]{2})-(?<year>\\d{2}) ${TIME} GMT$`),
  new RegExp(`^[A-Z][a-z]{2} (?<month>[A-Z][a-z]{2}) (?<day>[ \\d]\\d) ${TIME} (?<year>\\d{4})$`),
];

// Not Date.parse: runtimes differ in the other dates that it reads, and it takes the third form for local time.
function parseHttpDate(text: string): number | undefined {
  for (const form of HTTP_DATES) {
    const { day = "", month = "", year = "", time } = form.exec(text)?.groups ?? {};
    if (time === undefined || MONTHS.indexOf(month) % 3 !== 0) continue;
    const number = String(MONTHS.indexOf(month) / 3 + 1).padStart(2, "0");
    const century = year.length === 4 ? "" : Number(year) < 69 ? "20" : "19";
    const ms = Date.parse(`${century}${year}-${number}-${day.replace(" ", "0")}T${time}Z`);
    return Number.isNaN(ms) ? undefined : ms;
  }
  return undefined;
}

function doubled(firstMs: number, times: number, capMs: number): number {
  return Math.min(capMs, firstMs * 2 ** times);
}

function jittered(delayMs: number, draw: number): number {
  return delayMs * (1 - JITTER * draw);
}
