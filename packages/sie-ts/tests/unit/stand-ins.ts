/** Stand-ins for a server behind `fetch`, and for its MessagePack, independent of the SDK's. */

import { decode } from "@msgpack/msgpack";
import { vi } from "vitest";
import { type ClientOptions, SIEClient } from "../../src/index.js";

export const BASE_URL = "http://sie.test:8080";
export const QUERY = { text: "q" };
export const ITEMS = [{ text: "a" }, { text: "b" }];
export const SCORED = {
  model: "m",
  query_id: null,
  scores: [
    { item_id: "item-1", score: 0.75, rank: 0 },
    { item_id: "item-0", score: 0.1, rank: 1 },
  ],
};

/** A NumPy array, or a scalar if `shape` is null, as the server encodes it. */
export class NdArray {
  constructor(
    readonly dtype: string,
    readonly shape: number[] | null,
    readonly data: Uint8Array,
  ) {}
}

export function float32(values: number[], shape = [values.length]): NdArray {
  return new NdArray("<f4", shape, new Uint8Array(Float32Array.from(values).buffer));
}

/** Encodes everything in its longest form, which is valid but rare. */
export function pack(value: unknown): Uint8Array {
  if (value === null) return Uint8Array.of(0xc0);
  if (typeof value === "boolean") return Uint8Array.of(value ? 0xc3 : 0xc2);
  if (typeof value === "number") {
    const bytes = new Uint8Array(9);
    bytes[0] = Number.isInteger(value) ? 0xd3 : 0xcb;
    const view = new DataView(bytes.buffer, 1);
    if (Number.isInteger(value)) view.setBigInt64(0, BigInt(value));
    else view.setFloat64(0, value);
    return bytes;
  }
  if (typeof value === "string")
    return joined(sized(0xdb, new TextEncoder().encode(value).length), new TextEncoder().encode(value));
  if (value instanceof Uint8Array) return joined(sized(0xc6, value.length), value);
  if (Array.isArray(value)) return joined(sized(0xdd, value.length), ...value.map(pack));
  if (value instanceof NdArray) {
    const { dtype: type, shape, data } = value;
    const entries =
      shape === null ? { nd: false, type, data } : { nd: true, type, kind: new Uint8Array(), shape, data };
    return map(Object.entries(entries), (key) => new TextEncoder().encode(key));
  }
  return map(Object.entries(value as object), (key) => key);
}

function map(entries: [string, unknown][], key: (key: string) => unknown): Uint8Array {
  return joined(sized(0xdf, entries.length), ...entries.flatMap(([name, value]) => [pack(key(name)), pack(value)]));
}

function sized(marker: number, length: number): Uint8Array {
  const bytes = new Uint8Array(5);
  bytes[0] = marker;
  new DataView(bytes.buffer).setUint32(1, length);
  return bytes;
}

function joined(...pieces: Uint8Array[]): Uint8Array {
  return Uint8Array.from(pieces.flatMap((piece) => Array.from(piece)));
}

export function packed(body: unknown, headers: Record<string, string> = {}): Response {
  return new Response(pack(body) as BodyInit, { headers: { "content-type": "application/msgpack", ...headers } });
}

export function refused(
  status: number,
  code?: string,
  message = "no",
  headers: Record<string, string> = {},
  extras = {},
) {
  return Response.json({ detail: { code, message, ...extras } }, { status, headers });
}

/** Returns the error that Node's `fetch` rejects with. */
export function fetchFailed(code: string): TypeError {
  return new TypeError("fetch failed", { cause: Object.assign(new Error(`connect ${code}`), { code }) });
}

/** A request that the server received. */
export interface Sent {
  readonly url: string;
  readonly method: string;
  readonly headers: Headers;
  // biome-ignore lint/suspicious/noExplicitAny: tests look into bodies of every shape
  readonly body: any;
  readonly bytes: number;
}

type Answer = Response | Error | ((sent: Sent) => Response | Promise<Response>);

/** Answers each request with the next of `answers`, then repeats the last one. */
export class Server {
  readonly sent: Sent[] = [];

  constructor(...answers: Answer[]) {
    this.#answers = answers;
  }

  readonly #answers: Answer[];

  readonly fetch = vi.fn(async (input: unknown, init: RequestInit = {}): Promise<Response> => {
    const bytes = init.body as Uint8Array | null;
    const sent = {
      url: String(input),
      method: init.method ?? "GET",
      headers: new Headers(init.headers),
      body: bytes && decode(bytes),
      bytes: bytes?.length ?? 0,
    };
    this.sent.push(sent);
    const answer = this.#answers.length > 1 ? this.#answers.shift() : this.#answers[0];
    if (answer instanceof Error) throw answer;
    if (typeof answer === "function") return answer(sent);
    return (answer as Response).clone() as Response;
  });

  client(options: ClientOptions = {}, baseUrl = BASE_URL): SIEClient {
    return new SIEClient(baseUrl, { ...options, fetch: this.fetch as unknown as typeof fetch });
  }
}
