/** Encodes requests and decodes responses in MessagePack, with NumPy arrays. */

import { decode, encode } from "@msgpack/msgpack";
import { RequestError } from "../errors.js";
import { arrayIn } from "./ndarray.js";

export const CONTENT_TYPE = "application/msgpack";

/** A list whose elements are MessagePack already, for `packMap`. */
export class Packed {
  constructor(readonly elements: readonly Uint8Array[]) {}
}

/**
 * Encodes a value as MessagePack. Fields that are undefined are left out.
 *
 * @throws TypeError if a text in it is not valid Unicode; the message names it, beginning with the value's `path`.
 */
export function packMessage(value: unknown, path = ""): Uint8Array {
  const lone = loneSurrogate(value, path);
  if (lone !== undefined) throw new TypeError(`${lone} is not valid Unicode: it has a lone surrogate`);
  return encode(value, { ignoreUndefined: true });
}

/** Encodes a map of at most 15 fields, one of which may be `Packed`. */
export function packMap(fields: Readonly<Record<string, unknown>>): Uint8Array {
  const present = Object.entries(fields).filter(([, value]) => value !== undefined);
  const pieces: Uint8Array[] = [Uint8Array.of(0x80 | present.length)];
  for (const [name, value] of present) {
    pieces.push(packMessage(name));
    if (value instanceof Packed) pieces.push(arrayHeader(value.elements.length), ...value.elements);
    else pieces.push(packMessage(value, name));
  }
  const packed = new Uint8Array(pieces.reduce((size, piece) => size + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    packed.set(piece, at);
    at += piece.length;
  }
  return packed;
}

/**
 * Decodes MessagePack. A NumPy array becomes a typed array, or an array of typed arrays if it has two dimensions;
 * float16 becomes `Float32Array`.
 *
 * @throws Error if the bytes are not MessagePack, or contain an invalid array.
 */
export function unpackMessage(bytes: Uint8Array): unknown {
  return withArrays(decode(bytes, { mapKeyConverter: textKey }));
}

/** Decodes the map in a response body; `what` names the response in the RequestError for anything else. */
export function unpackBody(content: Uint8Array, what: string): Record<string, unknown> {
  let body: unknown;
  try {
    body = unpackMessage(content);
  } catch (error) {
    throw malformed(what, error instanceof Error ? error.message : String(error), error);
  }
  if (!isMap(body)) throw malformed(what, "expected a map");
  return body;
}

/** Returns the error for a response that can't be decoded. */
export function malformed(what: string, reason: string, cause?: unknown): RequestError {
  return new RequestError(`Malformed ${what} MessagePack response (${reason})`, { cause });
}

/** Returns whether a value is a map of JSON or MessagePack. */
export function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !ArrayBuffer.isView(value);
}

// The keys of arrays are bytes; those of all other maps are text.
function textKey(key: unknown): string {
  const text = key instanceof Uint8Array ? String.fromCharCode(...key.subarray(0, 16)) : key;
  if (typeof text !== "string" || text === "__proto__") throw new RangeError("a map key is neither text nor bytes");
  return text;
}

function withArrays(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withArrays);
  if (!isMap(value)) return value;
  const array = "nd" in value ? arrayIn(value) : undefined;
  if (array !== undefined) return array;
  for (const key of Object.keys(value)) value[key] = withArrays(value[key]);
  return value;
}

// In its shortest form, like everything else that is encoded.
function arrayHeader(length: number): Uint8Array {
  if (length < 16) return Uint8Array.of(0x90 | length);
  if (length < 2 ** 16) return Uint8Array.of(0xdc, length >> 8, length);
  return Uint8Array.of(0xdd, length >> 24, length >> 16, length >> 8, length);
}

/** Returns the path of a text under `value` that UTF-8 can't encode, and that would arrive changed. */
function loneSurrogate(value: unknown, path: string): string | undefined {
  if (typeof value === "string") return LONE_SURROGATE.test(value) ? path || "a text" : undefined;
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) return undefined;
  for (const [key, element] of Object.entries(value)) {
    const below = Array.isArray(value) ? `${path}[${key}]` : path ? `${path}.${key}` : key;
    const found = LONE_SURROGATE.test(key) ? `a key of ${path}` : loneSurrogate(element, below);
    if (found !== undefined) return found;
  }
  return undefined;
}

// With the flag `u`, a pair is one character, so only half of a pair matches.
const LONE_SURROGATE = /\p{Surrogate}/u;
