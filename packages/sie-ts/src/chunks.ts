/** A large input, cut into parts of consecutive items, each of which one request carries. */

import { isMap, packMessage } from "./msgpack.js";
import type { Item } from "./types.js";

// A server takes 10,000 items and 34 MiB in one request, other SIE servers 1,000 items. Parts are smaller: neither side
// has to hold much, an answer comes long before a timeout, and the few that are under way fit a server's queue.
// Answers with vectors are large, those with scores are not; and the candidates of a query belong together, as the
// server computes a query once per request.
const PART = { items: 256, bytes: 2 ** 20 };
const NAMED_PART = { items: 1000, bytes: 2 ** 24 };
const MEDIA = ["images", "audio", "video", "document"];

/** Some of the items: `start` is the index of the first in the whole input, `packed` each as MessagePack. */
export class Part {
  readonly ids: (string | undefined)[] = [];
  readonly packed: Uint8Array[] = [];
  #size = 0;

  constructor(
    readonly start: number,
    private readonly most: typeof PART,
  ) {}

  /** The index of the first item after this part. */
  get end(): number {
    return this.start + this.packed.length;
  }

  /** Whether there is room for one item more. An item that is too large for any part gets one to itself. */
  takes(packed: Uint8Array): boolean {
    const { length } = this.packed;
    return length === 0 || (length < this.most.items && this.#size + packed.length <= this.most.bytes);
  }

  append(item: Item, packed: Uint8Array): void {
    this.ids.push(item?.id ?? undefined);
    this.packed.push(packed);
    this.#size += packed.length;
  }
}

/**
 * Cuts a stream of items into parts; holds one part at a time.
 *
 * A server that answers with ids calls the N-th item of a request `item-N` if it has none. With `named`, the items
 * without an id in all parts but the first are sent with the one they would have had in a single request.
 */
export class Cutter {
  readonly #most: typeof PART;
  #part: Part;

  constructor(private readonly named: boolean) {
    this.#most = named ? NAMED_PART : PART;
    this.#part = new Part(0, this.#most);
  }

  /** Takes the next item; returns the part before it, if that has no room for it. */
  add(item: Item): Part | undefined {
    let packed = this.#packed(item);
    let full: Part | undefined;
    if (!this.#part.takes(packed)) {
      full = this.#part;
      this.#part = new Part(full.end, this.#most);
      packed = this.#packed(item);
    }
    this.#part.append(item, packed);
    return full;
  }

  /** The last part, once all items were added; empty only if there were none. */
  rest(): Part {
    return this.#part;
  }

  #packed(item: Item): Uint8Array {
    const index = this.#part.end;
    const sent: unknown = item;
    checkTextOnly(sent, `items[${index}]`);
    const unnamed = this.named && this.#part.start > 0 && isMap(sent) && sent["id"] == null;
    return packMessage(unnamed ? { ...sent, id: `item-${index}` } : sent, `items[${index}]`);
  }
}

/** @throws TypeError for an item with an image or another medium, which no model here reads; names the field. */
export function checkTextOnly(item: unknown, path: string): void {
  if (!isMap(item)) return;
  const medium = MEDIA.find((name) => item[name] != null && !(Array.isArray(item[name]) && item[name].length === 0));
  if (medium !== undefined) throw new TypeError(`${path}.${medium} is not supported: models read the text of an item`);
}
