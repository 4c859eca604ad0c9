/** Where a client's requests go and what each of them carries; turns the arguments of a method into `Call`s. */

import type { Part } from "./chunks.js";
import type { Call } from "./exchange.js";
import { CONTENT_TYPE, Packed, packMap } from "./msgpack.js";
import type { Reply } from "./reply.js";
import { statusMessage } from "./results.js";
import type { StatusMessage } from "./status.js";
import type { CallOptions, ClientOptions, InferenceOptions, WatchMode, WatchOptions } from "./types.js";
import { CONTRACT_VERSION } from "./version.js";
import { checkMode } from "./watch.js";

const DEFAULT_TIMEOUT_MS = 150_000;
const DEFAULT_BUDGET_MS = 900_000;
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

  /** The options of a call on top of the client's; undefined where there are none. */
  options(given: Fields | undefined, own: Fields): Fields | undefined {
    const fields = [this.#options.options, given, own].flatMap((options) => Object.entries(options ?? {}));
    const present = fields.filter(([, value]) => value !== undefined);
    return present.length > 0 ? Object.fromEntries(present) : undefined;
  }

  /** The request for one part of the items; `fields` is the rest of its body. */
  inference<T>(
    task: "score" | "encode" | "extract",
    model: string,
    fields: Fields,
    asked: InferenceOptions,
    parse: (reply: Reply, part: Part) => T[],
  ): (part: Part, signal: AbortSignal) => Call<T[]> {
    this.#warnIgnored(asked);
    const lora = { ...this.#options.options, ...asked.options }["lora_id"];
    const shared = {
      method: "POST",
      url: `${this.baseUrl}/v1/${task}/${modelPath(model)}`,
      headers: { ...this.#headers, "content-type": CONTENT_TYPE, accept: CONTENT_TYPE },
      retrying: {
        waitForCapacity: this.#waits(asked),
        maxOomRetries: asked.maxOomRetries ?? DEFAULT_OOM_RETRIES,
        inference: true,
      },
      budgetMs: this.#budgetMs(asked),
      timeoutMs: checkedTimeout(asked.timeoutMs ?? this.#timeoutMs),
    } as const;
    return (part, signal) => ({
      ...shared,
      body: packMap({ items: new Packed(part.packed), ...fields }),
      parse: (reply) => parse(reply, part),
      subject: { model, lora: typeof lora === "string" ? lora : undefined, firstItem: part.start },
      signal,
    });
  }

  /** The request for the stream of statuses, which ends with `signal`. */
  watch(mode: WatchMode, asked: WatchOptions, signal: AbortSignal): Call<StatusMessage> {
    checkMode(mode);
    return {
      ...this.lookUp("/ws/status", undefined, statusMessage, asked),
      signal,
      retrying: { waitForCapacity: this.#waits(asked), maxOomRetries: 0, inference: false },
      budgetMs: this.#budgetMs(asked),
    };
  }

  /** The GET request for something that is not computed, answered in JSON. It does not wait for a server to come up. */
  lookUp<T>(path: string, model: string | undefined, parse: (reply: Reply) => T, asked: CallOptions): Call<T> {
    return {
      method: "GET",
      url: this.baseUrl + path,
      headers: { ...this.#headers, accept: "application/json" },
      body: undefined,
      parse,
      subject: { model },
      retrying: { waitForCapacity: false, maxOomRetries: 0, inference: false },
      budgetMs: DEFAULT_BUDGET_MS,
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

  #budgetMs(asked: WatchOptions): number {
    return checkedBudget(asked.provisionTimeout ?? this.#options.provisionTimeout ?? DEFAULT_BUDGET_MS);
  }
}

/** The model as a segment of a path. @throws TypeError for what is no model id. */
export function modelPath(model: string): string {
  // Dot segments would be resolved into some other route.
  if (!model || model.split("/").some((segment) => segment === "" || segment === "." || segment === "..")) {
    throw new TypeError(`not a model id: ${JSON.stringify(model)}`);
  }
  return encodeURIComponent(model);
}

function checkedBaseUrl(baseUrl: string | undefined): string {
  if (!baseUrl) throw new TypeError("no server to talk to: give a base URL or set SIE_BASE_URL");
  let url: URL;
  try {
    url = new URL(baseUrl);
  } catch (cause) {
    throw new TypeError(`not a URL: ${JSON.stringify(baseUrl)}`, { cause });
  }
  if (!/^https?:$/.test(url.protocol) || url.search || url.hash) {
    throw new TypeError(`not an http or https URL without query or fragment: ${JSON.stringify(baseUrl)}`);
  }
  if (url.username || url.password) {
    throw new TypeError("a base URL can't hold a password, as fetch refuses it: use apiKey or headers");
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
  // Timers hold 31 bits; what is longer would fire at once.
  if (!(ms > 0 && ms < 2 ** 31)) throw new RangeError(`a timeout must be from 0 to 2147483647 ms, got ${ms}`);
  return ms;
}

function checkedBudget(ms: number): number {
  if (!(Number.isFinite(ms) && ms >= 0)) throw new RangeError(`provisionTimeout can't be ${ms} ms`);
  return ms;
}

/** A variable of the environment, where there is one and it may be read. */
function environment(name: string): string | undefined {
  const { process } = globalThis as { process?: { env?: Record<string, string | undefined> } };
  try {
    return process?.env?.[name];
  } catch {
    return undefined; // Deno without --allow-env
  }
}
