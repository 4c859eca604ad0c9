/** Functions that read embeddings out of an encode result, in the form that vector databases expect. */

import type { EncodeResult, Span, SparseEmbedding, Vector } from "../types.js";

/** Returns the dense embedding. @throws RangeError if there is none. */
export function denseEmbedding(result: EncodeResult): Vector {
  return present(result.dense, "dense");
}

/** Returns one vector per token. @throws RangeError if there is none. */
export function multivectorEmbedding(result: EncodeResult): Vector[] {
  return present(result.multivector, "multivector");
}

/** Returns the sparse embedding. @throws RangeError if there is none. */
export function sparseEmbedding(result: EncodeResult): SparseEmbedding {
  return present(result.sparse, "sparse");
}

/** Returns the sparse embedding as a map from vocabulary id to weight. @throws RangeError if there is none. */
export function sparseEmbeddingMap(result: EncodeResult): Map<number, number> {
  const { indices, values } = sparseEmbedding(result);
  return new Map(Array.from(indices, (index, i) => [index, values[i] as number]));
}

/** Scales the vector to unit L2 length, so that dot products are cosines. A zero vector stays as it is. */
export function normalizeSparseVector({ indices, values }: SparseEmbedding): SparseEmbedding {
  const length = Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
  return { indices, values: length > 0 ? values.map((value) => value / length) : values };
}

/** Converts a vector to plain numbers, for JSON and for libraries that take nothing else. */
export function toNumberArray(vector: ArrayLike<number>): number[] {
  return Array.from(vector);
}

/** Converts a vector to float32; returns a `Float32Array` as it is. */
export function toFloat32Array(vector: ArrayLike<number>): Float32Array {
  return vector instanceof Float32Array ? vector : Float32Array.from(vector);
}

/** Returns the part of a text in a `span` or a highlight, which count code points; strings count UTF-16 units. */
export function spanText(text: string, [start, end]: Span): string {
  return Array.from(text).slice(start, end).join("");
}

function present<T>(embedding: T | undefined, kind: string): T {
  if (embedding === undefined) {
    throw new RangeError(`the result has no ${kind} embedding; request it with outputTypes: ["${kind}"]`);
  }
  return embedding;
}
