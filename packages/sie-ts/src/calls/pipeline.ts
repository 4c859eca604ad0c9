/** The life of a call that takes several requests. */

import { type Call, exchange, type Transport } from "../http/exchange.js";
import { type Chunk, Chunker } from "../messages/chunks.js";
import type { Item } from "../types.js";

/** Items, which may be async and endless, and the request to make for each chunk of them. */
export interface Stream<T> {
  readonly items: Iterable<Item | string> | AsyncIterable<Item | string>;
  readonly call: (chunk: Chunk, signal: AbortSignal) => Call<T[]>;
  readonly hasIds: boolean;
  /** Whether to send a request without items: an empty list is for the server to refuse, an empty stream just ends. */
  readonly sendsEmpty: boolean;
  readonly signal: AbortSignal | undefined;
  readonly onProgress: ((done: number) => void) | undefined;
}

// Enough to keep a server busy while a response travels and the next chunk is encoded.
const IN_FLIGHT = 4;

/**
 * Yields the results in the order of the items, running up to `IN_FLIGHT` chunks and one item ahead. Throws the error
 * of the first chunk that failed. When it ends, for whatever reason, so do the requests in flight.
 */
export async function* pipeline<T>(stream: Stream<T>, transport: Transport): AsyncGenerator<T, void, undefined> {
  const { signal, onProgress } = stream;
  const stop = new AbortController();
  const forward = () => stop.abort(signal?.reason);
  signal?.throwIfAborted();
  signal?.addEventListener("abort", forward, { once: true });
  const inFlight: { chunk: Chunk; results: Promise<T[]> }[] = [];
  const start = (chunk: Chunk) => {
    const results = exchange(stream.call(chunk, stop.signal), transport);
    // Awaited in its turn; until then a rejection must not count as unhandled.
    results.catch(() => {});
    inFlight.push({ chunk, results });
  };
  const chunks = split(stream);
  try {
    for (let ended = false; ; ) {
      while (!ended && inFlight.length < IN_FLIGHT) {
        const { done, value } = await chunks.next();
        if (done) ended = true;
        else start(value);
      }
      const first = inFlight.shift();
      if (first === undefined) return;
      const results = await first.results;
      onProgress?.(first.chunk.end);
      yield* results;
    }
  } finally {
    signal?.removeEventListener("abort", forward);
    stop.abort();
    await chunks.return(undefined);
  }
}

async function* split<T>({ items, hasIds, sendsEmpty }: Stream<T>): AsyncGenerator<Chunk, void, undefined> {
  const chunker = new Chunker(hasIds);
  for await (const item of items) {
    const full = chunker.add(item);
    if (full !== undefined) yield full;
  }
  const last = chunker.last();
  if (last.packed.length > 0 || sendsEmpty) yield last;
}
