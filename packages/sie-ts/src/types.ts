/** Types of requests and results. */

import type { Fetch, Signal } from "./runtime.js";
import type { WebSocketClass } from "./websocket.js";

/** A kind of embedding. */
export type OutputType = "dense" | "sparse" | "multivector";

/** The number format of embeddings on the wire; `float16` arrives as `Float32Array`. */
export type OutputDType = "float32" | "float16" | "int8" | "uint8" | "binary" | "ubinary";

/** A vector: `Float32Array` for float32 and float16, `Int8Array` for int8, else `Uint8Array`. */
export type Vector = Float32Array | Int8Array | Uint8Array;

/** A query or a document. Every field is optional; text models need `text`. */
export interface Item {
  id?: string | null | undefined;
  text?: string | null | undefined;
  metadata?: Readonly<Record<string, unknown>> | undefined;
}

/** Details of a request from the response headers. A field is present if its header was. */
export interface RequestInfo {
  id?: string;
  modelRevision?: string;
  creditsDebited?: number;
  units?: Record<string, number>;
}

/** Tokens that a request took. */
export interface Usage {
  inputTokens: number;
}

/** Time that the server spent in each stage, in milliseconds. */
export interface TimingInfo {
  totalMs?: number;
  queueMs?: number;
  tokenizationMs?: number;
  inferenceMs?: number;
  postprocessingMs?: number | null;
}

/** A part of a text, `[start, end)`, counted in code points; `spanText` cuts it out. */
export type Span = [start: number, end: number];

/** A token of the query and the nearest token of a document; `score` is their cosine. */
export interface Highlight {
  query: Span;
  /** Null if the nearest token is a special one. */
  document: Span | null;
  score: number;
}

/** One document's place in the ranking. */
export interface ScoreEntry {
  /** The id of the document, or `item-N` for the N-th (from 0) if it had none. */
  itemId: string;
  /** Higher is better; the model decides whether it is a probability or a raw logit. */
  score: number;
  /** 0 is the best. */
  rank: number;
  /** Number of tokens that the model read; present with the option `return_tokens`. */
  tokens?: number;
  /** Whether the document was truncated; present with the option `return_tokens`. */
  truncated?: boolean;
  /** The part of the text that scored best; present with `long_documents: "chunk_max"`. */
  span?: Span;
  /** One per token of the query's text; present with the option `return_highlights`. */
  highlights?: Highlight[];
}

/** A ranking, with `scores` in descending order. */
export interface ScoreResult {
  model: string;
  scores: ScoreEntry[];
  /** Present if the query had an id. */
  queryId?: string;
  usage?: Usage;
  /** The timing of the whole request; of a list that was sent in parts, the sums of theirs. */
  timing?: TimingInfo;
  request?: RequestInfo;
}

/** Vocabulary ids and their weights, two arrays of the same length. */
export interface SparseEmbedding {
  indices: Int32Array;
  values: Float32Array;
}

/** The embeddings of one item; those that were requested are present. */
export interface EncodeResult {
  /** Present if the item had an id. */
  id?: string;
  model?: string;
  /** `[dim]`; `binary` and `ubinary` pack eight dimensions into a byte. */
  dense?: Vector;
  sparse?: SparseEmbedding;
  /** One vector per token. */
  multivector?: Vector[];
  /** The timing of the whole request. */
  timing?: TimingInfo;
  request?: RequestInfo;
}

/** Findings in one item, as the server sent them; offsets are in code points. */
export interface ExtractResult {
  id?: string;
  entities?: Record<string, unknown>[];
  relations?: Record<string, unknown>[];
  classifications?: Record<string, unknown>[];
  objects?: Record<string, unknown>[];
  data?: Record<string, unknown>;
  error?: Record<string, unknown>;
}

/** The error that kept a model from loading. A `permanent` one is not retried automatically. */
export interface ModelError {
  code: string;
  message: string;
  attempts: number;
  permanent: boolean;
}

/** A model that the server knows. Fields that a newer server adds are present too, in camel case. */
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
  /** The kind of score, e.g. `"logit"`; null if the model does not score. */
  score?: string | null;
  /** The name of the model's prompt, if it has one. */
  prompt?: string | null;
  license?: string | null;
  /** The precision of the model's matrix products, e.g. `"bfloat16"`; null if the model is not loaded. */
  precision?: string | null;
}

/** Settings of a client. Times are in milliseconds. */
export interface ClientOptions {
  /** Time limit of one request, from connecting to the last byte (150 000). A request that timed out is not retried. */
  timeoutMs?: number | undefined;
  /** `timeoutMs` under its former name. */
  timeout?: number | undefined;
  /** Sent as a bearer token; by default the environment variable `SIE_API_KEY`, `""` for none. */
  apiKey?: string | undefined;
  /** Options of every call; those given to a call take precedence. */
  options?: Readonly<Record<string, unknown>> | undefined;
  /** Whether calls wait for a server that does not respond (true). */
  waitForCapacity?: boolean | undefined;
  /** Time limit of a request, including waits (900 000, or 5000 for a server that has never responded); 0 sends it once. */
  provisionTimeout?: number | undefined;
  /** Additional headers of every request. */
  headers?: Readonly<Record<string, string>> | undefined;
  /** @deprecated No effect; a warning says so. Programs written for the public SDK may give it. */
  gpu?: string | undefined;
  /** @deprecated No effect, as `gpu`. */
  controlPlaneUrl?: string | undefined;
  /** @deprecated No effect, as `gpu`. */
  org?: string | undefined;
  /** Replaces the global `fetch`, e.g. for a proxy or a test. */
  fetch?: Fetch | undefined;
  /** Replaces the global `WebSocket`, which Node has from version 22 on, e.g. by that of the package `ws`. */
  webSocket?: WebSocketClass | undefined;
}

/** Options of every call. */
export interface CallOptions {
  /** Aborts the call, including waits; the signal's reason is thrown. */
  signal?: Signal | undefined;
  /** As for the client. */
  timeoutMs?: number | undefined;
}

/** Options of every call that runs a model. */
export interface InferenceOptions extends CallOptions {
  /** The task, or the meaning of relevance, for models that read an instruction. */
  instruction?: string | undefined;
  /** Options under the server's names, e.g. `{ max_seq_length: 256, profile: "fast" }`. */
  options?: Readonly<Record<string, unknown>> | undefined;
  /** @deprecated No effect, as for the client. */
  gpu?: string | undefined;
  /** As for the client. */
  waitForCapacity?: boolean | undefined;
  /** As for the client. */
  provisionTimeout?: number | undefined;
  /** Maximum number of retries when the server is out of memory (3). */
  maxOomRetries?: number | undefined;
}

/** Both mean the same; the public SDK distinguishes a server and a gateway by them. */
export type WatchMode = "auto" | "worker";

/** Options of `watch`. A connection that is silent for `timeoutMs` is reopened. */
export interface WatchOptions extends CallOptions {
  /** Whether to wait for a server that does not respond, also if it stops responding later; as for the client. */
  waitForCapacity?: boolean | undefined;
  /** Milliseconds to wait for a status; as for the client. */
  provisionTimeout?: number | undefined;
}

/** Options of `score`. */
export interface ScoreOptions extends InferenceOptions {
  /** Maximum number of documents to return, best first. */
  topK?: number | undefined;
}

/** Options of `encode` and `encodeStream`. */
export interface EncodeOptions extends InferenceOptions {
  /** By default dense. */
  outputTypes?: readonly OutputType[] | undefined;
  /** By default float32. */
  outputDtype?: OutputDType | undefined;
  /** Whether the items are queries, for models that distinguish queries and documents. */
  isQuery?: boolean | undefined;
  /** Called with the number of items that are done. */
  onProgress?: ((done: number) => void) | undefined;
}

/** Options of `extract`. */
export interface ExtractOptions extends InferenceOptions {
  /** Kinds of findings to look for. */
  labels?: readonly string[] | undefined;
  /** JSON schema of the data to extract. */
  outputSchema?: Readonly<Record<string, unknown>> | undefined;
}
