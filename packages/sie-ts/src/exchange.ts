/** One call's life: it is sent until it has an answer, its error is final, or its time is spent. */

import { SIEConnectionError, type SIEError } from "./errors.js";
import { errorIn, type Reply, type Subject } from "./reply.js";
import { afterFailure, afterResponse, parseRetryAfter, type Retries, type Retry, type RetryOptions } from "./retry.js";
import type { VersionSkew } from "./skew.js";
import { type Attempt, send } from "./transport.js";

/** A request, and how long, how often and in what sense it may be repeated. A budget of 0 means a single attempt. */
export interface Call<T> extends Attempt {
  readonly parse: (reply: Reply) => T;
  readonly subject: Subject;
  readonly retrying: RetryOptions;
  readonly budgetMs: number;
}

/** What a client's calls share. */
export interface Transport {
  readonly fetch: typeof fetch;
  readonly skew: VersionSkew;
}

/** The result of a call, or what `SIEError` says about it. */
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
      error = errorIn(reply, call.subject, retries.memory ?? 0, askedMs);
      again = afterResponse(reply.status, error.code, askedMs, retries, call.retrying, Math.random());
    } catch (failure) {
      if (!(failure instanceof SIEConnectionError)) throw failure;
      error = failure;
      again = afterFailure(failure.kind, retries, call.retrying, Math.random());
    }
    await beforeAnother(call, error, again, retries, deadline);
  }
}

/** Waits until the call may be made again; rejects with its error if it may not. */
export async function beforeAnother(
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

// Someone at a terminal should learn at once why nothing happens; whoever reads a log, only once per call.
function announce(error: SIEError, budgetMs: number): void {
  console.warn(`sie: ${error.message}; asking again for up to ${budgetMs / 1000} s`);
}

// Timers hold 31 bits; what is longer would go off at once.
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
