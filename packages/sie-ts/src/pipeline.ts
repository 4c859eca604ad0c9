/** The life of a call whose items one request may not hold. */

import { Cutter, type Part } from "./chunks.js";
import { type Call, exchange, type Transport } from "./exchange.js";
import type { Item } from "./types.js";

/** Items, which may be async and without an end, and the request for one part of them. */
export interface Stream<T> {
  readonly items: Iterable<Item> | AsyncIterable<Item>;
  readonly call: (part: Part, signal: AbortSignal) => Call<T[]>;
  readonly named: boolean;
  /** No items in a list are the server's to refuse; a stream that ends before its first is just empty. */
  readonly sendsEmpty: boolean;
  readonly signal: AbortSignal | undefined;
  readonly onProgress: ((done: number) => void) | undefined;
}

// Enough to keep a server at work while an answer travels and the next part is packed.
const IN_FLIGHT = 4;

/**
 * The results, in the order of the items. Never more than `IN_FLIGHT` parts, and one item, ahead of what was taken.
 * Throws the first error, by position; when it ends, for whatever reason, so do the requests under way.
 */
export async function* pipeline<T>(stream: Stream<T>, transport: Transport): AsyncGenerator<T, void, undefined> {
  const { signal, onProgress } = stream;
  const stop = new AbortController();
  const forward = () => stop.abort(signal?.reason);
  signal?.throwIfAborted();
  signal?.addEventListener("abort", forward, { once: true });
  const underWay: { part: Part; results: Promise<T[]> }[] = [];
  const start = (part: Part) => {
    const results = exchange(stream.call(part, stop.signal), transport);
    // Awaited in its turn; until then a failure of it is not unhandled.
    results.catch(() => {});
    underWay.push({ part, results });
  };
  const parts = cut(stream);
  try {
    for (let ended = false; ; ) {
      while (!ended && underWay.length < IN_FLIGHT) {
        const { done, value } = await parts.next();
        if (done) ended = true;
        else start(value);
      }
      const first = underWay.shift();
      if (first === undefined) return;
      const results = await first.results;
      onProgress?.(first.part.end);
      yield* results;
    }
  } finally {
    signal?.removeEventListener("abort", forward);
    stop.abort();
    await parts.return(undefined);
  }
}

async function* cut<T>({ items, named, sendsEmpty }: Stream<T>): AsyncGenerator<Part, void, undefined> {
  const cutter = new Cutter(named);
  for await (const item of items) {
    const full = cutter.add(item);
    if (full !== undefined) yield full;
  }
  const rest = cutter.rest();
  if (rest.packed.length > 0 || sendsEmpty) yield rest;
}
