/** The life of one call: it is sent until it succeeds, fails with a final error, or exceeds its time budget. */

import { SIEConnectionError, type SIEError } from "../errors.js";
import { type ErrorContext, errorIn, type Reply } from "../messages/reply.js";
import { afterFailure, afterResponse, parseRetryAfter, type Retries, type Retry, type RetryOptions } from "./retry.js";
import { type Attempt, send } from "./transport.js";
import type { VersionSkew } from "./version-skew.js";

/** A request with its retry policy. A budget of 0 allows a single attempt. */
export interface Call<T> extends Attempt {
  readonly parse: (reply: Reply) => T;
  readonly context: ErrorContext;
  readonly retrying: RetryOptions;
  readonly budgetMs: number;
}

/** The parts of a client that all its calls share. */
export interface Transport {
  readonly fetch: typeof fetch;
  readonly skew: VersionSkew;
}

/** Returns the result of a call; rejects with an `SIEError`. */
export async function exchange<T>(call: Call<T>, { fetch, skew }: Transport): Promise<T> {
  const deadline = performance.now() + call.budgetMs;
  const retries: Retries = {};
  for (;;) {
    const leftMs = call.budgetMs === 0 ? Infinity : Math.max(deadline - performance.now(), 1);
    let error: SIEError;
    let again: Retry | undefined;
    try {
      const reply = await send(fetch, { ...call, timeoutMs: Math.min(call.timeoutMs, leftMs) });
      skew.check(reply.headers.get("x-sie-server-version"));
      if (reply.status >= 200 && reply.status < 300) return call.parse(reply);
      const askedMs = parseRetryAfter(reply.headers.get("retry-after"), Date.now());
      error = errorIn(reply, call.context, retries.memory ?? 0, askedMs);
      again = afterResponse(reply.status, error.code, askedMs, retries, call.retrying, Math.random());
    } catch (failure) {
      if (!(failure instanceof SIEConnectionError)) throw failure;
      error = failure;
      again = afterFailure(failure.kind, retries, call.retrying, Math.random());
    }
    await waitToRetry(call, error, again, retries, deadline);
  }
}

/** Waits before the next attempt; rejects with the error if the call must not be retried. */
export async function waitToRetry(
  call: Call<unknown>,
  error: SIEError,
  again: Retry | undefined,
  retries: Retries,
  deadline: number,
): Promise<void> {
  if (again === undefined || performance.now() + again.delayMs >= deadline) throw error;
  if (again.reason === "connection" && !retries.connection) announce(error, call.budgetMs);
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
