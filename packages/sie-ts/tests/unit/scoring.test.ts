import { expect, test } from "vitest";
import {
  denseEmbedding,
  multivectorEmbedding,
  normalizeSparseVector,
  spanText,
  sparseEmbedding,
  sparseEmbeddingMap,
  toFloat32Array,
  toNumberArray,
} from "../../src/index.js";
import { dotProduct, maxsim, maxsimBatch, maxsimDocuments } from "../../src/scoring.js";

const rows = (...values: number[][]) => values.map((row) => Float32Array.from(row));
const query = rows([1, 0], [0, 1]);
const documents = [rows([1, 0], [0.5, 0.5]), rows([0, 1])];

test("MaxSim is the sum over the query of the best product", () => {
  expect(maxsim(query, documents[0] as Float32Array[])).toBe(1.5);
  expect(maxsimDocuments(query, documents)).toEqual([1.5, 1]);
  expect(maxsim(rows([-1, 0]), rows([1, 0], [0.5, 0]))).toBe(-0.5);
});

test("no tokens, no score", () => {
  expect(maxsim(query, [])).toBe(0);
  expect(maxsim([], documents[0] as Float32Array[])).toBe(0);
  expect(maxsimDocuments(query, [])).toEqual([]);
});

test("a batch is flat, query by query", () => {
  expect(maxsimBatch([query, rows([2, 0])], documents)).toEqual(Float32Array.of(1.5, 1, 2, 0));
});

test.each([1, 2, 3, 4, 5, 8, 383])("dot product of %i dimensions", (n) => {
  const [a, b] = [Array.from({ length: n }, (_, i) => i - 3), Int8Array.from({ length: n }, (_, i) => (i % 5) - 2)];
  expect(dotProduct(a, b)).toBe(a.reduce((sum, value, i) => sum + value * (b[i] as number), 0));
});

test("vectors of other widths have no product", () => {
  expect(() => dotProduct([1, 2], [1])).toThrow(RangeError);
  expect(() => maxsim(query, rows([1, 0, 0]))).toThrow("equal dimensions, got 2 and 3");
});

const sparse = { indices: Int32Array.of(3, 7), values: Float32Array.of(3, 4) };

test("embeddings out of a result", () => {
  const [dense, multivector] = [Float32Array.of(1), rows([1], [2])];
  expect(denseEmbedding({ dense })).toBe(dense);
  expect(multivectorEmbedding({ multivector })).toBe(multivector);
  expect(sparseEmbedding({ sparse })).toBe(sparse);
  expect(sparseEmbeddingMap({ sparse })).toEqual(
    new Map([
      [3, 3],
      [7, 4],
    ]),
  );
  expect(() => denseEmbedding({ sparse })).toThrow('no dense embedding; request it with outputTypes: ["dense"]');
});

test("conversions", () => {
  expect(normalizeSparseVector(sparse)).toEqual({ indices: sparse.indices, values: Float32Array.of(0.6, 0.8) });
  const zeros = { indices: Int32Array.of(1), values: Float32Array.of(0) };
  expect(normalizeSparseVector(zeros)).toEqual(zeros);
  expect(toNumberArray(Int8Array.of(1, -1))).toEqual([1, -1]);
  expect(toFloat32Array(sparse.values)).toBe(sparse.values);
  expect(toFloat32Array(Int8Array.of(1, -1))).toEqual(Float32Array.of(1, -1));
  expect(spanText("a\u{1F600}bc", [1, 3])).toBe("\u{1F600}b");
});
