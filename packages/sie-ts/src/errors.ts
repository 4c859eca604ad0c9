/**
 * Errors of the SDK. Apart from these, it throws `TypeError` or `RangeError` for invalid arguments, and the reason of
 * an aborted `AbortSignal`.
 *
 * - SIEError
 *   - SIEConnectionError: no complete response (refused, cut off, timed out)
 *   - RequestError: 4xx, or a response that can't be parsed
 *     - InputTooLongError, RateLimitError, InsufficientCreditsError, SpendLimitError, AccountInactiveError,
 *       RelayUnavailableError
 *   - ServerError: 5xx
 *     - ModelLoadFailedError, ResourceExhaustedError, IncompleteBatchError, AccountStateUnavailableError
 *   - ProvisioningError, ModelLoadingError, LoraLoadingError: not ready within the time limit
 *   - PoolError: not thrown; kept for programs that catch it
 */

import type { RequestInfo } from "./types.js";

/** The reason why no complete response arrived; only `connect` may be cured by a retry. */
export type FailureKind = "connect" | "timeout" | "other";

/** Details of a failure; every error class takes those that it has fields for. */
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

/** Base class of all errors of this package. `message` is the server's, if it sent one. */
export class SIEError extends Error {
  override readonly name: string = "SIEError";
  /** The server's error code, e.g. `"MODEL_NOT_FOUND"`. */
  readonly code: string | undefined;
  /** The HTTP status. */
  readonly statusCode: number | undefined;
  /** Details of the request from the response headers. */
  readonly request: RequestInfo | undefined;
  /** The server's Retry-After, in milliseconds. */
  readonly retryAfter: number | undefined;

  constructor(message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = details.code;
    this.statusCode = details.statusCode;
    this.request = details.request;
    this.retryAfter = details.retryAfter;
  }

  /** Id of the request, for bug reports, if the server sent one. */
  get requestId(): string | undefined {
    return this.request?.id;
  }
}

/**
 * No complete response arrived; `cause` is the error of the transport.
 *
 * `kind` is `"connect"` (refused, unknown host, or cut off before the response was complete), `"timeout"` (no response
 * in time; never retried, because the server may still be working) or `"other"`.
 */
export class SIEConnectionError extends SIEError {
  override readonly name: string = "SIEConnectionError";
  readonly kind: FailureKind;

  constructor(message: string, kind: FailureKind = "other", details: ErrorDetails = {}) {
    super(message, details);
    this.kind = kind;
  }
}

/** The server rejected the request (4xx), or its response can't be parsed. */
export class RequestError extends SIEError {
  override readonly name: string = "RequestError";
  /** The invalid field, if the server named one. */
  readonly param: string | undefined;

  constructor(message: string, details: ErrorDetails = {}) {
    super(message, details);
    this.param = details.param;
  }
}

/** The body, or a text in it, exceeds a limit of the server or the model. */
export class InputTooLongError extends RequestError {
  override readonly name: string = "InputTooLongError";
}

/** The server still had too many requests after all retries. */
export class RateLimitError extends RequestError {
  override readonly name: string = "RateLimitError";
}

/** The account has no credits left. */
export class InsufficientCreditsError extends RequestError {
  override readonly name: string = "InsufficientCreditsError";
}

/** The account has reached its spending limit. */
export class SpendLimitError extends RequestError {
  override readonly name: string = "SpendLimitError";
}

/** The account is suspended. */
export class AccountInactiveError extends RequestError {
  override readonly name: string = "AccountInactiveError";
}

/** The deployment that the request would be relayed to is unavailable. */
export class RelayUnavailableError extends RequestError {
  override readonly name: string = "RelayUnavailableError";
}

/** The server failed (5xx). */
export class ServerError extends SIEError {
  override readonly name: string = "ServerError";
}

/** The model can't be loaded. A `permanent` failure lasts until the server is changed. */
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

/** The server was still out of memory after `retries` retries. */
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

/** The response has `received` results for `expected` items; `missingIds` are the ids of the items without a result. */
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

/** The state of the account is unknown at the moment. */
export class AccountStateUnavailableError extends ServerError {
  override readonly name: string = "AccountStateUnavailableError";
}

/** No machine was ready within the time limit; `gpu` is undefined, as requests don't ask for one. */
export class ProvisioningError extends SIEError {
  override readonly name: string = "ProvisioningError";
  readonly gpu: string | undefined;

  constructor(message: string, details: ErrorDetails = {}) {
    super(message, details);
    this.gpu = details.gpu;
  }
}

/** The model was still loading at the end of the time limit. */
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

/** Returns the class for an HTTP status and a server's error code. */
export function errorClass(status: number, code: string | undefined): ErrorClass {
  if (status >= 500) return SERVER_ERRORS.get(code) ?? ServerError;
  if (status === 429) return RateLimitError;
  return REQUEST_ERRORS.get(code) ?? RequestError;
}
