/** Embeddings out of an encode result, in the shape that vector databases take them. */

import type { EncodeResult, Span, SparseEmbedding, Vector } from "./types.js";

/** The dense embedding. @throws RangeError if the result has none. */
export function denseEmbedding(result: EncodeResult): Vector {
  return present(result.dense, "dense");
}

/** One vector per token. @throws RangeError if the result has none. */
export function multivectorEmbedding(result: EncodeResult): Vector[] {
  return present(result.multivector, "multivector");
}

/** The sparse embedding. @throws RangeError if the result has none. */
export function sparseEmbedding(result: EncodeResult): SparseEmbedding {
  return present(result.sparse, "sparse");
}

/** The sparse embedding as weight by vocabulary id. @throws RangeError if the result has none. */
export function sparseEmbeddingMap(result: EncodeResult): Map<number, number> {
  const { indices, values } = sparseEmbedding(result);
  return new Map(Array.from(indices, (index, i) => [index, values[i] as number]));
}

/** The vector at unit L2 length, so that dot products are cosines. A vector of zeros stays as it is. */
export function normalizeSparseVector({ indices, values }: SparseEmbedding): SparseEmbedding {
  const length = Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
  return { indices, values: length > 0 ? values.map((value) => value / length) : values };
}

/** Plain numbers, for JSON and for clients that take nothing else. */
export function toNumberArray(vector: ArrayLike<number>): number[] {
  return Array.from(vector);
}

/** The same numbers as float32; a `Float32Array` as it is. */
export function toFloat32Array(vector: ArrayLike<number>): Float32Array {
  return vector instanceof Float32Array ? vector : Float32Array.from(vector);
}

/** The part of a text that a `span` or a highlight means: they count code points, strings count UTF-16 units. */
export function spanText(text: string, [start, end]: Span): string {
  return Array.from(text).slice(start, end).join("");
}

function present<T>(embedding: T | undefined, kind: string): T {
  if (embedding === undefined) {
    throw new RangeError(`the result has no ${kind} embedding; ask for it with outputTypes: ["${kind}"]`);
  }
  return embedding;
}
