/**
 * Everything the SDK throws, apart from a `TypeError` or `RangeError` for arguments that can't be right and the reason of
 * an `AbortSignal`, which is thrown as it is.
 *
 * - SIEError
 *   - SIEConnectionError: no complete answer (refused, cut off, timed out)
 *   - RequestError: 4xx, or an answer that can't be read
 *     - InputTooLongError, RateLimitError, InsufficientCreditsError, SpendLimitError, AccountInactiveError,
 *       RelayUnavailableError
 *   - ServerError: 5xx
 *     - ModelLoadFailedError, ResourceExhaustedError, IncompleteBatchError, AccountStateUnavailableError
 *   - ProvisioningError, ModelLoadingError, LoraLoadingError: not ready when the time to wait was over
 *   - PoolError: not thrown; kept for programs that catch it
 */

import type { RequestInfo } from "./types.js";

/** Why no complete answer arrived; only `connect` may be cured by asking again. */
export type FailureKind = "connect" | "timeout" | "other";

/** What is known about a failure; every error takes what it has fields for. */
export interface ErrorDetails {
  readonly code?: string | undefined;
  readonly statusCode?: number | undefined;
  readonly request?: RequestInfo | undefined;
  readonly retryAfter?: number | undefined;
  readonly param?: string | undefined;
  readonly model?: string | undefined;
  readonly gpu?: string | undefined;
  readonly lora?: string | undefined;
  readonly retries?: number | undefined;
  readonly fields?: Readonly<Record<string, unknown>> | undefined;
  readonly cause?: unknown;
}

/** Base of all errors of this package. `message` is the server's, where it sent one. */
export class SIEError extends Error {
  override readonly name: string = "SIEError";
  /** The server's error code, e.g. `"MODEL_NOT_FOUND"`. */
  readonly code: string | undefined;
  /** The HTTP status. */
  readonly statusCode: number | undefined;
  /** What the response headers said about the request. */
  readonly request: RequestInfo | undefined;
  /** Milliseconds after which the server asked for another try. */
  readonly retryAfter: number | undefined;

  constructor(message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = details.code;
    this.statusCode = details.statusCode;
    this.request = details.request;
    this.retryAfter = details.retryAfter;
  }

  /** The id to name in a bug report, if the server gave one. */
  get requestId(): string | undefined {
    return this.request?.id;
  }
}

/**
 * No complete answer arrived; `cause` is the transport's own error.
 *
 * `kind` is `"connect"` (refused, unknown host, or cut off before the answer was complete), `"timeout"` (no answer in
 * time; never sent again, for the server may still be at work) or `"other"`.
 */
export class SIEConnectionError extends SIEError {
  override readonly name: string = "SIEConnectionError";
  readonly kind: FailureKind;

  constructor(message: string, kind: FailureKind = "other", details: ErrorDetails = {}) {
    super(message, details);
    this.kind = kind;
  }
}

/** The server refused the request (4xx), or its answer can't be read. */
export class RequestError extends SIEError {
  override readonly name: string = "RequestError";
  /** The field at fault, if the server named one. */
  readonly param: string | undefined;

  constructor(message: string, details: ErrorDetails = {}) {
    super(message, details);
    this.param = details.param;
  }
}

/** The body, or a text in it, is longer than the server or the model takes. */
export class InputTooLongError extends RequestError {
  override readonly name: string = "InputTooLongError";
}

/** Too many requests, still so after the retries. */
export class RateLimitError extends RequestError {
  override readonly name: string = "RateLimitError";
}

/** The account has no credits left. */
export class InsufficientCreditsError extends RequestError {
  override readonly name: string = "InsufficientCreditsError";
}

/** The account has reached the limit it set itself. */
export class SpendLimitError extends RequestError {
  override readonly name: string = "SpendLimitError";
}

/** The account is suspended. */
export class AccountInactiveError extends RequestError {
  override readonly name: string = "AccountInactiveError";
}

/** The request would have to be relayed to a place that can't be reached. */
export class RelayUnavailableError extends RequestError {
  override readonly name: string = "RelayUnavailableError";
}

/** The server failed (5xx). */
export class ServerError extends SIEError {
  override readonly name: string = "ServerError";
}

/** The model can't be loaded. `permanent` failures stay until someone changes the server. */
export class ModelLoadFailedError extends ServerError {
  override readonly name: string = "ModelLoadFailedError";
  readonly model: string | undefined;
  readonly errorClass: string | undefined;
  readonly permanent: boolean | undefined;
  readonly attempts: number | undefined;

  constructor(message: string, details: ErrorDetails = {}) {
    super(message, details);
    const { error_class, permanent, attempts } = details.fields ?? {};
    this.model = details.model;
    this.errorClass = typeof error_class === "string" ? error_class : undefined;
    this.permanent = typeof permanent === "boolean" ? permanent : undefined;
    this.attempts = typeof attempts === "number" ? attempts : undefined;
  }
}

/** The server was out of memory each time; `retries` is how often it was asked again. */
export class ResourceExhaustedError extends ServerError {
  override readonly name: string = "ResourceExhaustedError";
  readonly model: string | undefined;
  readonly retries: number;

  constructor(message: string, details: ErrorDetails = {}) {
    super(message, details);
    this.model = details.model;
    this.retries = details.retries ?? 0;
  }
}

/** The answer has `received` results for `expected` items; `missingIds` are the ids of items that no result carries. */
export class IncompleteBatchError extends ServerError {
  override readonly name: string = "IncompleteBatchError";
  readonly expected: number;
  readonly received: number;
  readonly missingIds: readonly string[];

  constructor(
    message: string,
    counts: { expected: number; received: number; missingIds: readonly string[] },
    details: ErrorDetails = {},
  ) {
    super(message, details);
    this.expected = counts.expected;
    this.received = counts.received;
    this.missingIds = counts.missingIds;
  }
}

/** The state of the account is not known just now. */
export class AccountStateUnavailableError extends ServerError {
  override readonly name: string = "AccountStateUnavailableError";
}

/** No machine was ready when the time to wait was over; `gpu` is undefined, as requests ask for no machine. */
export class ProvisioningError extends SIEError {
  override readonly name: string = "ProvisioningError";
  readonly gpu: string | undefined;

  constructor(message: string, details: ErrorDetails = {}) {
    super(message, details);
    this.gpu = details.gpu;
  }
}

/** The model was still loading when the time to wait was over. */
export class ModelLoadingError extends SIEError {
  override readonly name: string = "ModelLoadingError";
  readonly model: string | undefined;

  constructor(message: string, details: ErrorDetails = {}) {
    super(message, details);
    this.model = details.model;
  }
}

/** The adapter `lora` of `model` was still loading after the last retry. */
export class LoraLoadingError extends SIEError {
  override readonly name: string = "LoraLoadingError";
  readonly lora: string | undefined;
  readonly model: string | undefined;

  constructor(message: string, details: ErrorDetails = {}) {
    super(message, details);
    this.lora = details.lora;
    this.model = details.model;
  }
}

/** Not thrown; kept for programs written for the public SDK, whose gateways have pools of machines. */
export class PoolError extends SIEError {
  override readonly name: string = "PoolError";

  constructor(
    message: string,
    readonly poolName?: string,
    readonly state?: string,
    details: ErrorDetails = {},
  ) {
    super(message, details);
  }
}

type ErrorClass = new (message: string, details: ErrorDetails) => SIEError;

const REQUEST_ERRORS: ReadonlyMap<string | undefined, ErrorClass> = new Map<string, ErrorClass>([
  ["INPUT_TOO_LONG", InputTooLongError],
  ["RATE_LIMIT", RateLimitError],
  ["INSUFFICIENT_CREDITS", InsufficientCreditsError],
  ["SPEND_LIMIT_EXCEEDED", SpendLimitError],
  ["ACCOUNT_SUSPENDED", AccountInactiveError],
  ["RELAY_UNAVAILABLE", RelayUnavailableError],
]);
const SERVER_ERRORS: ReadonlyMap<string | undefined, ErrorClass> = new Map<string, ErrorClass>([
  ["MODEL_LOAD_FAILED", ModelLoadFailedError],
  ["RESOURCE_EXHAUSTED", ResourceExhaustedError],
  ["ACCOUNT_STATE_UNAVAILABLE", AccountStateUnavailableError],
  ["PROVISIONING", ProvisioningError],
  ["MODEL_LOADING", ModelLoadingError],
  ["LORA_LOADING", LoraLoadingError],
]);

/** The class that says what (HTTP status, server code) means. */
export function errorClass(status: number, code: string | undefined): ErrorClass {
  if (status >= 500) return SERVER_ERRORS.get(code) ?? ServerError;
  if (status === 429) return RateLimitError;
  return REQUEST_ERRORS.get(code) ?? RequestError;
}
