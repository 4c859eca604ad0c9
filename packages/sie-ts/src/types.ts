/** What goes into a request and comes out of a result. */

import type { WebSocketClass } from "./websocket.js";

/** A kind of embedding. */
export type OutputType = "dense" | "sparse" | "multivector";

/** The number format of embeddings on the wire; `float16` arrives as `Float32Array`. */
export type OutputDType = "float32" | "float16" | "int8" | "uint8" | "binary" | "ubinary";

/** One vector: `Float32Array` for float32 and float16, else `Int8Array` (int8, binary) or `Uint8Array` (uint8, ubinary). */
export type Vector = Float32Array | Int8Array | Uint8Array;

/** A query or a document. Every field is optional; text models need `text`. */
export interface Item {
  id?: string | null | undefined;
  text?: string | null | undefined;
  metadata?: Readonly<Record<string, unknown>> | undefined;
}

/** What the response headers said about a request. A field is there when its header was. */
export interface RequestInfo {
  id?: string;
  modelRevision?: string;
  creditsDebited?: number;
  units?: Record<string, number>;
}

/** What a request cost: `inputTokens` counts tokens, not characters. */
export interface Usage {
  inputTokens: number;
}

/** Where the server spent its time, in milliseconds. */
export interface TimingInfo {
  totalMs?: number;
  queueMs?: number;
  tokenizationMs?: number;
  inferenceMs?: number;
  postprocessingMs?: number | null;
}

/** A part of a text, `[start, end)`, counted in code points; `spanText` cuts it out. */
export type Span = [start: number, end: number];

/** A token of the query, and the token of a document that is nearest to it; `score` is their cosine. */
export interface Highlight {
  query: Span;
  /** Null where a special token is the nearest. */
  document: Span | null;
  score: number;
}

/** One document's place in the ranking. */
export interface ScoreEntry {
  /** The id of the document, or `item-N` for the N-th (from 0) if it had none. */
  itemId: string;
  /** Higher is better; whether it is a probability or a raw logit depends on the model. */
  score: number;
  /** 0 is the best. */
  rank: number;
  /** How many tokens the model read; there with the option `return_tokens`. */
  tokens?: number;
  /** Whether the document was cut; there with the option `return_tokens`. */
  truncated?: boolean;
  /** The part of the text that scored best; there with `long_documents: "chunk_max"`. */
  span?: Span;
  /** One per token of the query's text; there with the option `return_highlights`. */
  highlights?: Highlight[];
}

/** A ranking: `scores` in descending order. */
export interface ScoreResult {
  model: string;
  scores: ScoreEntry[];
  /** There if the query had an id. */
  queryId?: string;
  usage?: Usage;
  request?: RequestInfo;
}

/** Vocabulary ids and their weights, two arrays of the same length. */
export interface SparseEmbedding {
  indices: Int32Array;
  values: Float32Array;
}

/** The embeddings of one item; those that were asked for are there. */
export interface EncodeResult {
  /** There if the item had an id. */
  id?: string;
  model?: string;
  /** `[dim]`; `binary` and `ubinary` pack eight dimensions into a byte. */
  dense?: Vector;
  sparse?: SparseEmbedding;
  /** One vector per token. */
  multivector?: Vector[];
  /** That of the whole request. */
  timing?: TimingInfo;
  request?: RequestInfo;
}

/** What was found in one item, as the server sent it; offsets are in code points. */
export interface ExtractResult {
  id?: string;
  entities?: Record<string, unknown>[];
  relations?: Record<string, unknown>[];
  classifications?: Record<string, unknown>[];
  objects?: Record<string, unknown>[];
  data?: Record<string, unknown>;
  error?: Record<string, unknown>;
}

/** Why a model could not be loaded. A `permanent` failure is not tried again by itself. */
export interface ModelError {
  code: string;
  message: string;
  attempts: number;
  permanent: boolean;
}

/** A model the server knows. Fields that a newer server adds are there too, in camel case. */
export interface ModelInfo {
  name: string;
  inputs: string[];
  outputs: string[];
  /** Width by output. */
  dims: Record<string, number>;
  loaded: boolean;
  state: "available" | "loading" | "loaded" | "unloading" | "failed";
  lastError: ModelError | null;
  /** In tokens. */
  maxSequenceLength: number | null;
  profiles: Record<string, Record<string, unknown>>;
  revision?: string | null;
  /** What the model's scores mean; null if it does not score. */
  score?: string | null;
  /** The name of the prompt that the model reads, if it reads one. */
  prompt?: string | null;
  license?: string | null;
}

/** How a client reaches its server. Times are in milliseconds. */
export interface ClientOptions {
  /** How long one request may take, from connecting to the last byte (150 000). What times out is not sent again. */
  timeoutMs?: number | undefined;
  /** The same, under its former name. */
  timeout?: number | undefined;
  /** Sent as a bearer token; by default the environment's `SIE_API_KEY`, `""` for none. */
  apiKey?: string | undefined;
  /** Options of every call; those given to a call win. */
  options?: Readonly<Record<string, unknown>> | undefined;
  /** Whether calls wait for a server that does not answer (true). */
  waitForCapacity?: boolean | undefined;
  /** How long a request may take, waits and retries included (900 000); 0 sends it only once. */
  provisionTimeout?: number | undefined;
  /** Further headers of every request. */
  headers?: Readonly<Record<string, string>> | undefined;
  /** @deprecated No effect; a warning says so. Programs written for the public SDK may give it. */
  gpu?: string | undefined;
  /** @deprecated No effect, as `gpu`. */
  controlPlaneUrl?: string | undefined;
  /** @deprecated No effect, as `gpu`. */
  org?: string | undefined;
  /** What to send with instead of the global `fetch`, e.g. for a proxy or a test. */
  fetch?: typeof fetch | undefined;
  /** What to watch with instead of the global `WebSocket`, which Node has from version 22 on; the one of `ws` will do. */
  webSocket?: WebSocketClass | undefined;
}

/** What every call takes. */
export interface CallOptions {
  /** Ends the call, waits included; the signal's reason is thrown. */
  signal?: AbortSignal | undefined;
  /** As for the client. */
  timeoutMs?: number | undefined;
}

/** What every call that computes something takes. */
export interface InferenceOptions extends CallOptions {
  /** The task, or what relevance means, for models that read one. */
  instruction?: string | undefined;
  /** Options as the server names them, e.g. `{ max_seq_length: 256, profile: "fast" }`. */
  options?: Readonly<Record<string, unknown>> | undefined;
  /** @deprecated No effect, as for the client. */
  gpu?: string | undefined;
  /** As for the client. */
  waitForCapacity?: boolean | undefined;
  /** As for the client. */
  provisionTimeout?: number | undefined;
  /** How often to ask again when the server is out of memory (3). */
  maxOomRetries?: number | undefined;
}

/** Both mean the same here; the public SDK tells a server from a gateway by them. */
export type WatchMode = "auto" | "worker";

/** The options of `watch`. `timeoutMs` is how long the server may say nothing before the connection is opened anew. */
export interface WatchOptions extends CallOptions {
  /** Whether to wait for a server that does not answer, also for one that no longer does; as for the client. */
  waitForCapacity?: boolean | undefined;
  /** How long to go on without a status; as for the client. */
  provisionTimeout?: number | undefined;
}

/** The options of `score`. */
export interface ScoreOptions extends InferenceOptions {
  /** Only the best so many documents. */
  topK?: number | undefined;
}

/** The options of `encode` and `encodeStream`. */
export interface EncodeOptions extends InferenceOptions {
  /** By default dense. */
  outputTypes?: readonly OutputType[] | undefined;
  /** By default float32. */
  outputDtype?: OutputDType | undefined;
  /** Whether the items are queries, for models that tell queries from documents. */
  isQuery?: boolean | undefined;
  /** Told the number of items that are done. */
  onProgress?: ((done: number) => void) | undefined;
}

/** The options of `extract`. */
export interface ExtractOptions extends InferenceOptions {
  /** What to look for. */
  labels?: readonly string[] | undefined;
  /** JSON schema of the data to extract. */
  outputSchema?: Readonly<Record<string, unknown>> | undefined;
}
