/**
 * Late-interaction scores from token vectors, computed on the client.
 *
 * MaxSim (Khattab and Zaharia, "ColBERT", 2020): the best match of each query token among the document's tokens, summed
 * over the query, without normalization or averaging.
 *
 * @packageDocumentation
 */

/** A vector: a typed array of a result, or plain numbers. */
export type Numbers = ArrayLike<number>;

/**
 * Computes the dot product of two vectors.
 *
 * @throws RangeError if they differ in length.
 */
export function dotProduct(a: Numbers, b: Numbers): number {
  const length = a.length;
  if (b.length !== length) throw new RangeError(`vectors must have equal dimensions, got ${length} and ${b.length}`);
  // Four sums, because each addition waits for the one before it.
  let s0 = 0;
  let s1 = 0;
  let s2 = 0;
  let s3 = 0;
  let i = 0;
  for (; i + 3 < length; i += 4) {
    s0 += (a[i] as number) * (b[i] as number);
    s1 += (a[i + 1] as number) * (b[i + 1] as number);
    s2 += (a[i + 2] as number) * (b[i + 2] as number);
    s3 += (a[i + 3] as number) * (b[i + 3] as number);
  }
  for (; i < length; i++) s0 += (a[i] as number) * (b[i] as number);
  return s0 + s1 + s2 + s3;
}

/**
 * Computes MaxSim of a query and one document, each a list of token vectors; 0 if either has none.
 *
 * @throws RangeError if the vectors differ in length.
 */
export function maxsim(query: readonly Numbers[], document: readonly Numbers[]): number {
  if (document.length === 0) return 0;
  let score = 0;
  for (const token of query) {
    let best = -Infinity;
    for (const other of document) best = Math.max(best, dotProduct(token, other));
    score += best;
  }
  return score;
}

/** Computes MaxSim of a query and each document, in their order. */
export function maxsimDocuments(query: readonly Numbers[], documents: readonly (readonly Numbers[])[]): number[] {
  return documents.map((document) => maxsim(query, document));
}

/** Computes MaxSim of every query and every document: `scores[q * documents.length + d]`. */
export function maxsimBatch(
  queries: readonly (readonly Numbers[])[],
  documents: readonly (readonly Numbers[])[],
): Float32Array {
  return Float32Array.from(queries.flatMap((query) => maxsimDocuments(query, documents)));
}
