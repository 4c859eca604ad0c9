/** Splits a large input into chunks of consecutive items, one per request. */

import type { Item } from "../types.js";
import { isMap, packMessage } from "./msgpack.js";

// This project's server takes 10,000 items and 34 MiB per request, other SIE servers 1,000 items. Chunks are smaller,
// so that neither side holds much in memory, a response arrives long before the timeout, and the chunks in flight fit a
// server's queue. Responses with vectors are large, so their chunks are small. Chunks to score are large, because the
// server computes a query once per request.
const VECTOR_CHUNK = { items: 256, bytes: 2 ** 20 };
const SCORE_CHUNK = { items: 1000, bytes: 2 ** 24 };
const MEDIA = ["images", "audio", "video", "document"];

/** Returns the item of a text; returns anything else as it is. */
export function asItem(item: Item | string): Item {
  return typeof item === "string" ? { text: item } : item;
}

/** Consecutive items for one request, packed as MessagePack; `start` is the index of the first in the whole input. */
export class Chunk {
  readonly ids: (string | undefined)[] = [];
  readonly packed: Uint8Array[] = [];
  #size = 0;

  constructor(
    readonly start: number,
    private readonly limit: typeof VECTOR_CHUNK,
  ) {}

  /** Index of the first item after this chunk. */
  get end(): number {
    return this.start + this.packed.length;
  }

  /** Returns whether one more item fits. An item that is too large for any chunk gets one to itself. */
  fits(packed: Uint8Array): boolean {
    const { length } = this.packed;
    return length === 0 || (length < this.limit.items && this.#size + packed.length <= this.limit.bytes);
  }

  append(item: Item, packed: Uint8Array): void {
    this.ids.push(item?.id ?? undefined);
    this.packed.push(packed);
    this.#size += packed.length;
  }
}

/**
 * Splits a stream of items into chunks, holding one chunk at a time.
 *
 * A server whose results have ids names the N-th item of a request `item-N` if it has none. With `hasIds`, items
 * without an id in every chunk but the first are sent with the id that they would get in a single request.
 */
export class Chunker {
  readonly #limit: typeof VECTOR_CHUNK;
  #chunk: Chunk;

  constructor(private readonly hasIds: boolean) {
    this.#limit = hasIds ? SCORE_CHUNK : VECTOR_CHUNK;
    this.#chunk = new Chunk(0, this.#limit);
  }

  /** Adds the next item, or the text of one; returns the chunk before it if the item does not fit there. */
  add(given: Item | string): Chunk | undefined {
    const item = asItem(given);
    let packed = this.#packed(item);
    let full: Chunk | undefined;
    if (!this.#chunk.fits(packed)) {
      full = this.#chunk;
      this.#chunk = new Chunk(full.end, this.#limit);
      packed = this.#packed(item);
    }
    this.#chunk.append(item, packed);
    return full;
  }

  /** Returns the last chunk after all items were added; it is empty only if there were none. */
  last(): Chunk {
    return this.#chunk;
  }

  #packed(item: Item): Uint8Array {
    const index = this.#chunk.end;
    const sent: unknown = item;
    checkTextOnly(sent, `items[${index}]`);
    const needsId = this.hasIds && this.#chunk.start > 0 && isMap(sent) && sent["id"] == null;
    return packMessage(needsId ? { ...sent, id: `item-${index}` } : sent, `items[${index}]`);
  }
}

/** @throws TypeError, naming the field, for an item with an image, audio, a video or a document. */
export function checkTextOnly(item: unknown, path: string): void {
  if (!isMap(item)) return;
  const medium = MEDIA.find((name) => item[name] != null && !(Array.isArray(item[name]) && item[name].length === 0));
  if (medium !== undefined) throw new TypeError(`Field '${path}.${medium}' is not supported: models read text only`);
}
