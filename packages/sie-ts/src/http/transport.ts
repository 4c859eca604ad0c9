/** Sends one attempt over `fetch`, and classifies its failures. */

import { type FailureKind, SIEConnectionError } from "../errors.js";
import type { Reply } from "../messages/reply.js";
import { readBody, UnreadableError } from "./response-body.js";

/** One HTTP request to send. */
export interface Attempt {
  readonly method: "GET" | "POST";
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array | undefined;
  readonly timeoutMs: number;
  readonly signal: AbortSignal | undefined;
}

/**
 * Sends an attempt and returns the complete response.
 *
 * @throws SIEConnectionError if none arrived; the signal's reason if it was aborted.
 */
export async function send(fetch: typeof globalThis.fetch, attempt: Attempt): Promise<Reply> {
  const { method, url, headers, body, timeoutMs, signal } = attempt;
  signal?.throwIfAborted();
  const abort = new AbortController();
  const forward = () => abort.abort(signal?.reason);
  signal?.addEventListener("abort", forward, { once: true });
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    abort.abort();
  }, timeoutMs);
  try {
    const response = await fetch(url, {
      method,
      headers,
      body: (body ?? null) as BodyInit | null,
      redirect: "manual",
      signal: abort.signal,
    });
    return { status: response.status, headers: response.headers, content: await readBody(response) };
  } catch (cause) {
    signal?.throwIfAborted();
    const kind = timedOut ? "timeout" : failureKind(cause);
    const reason = timedOut ? `no response within ${Number((timeoutMs / 1000).toPrecision(3))} s` : explained(cause);
    // A base URL may hold a password, and this message ends up in logs.
    throw new SIEConnectionError(`${method} ${url.replace(/\/\/[^/]*@/, "//")}: ${reason}`, kind, { cause });
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", forward);
  }
}

// The codes of Node and Bun for a server that is down or has closed the connection. A retry does not cure any other
// failure, such as a rejected certificate or a corrupt body.
const GONE =
  /^(E(CONN\w+|NOTFOUND|AI_AGAIN|PIPE|TIMEDOUT|HOSTUNREACH|NETUNREACH|NETDOWN)|UND_ERR_(SOCKET|CONNECT_TIMEOUT|RES_CONTENT_LENGTH_MISMATCH)|HPE_\w+|Connection(Refused|Closed|Reset)|FailedToOpenSocket)$/;
const LATE = /^UND_ERR_(HEADERS|BODY)_TIMEOUT$/;

function failureKind(error: unknown): FailureKind {
  if (error instanceof UnreadableError) return "other";
  const code = errorCode(error);
  // Browsers and Deno do not say why a request failed; most likely no server was reached.
  if (code === undefined) return error instanceof TypeError ? "connect" : "other";
  if (LATE.test(code)) return "timeout";
  return GONE.test(code) ? "connect" : "other";
}

function errorCode(error: unknown): string | undefined {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if ("code" in cause && typeof cause.code === "string") return cause.code;
  }
  return undefined;
}

/** Returns a message with the cause of the failure, which that of `fetch` lacks. */
function explained(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { cause, message } = error;
  const why = cause instanceof Error ? cause.message || errorCode(cause) : undefined;
  return why ? `${message} (${why})` : message;
}
