/// <reference lib="esnext.disposable" preserve="true" />

import { Endpoint, modelPath } from "./calls/endpoint.js";
import { pipeline } from "./calls/pipeline.js";
import { watchStatuses, webSocketClass } from "./calls/watch.js";
import { type Call, exchange, type Transport } from "./http/exchange.js";
import { ServerHistory } from "./http/server-history.js";
import { asItem, checkTextOnly } from "./messages/chunks.js";
import { encodeResults, extractResults, mergedScores, modelInfo, modelInfos, scoreResult } from "./messages/results.js";
import type { StatusMessage } from "./messages/status.js";
import type {
  CallOptions,
  ClientOptions,
  EncodeOptions,
  EncodeResult,
  ExtractOptions,
  ExtractResult,
  Item,
  ModelInfo,
  ScoreOptions,
  ScoreResult,
  WatchMode,
  WatchOptions,
} from "./types.js";
import type { WebSocketClass } from "./websocket.js";

/**
 * A client of an SIE server. It holds no connections of its own and can be shared. `using` and `await using` close it.
 *
 * ```ts
 * const client = new SIEClient("http://localhost:8080");
 * const { scores } = await client.score("BAAI/bge-reranker-v2-m3", "What is Python?", ["A language."]);
 * ```
 *
 * Every method rejects with the errors of this package. While a server is not ready (a model is loading, its queue is
 * full, the connection is refused), a call waits and retries, for up to `provisionTimeout` in total: 15 minutes by
 * default, but only 5 s for a server that has never responded to this client. With `waitForCapacity: false` it does not
 * wait for a server that is down. `listModels` and `getModel` never do.
 *
 * An option that the server does not know has no effect; a warning on the console names it, once per client.
 *
 * More items than fit one request are split into several, four in flight at a time: up to 256 items and 1 MiB each to
 * embed, 1,000 items and 16 MiB to rank. Each request waits and retries by itself. An error names an item by its index
 * in the whole input.
 */
export class SIEClient {
  readonly #endpoint: Endpoint;
  readonly #transport: Transport;
  readonly #webSocket: WebSocketClass | undefined;
  readonly #closed = new AbortController();

  /**
   * @param baseUrl - Address of the server, e.g. `"http://localhost:8080"`; by default the environment variable
   *   `SIE_BASE_URL`. Redirects are not followed.
   * @throws TypeError or RangeError if there is no base URL, or an argument is invalid.
   */
  constructor(baseUrl?: string, options: ClientOptions = {}) {
    this.#endpoint = new Endpoint(baseUrl, options);
    // Looked up at each call, and called as a function: browsers refuse fetch as a method of another object.
    const send: typeof fetch = (input, init) => (options.fetch ?? globalThis.fetch)(input, init);
    this.#webSocket = options.webSocket;
    this.#transport = { fetch: send, history: new ServerHistory() };
  }

  /**
   * Ranks documents by their relevance to a query.
   *
   * @param model - Id of a reranker or a late-interaction model, e.g. `"BAAI/bge-reranker-v2-m3"`.
   * @param query - An item or a text.
   * @param items - The documents, items or texts.
   * @returns The documents in descending order of score; documents with equal scores stay in their order.
   */
  async score(
    model: string,
    query: Item | string,
    items: readonly (Item | string)[],
    options: ScoreOptions = {},
  ): Promise<ScoreResult> {
    const asked = this.#endpoint.options(options.options, { top_k: options.topK });
    checkTextOnly(query, "query");
    const fields = { query: asItem(query), instruction: options.instruction, options: asked };
    const call = this.#endpoint.inference("score", model, fields, options, (reply) => [scoreResult(reply)]);
    const { signal } = options;
    const stream = { items: listed(items), call, hasIds: true, sendsEmpty: true, signal, onProgress: undefined };
    return mergedScores(await all(pipeline(stream, this.#transport)), asked?.["top_k"]);
  }

  /**
   * Computes the embeddings of items or texts: a list of results for a list of any length, one result for one of them.
   *
   * @param model - Id of an encoder, e.g. `"sentence-transformers/all-MiniLM-L6-v2"`.
   */
  encode(model: string, items: readonly (Item | string)[], options?: EncodeOptions): Promise<EncodeResult[]>;
  /** Computes the embeddings of one item or text. */
  encode(model: string, items: Item | string, options?: EncodeOptions): Promise<EncodeResult>;
  async encode(
    model: string,
    items: Item | string | readonly (Item | string)[],
    options: EncodeOptions = {},
  ): Promise<EncodeResult | EncodeResult[]> {
    return likeInput(items, await all(this.#encoded(model, batch(items), true, options)));
  }

  /**
   * Yields the embeddings of items, sync or async, in their order. It reads at most four requests ahead, so it can
   * process a whole collection.
   */
  encodeStream(
    model: string,
    items: Iterable<Item | string> | AsyncIterable<Item | string>,
    options: EncodeOptions = {},
  ): AsyncGenerator<EncodeResult, void, undefined> {
    return this.#encoded(model, items, false, options);
  }

  /** Extracts entities, relations and classes from items: a list of results for a list, one result for one item. */
  extract(model: string, items: readonly (Item | string)[], options?: ExtractOptions): Promise<ExtractResult[]>;
  /** Extracts from one item. */
  extract(model: string, items: Item | string, options?: ExtractOptions): Promise<ExtractResult>;
  async extract(
    model: string,
    items: Item | string | readonly (Item | string)[],
    options: ExtractOptions = {},
  ): Promise<ExtractResult | ExtractResult[]> {
    const { labels, outputSchema, instruction, signal } = options;
    const asked = this.#endpoint.options(options.options, {});
    const params = { labels, output_schema: outputSchema, instruction, options: asked };
    const call = this.#endpoint.inference("extract", model, withParams(params), options, extractResults);
    const stream = { items: batch(items), call, hasIds: true, sendsEmpty: true, signal, onProgress: undefined };
    return likeInput(items, await all(pipeline(stream, this.#transport)));
  }

  /**
   * Yields the status of the server several times a second, until the client is closed, the signal is aborted, or the
   * loop is left. A connection that breaks is reopened, after the pauses of any other call.
   *
   * @throws TypeError if the runtime has no `WebSocket` and the client was given none.
   */
  watch(mode: WatchMode = "auto", options: WatchOptions = {}): AsyncGenerator<StatusMessage, void, undefined> {
    const stop = new AbortController();
    const call = this.#endpoint.watch(mode, options, stop.signal);
    return this.#until(stop, options.signal, watchStatuses(call, this.#transport, webSocketClass(this.#webSocket)));
  }

  /** Lists the models that the server knows, loaded or not. */
  async listModels(options: CallOptions = {}): Promise<ModelInfo[]> {
    return this.#send(this.#endpoint.lookUp("/v1/models", undefined, modelInfos, options));
  }

  /** Describes one model. Rejects with a RequestError of code `MODEL_NOT_FOUND` if the server does not know it. */
  async getModel(name: string, options: CallOptions = {}): Promise<ModelInfo> {
    return this.#send(this.#endpoint.lookUp(`/v1/models/${modelPath(name)}`, name, modelInfo, options));
  }

  /** Returns the server's address, without a trailing slash. */
  getBaseUrl(): string {
    return this.#endpoint.baseUrl;
  }

  /** Ends `watch` loops. Other connections belong to the runtime's `fetch`. */
  async close(): Promise<void> {
    this.#closed.abort();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  [Symbol.dispose](): void {
    this.#closed.abort();
  }

  /** Yields statuses until `stop`, which follows `signal` (then it rejects) and the client (then it ends). */
  async *#until<T>(
    stop: AbortController,
    signal: AbortSignal | undefined,
    statuses: AsyncGenerator<T, void, undefined>,
  ): AsyncGenerator<T, void, undefined> {
    const closed = this.#closed.signal;
    const forward = () => stop.abort(signal?.aborted ? signal.reason : closed);
    for (const source of [signal, closed]) source?.addEventListener("abort", forward, { once: true });
    try {
      if (signal?.aborted || closed.aborted) forward();
      stop.signal.throwIfAborted();
      yield* statuses;
    } catch (error) {
      if (error !== closed) throw error;
    } finally {
      for (const source of [signal, closed]) source?.removeEventListener("abort", forward);
    }
  }

  #encoded(
    model: string,
    items: Iterable<Item | string> | AsyncIterable<Item | string>,
    sendsEmpty: boolean,
    options: EncodeOptions,
  ): AsyncGenerator<EncodeResult, void, undefined> {
    const { outputTypes, outputDtype, instruction, isQuery, signal, onProgress } = options;
    const asked = this.#endpoint.options(options.options, { is_query: isQuery });
    const params = { output_types: outputTypes, output_dtype: outputDtype, instruction, options: asked };
    const call = this.#endpoint.inference("encode", model, withParams(params), options, encodeResults);
    return pipeline({ items: listed(items), call, hasIds: false, sendsEmpty, signal, onProgress }, this.#transport);
  }

  #send<T>(call: Call<T>): Promise<T> {
    return exchange(call, this.#transport);
  }
}

function withParams(params: Record<string, unknown>): Record<string, unknown> {
  return Object.values(params).some((value) => value !== undefined) ? { params } : {};
}

function batch(items: Item | string | readonly (Item | string)[]): readonly (Item | string)[] {
  return isList(items) ? items : [items];
}

/** Unwraps the result of a single item, and keeps a list of results. */
function likeInput<T>(items: Item | string | readonly (Item | string)[], results: T[]): T | T[] {
  return isList(items) ? results : (results[0] as T);
}

function isList(items: Item | string | readonly (Item | string)[]): items is readonly (Item | string)[] {
  return Array.isArray(items);
}

/** Returns the items. @throws TypeError for a single item or text, whose characters would be sent one by one. */
function listed<T extends object>(items: T): T {
  if (typeof items !== "object" || !(Symbol.iterator in items || Symbol.asyncIterator in items)) {
    throw new TypeError(`items must be a list of items or texts, got ${typeof items}`);
  }
  return items;
}

async function all<T>(results: AsyncGenerator<T, void, undefined>): Promise<T[]> {
  const list: T[] = [];
  for await (const result of results) list.push(result);
  return list;
}
