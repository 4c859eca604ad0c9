/** HTTP responses, and the errors that they carry. */

import { errorClass, type SIEError } from "../errors.js";
import type { RequestInfo, TimingInfo } from "../types.js";
import { isMap } from "./msgpack.js";

/** A complete response. */
export interface Reply {
  readonly status: number;
  readonly headers: Headers;
  readonly content: Uint8Array;
}

/**
 * Details of a request that its errors mention. `baseUrl` and `route` make up its URL, and `firstItem` is the index of
 * its first item in the caller's input.
 */
export interface ErrorContext {
  readonly baseUrl: string;
  readonly route: string;
  readonly model?: string | undefined;
  readonly lora?: string | undefined;
  readonly firstItem?: number;
}

const UNITS = "x-sie-units-";
const EXCERPT_CHARS = 200;
const VERSION = /\/v1(\/.*)?$/s;

/** Returns the details of the request that the headers give; undefined if there are none. */
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

const TIMES = {
  totalMs: "x-total-time",
  queueMs: "x-queue-time",
  tokenizationMs: "x-tokenization-time",
  inferenceMs: "x-inference-time",
  postprocessingMs: "x-postprocessing-time",
} as const;

/** Returns the durations that the headers give; undefined if there are none. */
export function timingInfo(headers: Headers): TimingInfo | undefined {
  const timing: TimingInfo = {};
  for (const [name, header] of Object.entries(TIMES) as [keyof typeof TIMES, string][]) {
    const ms = Number.parseFloat(headers.get(header) ?? "");
    if (Number.isFinite(ms)) timing[name] = ms;
  }
  return Object.keys(timing).length > 0 ? timing : undefined;
}

/** Returns the error for a response, with the server's message if it has one. */
export function errorIn(
  reply: Reply,
  context: ErrorContext,
  retries: number,
  retryAfter: number | undefined,
): SIEError {
  const { code, message, fields } = serverMessage(reply);
  // 404 has other codes for what a route did not find.
  const lacksRoute = reply.status === 404 && (code === undefined || code === "NOT_FOUND");
  const text = withInputIndex(message, context);
  return new (errorClass(reply.status, code))(lacksRoute ? withoutRoute(text, context) : text, {
    code,
    statusCode: reply.status || undefined,
    request: requestInfo(reply.headers),
    retryAfter,
    param: typeof fields["param"] === "string" ? withInputIndex(fields["param"], context) : undefined,
    model: context.model,
    lora: context.lora,
    retries,
    fields,
  });
}

/** Returns the message of an error 404 with the nearest URL at which a server may have the route. */
function withoutRoute(message: string, { baseUrl, route }: ErrorContext): string {
  const origin = baseUrl.split("/", 3).join("/");
  const path = baseUrl.slice(origin.length);
  if (path === "") return `${message} (${baseUrl}${route}); check that ${baseUrl} is the address of an SIE server`;
  const nearest = VERSION.test(path) ? origin + path.replace(VERSION, "") : origin;
  return `${message} (${baseUrl}${route}); the nearest route is ${nearest}${route}: try the base URL ${nearest}`;
}

interface ServerMessage {
  readonly code: string | undefined;
  readonly message: string;
  readonly fields: Record<string, unknown>;
}

/** Reads `{"detail": {...}}` and `{"error": {...}}`, both also with plain strings, and pages of proxies. */
function serverMessage(reply: Reply): ServerMessage {
  const text = new TextDecoder().decode(reply.content);
  const body = parsedJson(text);
  const faults = isMap(body) ? [body["detail"], body["error"]].filter((fault) => fault !== undefined) : [];
  // A server that is shutting down sends a string under both, and a code beside them. An object says more.
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

/** Parses JSON; returns undefined for anything else. */
export function parsedJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Returns the beginning of a body, on one line. */
export function excerptOf(text: string): string {
  return text.replace(/\s+/g, " ").trim().slice(0, EXCERPT_CHARS);
}

function fallbackMessage(reply: Reply, text: string): string {
  const { status, headers } = reply;
  // In a browser, a redirect that is not followed has neither status nor headers.
  if (status < 400) {
    const target = headers.get("location") ?? "another address";
    return `HTTP ${status || 302}: redirected to ${target}; redirects are not followed, so check the base URL`;
  }
  const extract = excerptOf(text);
  return extract ? `HTTP ${status}: ${extract}` : `HTTP ${status} with an empty body`;
}

/** Returns a text of the server with the indices in `items[0]` counted as in the caller's input. */
function withInputIndex(text: string, context: ErrorContext): string {
  return text.replace(
    /\bitems\[(\d{1,9})\]/g,
    (_, index: string) => `items[${Number(index) + (context.firstItem ?? 0)}]`,
  );
}
