/** The address and the settings of a client; turns the arguments of its methods into calls. */

import type { Call } from "../http/exchange.js";
import type { Chunk } from "../messages/chunks.js";
import { CONTENT_TYPE, Packed, packMap } from "../messages/msgpack.js";
import type { Reply } from "../messages/reply.js";
import { statusMessage } from "../messages/results.js";
import type { StatusMessage } from "../messages/status.js";
import type { CallOptions, ClientOptions, InferenceOptions, WatchMode, WatchOptions } from "../types.js";
import { CONTRACT_VERSION } from "../version.js";
import { checkMode } from "./watch.js";

const DEFAULT_TIMEOUT_MS = 150_000;
const DEFAULT_BUDGET_MS = 900_000;
// Long enough for a process that starts beside its server; short enough for a user with a wrong address.
const DEFAULT_UNREACHED_MS = 5000;
const DEFAULT_OOM_RETRIES = 3;
const IGNORED_OPTIONS = ["gpu", "controlPlaneUrl", "org"];

type Fields = Readonly<Record<string, unknown>>;

/** A server's address with the credentials, options and timeouts that all calls of a client share. */
export class Endpoint {
  readonly baseUrl: string;
  readonly #options: ClientOptions;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #timeoutMs: number;
  #warned = false;

  constructor(baseUrl: string | undefined, options: ClientOptions) {
    this.baseUrl = checkedBaseUrl(baseUrl ?? environment("SIE_BASE_URL"));
    this.#options = options;
    this.#warnIgnored(options);
    this.#timeoutMs = checkedTimeout(options.timeoutMs ?? options.timeout ?? DEFAULT_TIMEOUT_MS);
    const key = (options.apiKey ?? environment("SIE_API_KEY") ?? "").trim();
    this.#headers = checkedHeaders({
      ...options.headers,
      "x-sie-sdk-version": CONTRACT_VERSION,
      ...(key && { authorization: `Bearer ${key}` }),
    });
  }

  /** Returns the options of a call on top of the client's; undefined if there are none. */
  options(given: Fields | undefined, own: Fields): Fields | undefined {
    const fields = [this.#options.options, given, own].flatMap((options) => Object.entries(options ?? {}));
    const present = fields.filter(([, value]) => value !== undefined);
    return present.length > 0 ? Object.fromEntries(present) : undefined;
  }

  /** Returns the function that makes the request for one chunk of items; `fields` is the rest of its body. */
  inference<T>(
    task: "score" | "encode" | "extract",
    model: string,
    fields: Fields,
    asked: InferenceOptions,
    parse: (reply: Reply, chunk: Chunk) => T[],
  ): (chunk: Chunk, signal: AbortSignal) => Call<T[]> {
    this.#warnIgnored(asked);
    const lora = { ...this.#options.options, ...asked.options }["lora_id"];
    const path = modelPath(model);
    const route = `/v1/${task}/${path}`;
    const shared = {
      method: "POST",
      url: this.baseUrl + route,
      headers: {
        ...this.#headers,
        "content-type": CONTENT_TYPE,
        accept: CONTENT_TYPE,
        // The model again, for balancers that route by a header: as the Python SDK writes it.
        "x-sie-model": path.replace(/%(2F|3A|40)/g, decodeURIComponent),
      },
      retrying: {
        waitForCapacity: this.#waits(asked),
        maxOomRetries: asked.maxOomRetries ?? DEFAULT_OOM_RETRIES,
        inference: true,
      },
      ...this.#budgets(asked),
      timeoutMs: checkedTimeout(asked.timeoutMs ?? this.#timeoutMs),
    } as const;
    return (chunk, signal) => ({
      ...shared,
      body: packMap({ items: new Packed(chunk.packed), ...fields }),
      parse: (reply) => parse(reply, chunk),
      context: {
        baseUrl: this.baseUrl,
        route,
        model,
        lora: typeof lora === "string" ? lora : undefined,
        firstItem: chunk.start,
      },
      signal,
    });
  }

  /** Returns the request for the status stream, which ends with `signal`. */
  watch(mode: WatchMode, asked: WatchOptions, signal: AbortSignal): Call<StatusMessage> {
    checkMode(mode);
    return {
      ...this.lookUp("/ws/status", undefined, statusMessage, asked),
      signal,
      retrying: { waitForCapacity: this.#waits(asked), maxOomRetries: 0, inference: false },
      ...this.#budgets(asked),
    };
  }

  /** Returns a GET request for something that needs no model, answered in JSON. It does not wait for a server. */
  lookUp<T>(path: string, model: string | undefined, parse: (reply: Reply) => T, asked: CallOptions): Call<T> {
    return {
      method: "GET",
      url: this.baseUrl + path,
      headers: { ...this.#headers, accept: "application/json" },
      body: undefined,
      parse,
      context: { baseUrl: this.baseUrl, route: path, model },
      retrying: { waitForCapacity: false, maxOomRetries: 0, inference: false },
      ...this.#budgets({}),
      timeoutMs: checkedTimeout(asked.timeoutMs ?? this.#timeoutMs),
      signal: asked.signal,
    };
  }

  /** Warns, once per client, of options that programs for the public SDK may give. */
  #warnIgnored(options: ClientOptions | InferenceOptions): void {
    const names = IGNORED_OPTIONS.filter((name) => (options as Fields)[name] !== undefined);
    if (this.#warned || names.length === 0) return;
    this.#warned = true;
    const verb = names.length === 1 ? "has" : "have";
    console.warn(`sie: ${names.join(", ")} ${verb} no effect: this SDK talks to one server, not to a gateway`);
  }

  #waits(asked: WatchOptions): boolean {
    return asked.waitForCapacity ?? this.#options.waitForCapacity ?? true;
  }

  /** Returns the time for a call, and for reaching a server that has never responded. */
  #budgets(asked: WatchOptions): { budgetMs: number; unreachedMs: number } {
    const given = asked.provisionTimeout ?? this.#options.provisionTimeout;
    if (given === undefined) return { budgetMs: DEFAULT_BUDGET_MS, unreachedMs: DEFAULT_UNREACHED_MS };
    return { budgetMs: checkedBudget(given), unreachedMs: given };
  }
}

/** Returns the model id as a path segment. @throws TypeError for an invalid one. */
export function modelPath(model: string): string {
  // Dot segments would be resolved to another route.
  if (!model || model.split("/").some((segment) => segment === "" || segment === "." || segment === "..")) {
    throw new TypeError(`invalid model id: ${JSON.stringify(model)}`);
  }
  return encodeURIComponent(model);
}

function checkedBaseUrl(baseUrl: string | undefined): string {
  if (!baseUrl) throw new TypeError("no server given: pass a base URL or set SIE_BASE_URL");
  let url: URL;
  try {
    url = new URL(baseUrl);
  } catch (cause) {
    throw new TypeError(`the base URL ${JSON.stringify(baseUrl)} is not a URL`, { cause });
  }
  if (!/^https?:$/.test(url.protocol) || url.search || url.hash) {
    throw new TypeError(
      `the base URL must be an http or https URL without query or fragment, got ${JSON.stringify(baseUrl)}`,
    );
  }
  if (url.username || url.password) {
    throw new TypeError("the base URL must not contain a password, which fetch refuses: use apiKey or headers");
  }
  return baseUrl.replace(/\/+$/, "");
}

function checkedHeaders(headers: Readonly<Record<string, string>>): Record<string, string> {
  const entries = Object.entries(headers).map(([name, value]) => {
    // The value stays out of the message: it may be a secret.
    if (!/^[\x20-\x7e]*$/.test(value)) throw new TypeError(`the ${name.toLowerCase()} header must be printable ASCII`);
    return [name.toLowerCase(), value];
  });
  return Object.fromEntries(entries);
}

function checkedTimeout(ms: number): number {
  // Timers have 31 bits; a longer one would fire at once.
  if (!(ms > 0 && ms < 2 ** 31))
    throw new RangeError(`a timeout must be a positive number of milliseconds below 2147483648, got ${ms}`);
  return ms;
}

function checkedBudget(ms: number): number {
  if (!(Number.isFinite(ms) && ms >= 0))
    throw new RangeError(`provisionTimeout must be 0 or a positive number of milliseconds, got ${ms}`);
  return ms;
}

/** Returns an environment variable; undefined if there is none, or it can't be read. */
function environment(name: string): string | undefined {
  const { process } = globalThis as { process?: { env?: Record<string, string | undefined> } };
  try {
    return process?.env?.[name];
  } catch {
    return undefined; // Deno without --allow-env
  }
}
