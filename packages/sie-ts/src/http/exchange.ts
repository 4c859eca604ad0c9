/** The life of one call: it is sent until it succeeds, fails with a final error, or exceeds its time budget. */

import { SIEConnectionError, type SIEError } from "../errors.js";
import { type ErrorContext, errorIn, type Reply } from "../messages/reply.js";
import { afterFailure, afterResponse, parseRetryAfter, type Retries, type Retry, type RetryOptions } from "./retry.js";
import type { ServerHistory } from "./server-history.js";
import { type Attempt, send } from "./transport.js";

/**
 * A request with its retry policy. A budget of 0 allows a single attempt. `unreachedMs` limits the waits for a server
 * that the client has never had a response from.
 */
export interface Call<T> extends Attempt {
  readonly parse: (reply: Reply) => T;
  readonly context: ErrorContext;
  readonly retrying: RetryOptions;
  readonly budgetMs: number;
  readonly unreachedMs: number;
}

/** The parts of a client that all its calls share. */
export interface Transport {
  readonly fetch: typeof fetch;
  readonly history: ServerHistory;
}

/** Returns the result of a call; rejects with an `SIEError`. */
export async function exchange<T>(call: Call<T>, { fetch, history }: Transport): Promise<T> {
  const since = performance.now();
  const retries: Retries = {};
  for (;;) {
    const leftMs = call.budgetMs === 0 ? Infinity : Math.max(since + call.budgetMs - performance.now(), 1);
    let error: SIEError;
    let again: Retry | undefined;
    try {
      const reply = await send(fetch, { ...call, timeoutMs: Math.min(call.timeoutMs, leftMs) });
      history.heard(reply.headers);
      if (reply.status >= 200 && reply.status < 300) return call.parse(reply);
      const askedMs = parseRetryAfter(reply.headers.get("retry-after"), Date.now());
      error = errorIn(reply, call.context, retries.memory ?? 0, askedMs);
      again = afterResponse(reply.status, error.code, askedMs, retries, call.retrying, Math.random());
    } catch (failure) {
      if (!(failure instanceof SIEConnectionError)) throw failure;
      error = failure;
      again = afterFailure(failure.kind, retries, call.retrying, Math.random());
    }
    await waitToRetry(call, error, again, retries, since, history);
  }
}

/** Waits before the next attempt; rejects with the error if the call, begun at `since`, must not be retried. */
export async function waitToRetry(
  call: Call<unknown>,
  error: SIEError,
  again: Retry | undefined,
  retries: Retries,
  since: number,
  { reached }: ServerHistory,
): Promise<void> {
  const budgetMs = reached ? call.budgetMs : Math.min(call.budgetMs, call.unreachedMs);
  const deadline = since + budgetMs;
  if (again === undefined || performance.now() + again.delayMs >= deadline) throw error;
  if (again.reason === "connection" && !retries.connection) announce(error, budgetMs);
  retries[again.reason] = (retries[again.reason] ?? 0) + 1;
  await pause(again.delayMs, call.signal);
  if (performance.now() >= deadline) throw error;
}

// Once per call, so that a user at a terminal sees why nothing happens, without flooding a log.
function announce(error: SIEError, budgetMs: number): void {
  console.warn(`sie: ${error.message}; retrying for up to ${budgetMs / 1000} s`);
}

// Timers have 31 bits; a longer one would fire at once.
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Waits; rejects with the signal's reason if it is aborted. */
export function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(
      () => {
        signal?.removeEventListener("abort", stop);
        resolve();
      },
      Math.min(ms, LONGEST_TIMER_MS),
    );
    if (signal?.aborted) stop();
    else signal?.addEventListener("abort", stop, { once: true });
  });
}
