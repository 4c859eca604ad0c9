/** Parses responses into the types of `types.ts`. Throws RequestError for a response of any other form. */

import { IncompleteBatchError, RequestError, SIEConnectionError } from "../errors.js";
import type {
  EncodeResult,
  ExtractResult,
  ModelInfo,
  RequestInfo,
  ScoreEntry,
  ScoreResult,
  SparseEmbedding,
  TimingInfo,
  Usage,
  Vector,
} from "../types.js";
import type { Chunk } from "./chunks.js";
import { isMap, malformed, unpackBody } from "./msgpack.js";
import { excerptOf, parsedJson, type Reply, requestInfo, timingInfo } from "./reply.js";
import type { StatusMessage } from "./status.js";

/** Parses a ranking. It keeps the order and the ranks that the server sent. */
export function scoreResult(reply: Reply): ScoreResult {
  const { model, scores, query_id, usage } = bodyOf(reply, "score");
  if (typeof model !== "string" || !Array.isArray(scores)) {
    throw malformed("score", "expected the fields 'model' and 'scores'");
  }
  const result: ScoreResult = { model, scores: scores.map(scoreEntry) };
  if (typeof query_id === "string") result.queryId = query_id;
  if (isMap(usage)) result.usage = camelCased(usage) as unknown as Usage;
  const timing = timingInfo(reply.headers);
  if (timing) result.timing = timing;
  return withRequest(result, reply);
}

/**
 * Merges the rankings of all chunks of an input into one; returns a single ranking as it is. Documents with equal
 * scores stay in their order, as they do in each chunk.
 */
export function mergedScores(parts: readonly ScoreResult[], topK: unknown): ScoreResult {
  const [first] = parts as [ScoreResult];
  if (parts.length === 1) return first;
  const entries = parts.flatMap((part) => part.scores).sort((a, b) => b.score - a.score);
  const kept = typeof topK === "number" ? entries.slice(0, topK) : entries;
  const result = { ...first, scores: kept.map((entry, rank) => ({ ...entry, rank })) };
  const usage = summed(parts.map((part) => part.usage)) as Usage | undefined;
  const timing = summed(parts.map((part) => part.timing)) as TimingInfo | undefined;
  const request = summed(parts.map((part) => part.request)) as RequestInfo | undefined;
  return { ...result, ...(usage && { usage }), ...(timing && { timing }), ...(request && { request }) };
}

/** Parses one result per item, in the order of the items. */
export function encodeResults(reply: Reply, chunk: Chunk): EncodeResult[] {
  const body = bodyOf(reply, "encode");
  const timing = isMap(body["timing"]) ? (camelCased(body["timing"]) as TimingInfo) : undefined;
  return complete(entries(body, "encode"), chunk, reply).map((entry) => {
    const result: EncodeResult = {};
    if (typeof entry["id"] === "string") result.id = entry["id"];
    if (entry["dense"] != null) result.dense = vector(entry["dense"], "values", "dense");
    if (entry["sparse"] != null) result.sparse = sparse(entry["sparse"]);
    if (entry["multivector"] != null) result.multivector = vectors(entry["multivector"]);
    if (typeof body["model"] === "string") result.model = body["model"];
    if (timing) result.timing = timing;
    return withRequest(result, reply);
  });
}

/** Parses one result per item, in the order of the items. */
export function extractResults(reply: Reply, chunk: Chunk): ExtractResult[] {
  return complete(entries(bodyOf(reply, "extract"), "extract"), chunk, reply) as ExtractResult[];
}

/** Parses the list of models. */
export function modelInfos(reply: Reply): ModelInfo[] {
  const models = jsonMap(reply)["models"];
  if (!Array.isArray(models) || !models.every(isMap)) {
    throw new RequestError("Malformed models JSON response (expected a list under 'models')");
  }
  return models.map((model) => camelCased(model) as unknown as ModelInfo);
}

/** Parses the description of a model. */
export function modelInfo(reply: Reply): ModelInfo {
  return camelCased(jsonMap(reply)) as unknown as ModelInfo;
}

/** Parses a status, whose names stay as they are on the wire. */
export function statusMessage(reply: Reply): StatusMessage {
  return jsonMap(reply, "status") as unknown as StatusMessage;
}

function scoreEntry(entry: unknown, index: number): ScoreEntry {
  const { itemId, score, rank } = isMap(entry) ? camelCased(entry) : ({} as Record<string, unknown>);
  if (typeof itemId !== "string" || typeof score !== "number" || !Number.isInteger(rank)) {
    throw malformed("score", `scores[${index}] must have an item_id, a score and a rank`);
  }
  return camelCased(entry as Record<string, unknown>) as unknown as ScoreEntry;
}

function bodyOf(reply: Reply, what: string): Record<string, unknown> {
  try {
    return unpackBody(reply.content, what);
  } catch (error) {
    const { cause } = error as RequestError;
    // Node takes a chunked response whose connection ended early for a complete one.
    if (cause instanceof RangeError && reply.headers.get("transfer-encoding") === "chunked") {
      throw new SIEConnectionError(`the ${what} response was cut off`, "connect", { cause });
    }
    // If the response does not come from an SIE server, its text says more than the decoder's error.
    const contentType = reply.headers.get("content-type");
    const extract = excerptOf(new TextDecoder().decode(reply.content));
    if (!extract || !contentType || contentType.includes("msgpack")) throw error;
    throw malformed(what, `it is ${contentType}: ${extract}`, cause);
  }
}

function entries(body: Record<string, unknown>, what: string): Record<string, unknown>[] {
  const items = body["items"];
  if (!Array.isArray(items) || !items.every(isMap)) throw malformed(what, "expected a list of maps under 'items'");
  return items;
}

function complete(results: Record<string, unknown>[], chunk: Chunk, reply: Reply): Record<string, unknown>[] {
  const [expected, received] = [chunk.ids.length, results.length];
  if (expected === received) return results;
  const answered = new Set(results.map((result) => result["id"]));
  const missingIds = chunk.ids.filter((id) => id !== undefined && !answered.has(id)) as string[];
  const message = `the response has ${received} results for ${expected} items`;
  const details = { statusCode: reply.status, request: requestInfo(reply.headers) };
  throw new IncompleteBatchError(message, { expected, received, missingIds }, details);
}

function vector(embedding: unknown, field: string, kind: string): Vector {
  const values = isMap(embedding) ? embedding[field] : undefined;
  if (!isVector(values)) throw malformed("encode", `expected a one-dimensional NumPy array for ${kind}.${field}`);
  return values;
}

function vectors(embedding: unknown): Vector[] {
  const values = isMap(embedding) ? embedding["values"] : undefined;
  if (!Array.isArray(values) || !values.every(isVector)) {
    throw malformed("encode", "expected a two-dimensional NumPy array for multivector.values");
  }
  return values;
}

function sparse(embedding: unknown): SparseEmbedding {
  const indices = vector(embedding, "indices", "sparse") as Vector | Int32Array;
  const values = vector(embedding, "values", "sparse");
  if (indices.length !== values.length) {
    throw malformed("encode", `sparse has ${indices.length} indices but ${values.length} values`);
  }
  return {
    indices: indices instanceof Int32Array ? indices : Int32Array.from(indices),
    values: values instanceof Float32Array ? values : Float32Array.from(values),
  };
}

function isVector(value: unknown): value is Vector {
  return ArrayBuffer.isView(value);
}

function withRequest<T extends { request?: RequestInfo }>(result: T, reply: Reply): T {
  const request = requestInfo(reply.headers);
  if (request) result.request = request;
  return result;
}

/** Parses a JSON object; `what` names the response in the RequestError for anything else. */
export function jsonMap(reply: Reply, what = "models"): Record<string, unknown> {
  const body = parsedJson(new TextDecoder().decode(reply.content));
  if (!isMap(body)) throw new RequestError(`Malformed ${what} JSON response (expected an object)`);
  return body;
}

/** Renames the fields of a map to camelCase; nested values stay as they are. */
export function camelCased(map: Record<string, unknown>): Record<string, unknown> {
  const renamed = Object.entries(map).map(([name, value]) => [
    name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase()),
    value,
  ]);
  return Object.fromEntries(renamed);
}

/** Adds up numbers, also those in maps; returns the first of anything else. */
function summed(parts: readonly unknown[]): unknown {
  const present = parts.filter((part) => part !== undefined);
  if (present.length > 0 && present.every((part) => typeof part === "number")) return present.reduce((a, b) => a + b);
  if (!present.every(isMap) || present.length === 0) return present[0];
  const names = new Set(present.flatMap((part) => Object.keys(part)));
  return Object.fromEntries(Array.from(names, (name) => [name, summed(present.map((part) => part[name]))]));
}
