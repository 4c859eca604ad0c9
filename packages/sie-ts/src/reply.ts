/** An HTTP response as the SDK sees it: status, headers, bytes, and the server's error in them. */

import { errorClass, type SIEError } from "./errors.js";
import { isMap } from "./msgpack.js";
import type { RequestInfo } from "./types.js";

/** A complete response. */
export interface Reply {
  readonly status: number;
  readonly headers: Headers;
  readonly content: Uint8Array;
}

/** What a request was about, for the errors that name it; `firstItem` is where its items begin in the caller's. */
export interface Subject {
  readonly model?: string | undefined;
  readonly lora?: string | undefined;
  readonly firstItem?: number;
}

const UNITS = "x-sie-units-";
const EXTRACT_CHARS = 200;

/** What the headers say about the request; undefined where they say nothing. */
export function requestInfo(headers: Headers): RequestInfo | undefined {
  const info: RequestInfo = {};
  const id = headers.get("x-sie-request-id");
  const modelRevision = headers.get("x-sie-model-revision");
  const credits = headers.get("x-sie-credits-debited");
  if (id) info.id = id;
  if (modelRevision) info.modelRevision = modelRevision;
  if (credits && Number.isFinite(Number(credits))) info.creditsDebited = Number(credits);
  headers.forEach((value, name) => {
    if (name.startsWith(UNITS) && Number.isFinite(Number(value))) {
      info.units = { ...info.units, [name.slice(UNITS.length)]: Number(value) };
    }
  });
  return Object.keys(info).length > 0 ? info : undefined;
}

/** The error that a response is, in the words of the server where it has any. */
export function errorIn(reply: Reply, subject: Subject, retries: number, retryAfter: number | undefined): SIEError {
  const { code, message, fields } = serverMessage(reply);
  return new (errorClass(reply.status, code))(inTheInput(message, subject), {
    code,
    statusCode: reply.status || undefined,
    request: requestInfo(reply.headers),
    retryAfter,
    param: typeof fields["param"] === "string" ? inTheInput(fields["param"], subject) : undefined,
    model: subject.model,
    lora: subject.lora,
    retries,
    fields,
  });
}

interface ServerMessage {
  readonly code: string | undefined;
  readonly message: string;
  readonly fields: Record<string, unknown>;
}

/** Reads `{"detail": {...}}`, `{"error": {...}}`, both as plain strings too, and pages of proxies. */
function serverMessage(reply: Reply): ServerMessage {
  const text = new TextDecoder().decode(reply.content);
  const body = parsedJson(text);
  const faults = isMap(body) ? [body["detail"], body["error"]].filter((fault) => fault !== undefined) : [];
  // A server that is shutting down sends a text under both, and a code beside them; an object says more than a text.
  const fault = faults.find(isMap) ?? faults[0];
  const inner = isMap(fault) && isMap(fault["error"]) ? fault["error"] : fault;
  const fields = isMap(inner) ? inner : {};
  const message = typeof inner === "string" ? inner : fields["message"];
  return {
    code: reply.headers.get("x-sie-error-code") || codeIn(fields) || (isMap(body) ? codeIn(body) : undefined),
    message: typeof message === "string" && message ? message : fallbackMessage(reply, text),
    fields,
  };
}

function codeIn(fields: Record<string, unknown>): string | undefined {
  return typeof fields["code"] === "string" && fields["code"] ? fields["code"] : undefined;
}

/** The body as JSON; undefined where it is none. */
export function parsedJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** How a body begins, on one line. */
export function extractOf(text: string): string {
  return text.replace(/\s+/g, " ").trim().slice(0, EXTRACT_CHARS);
}

function fallbackMessage(reply: Reply, text: string): string {
  const { status, headers } = reply;
  // In a browser, a redirect that is not followed has no status and no headers.
  if (status < 400) {
    const target = headers.get("location") ?? "another address";
    return `HTTP ${status || 302}: redirected to ${target}; redirects are not followed, so check the base URL`;
  }
  const extract = extractOf(text);
  return extract ? `HTTP ${status}: ${extract}` : `HTTP ${status} with an empty body`;
}

/** A text of the server, its `items[0]` as the caller counts them. */
function inTheInput(text: string, subject: Subject): string {
  return text.replace(
    /\bitems\[(\d{1,9})\]/g,
    (_, index: string) => `items[${Number(index) + (subject.firstItem ?? 0)}]`,
  );
}
