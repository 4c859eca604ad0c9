/** The SDK against a running server. */

import { expect, inject, test } from "vitest";
import { WebSocket } from "ws";
import { maxsimDocuments, type OutputDType, SIEClient, spanText } from "../../src/index.js";
import { MODEL } from "./server.js";

const client = new SIEClient(inject("url"));
const QUERY = { id: "q1", text: "What is Python?" };
const ITEMS = [
  { id: "doc-1", text: "Python is a programming language." },
  { id: "doc-2", text: "Snakes are reptiles." },
  { text: "Python was created by Guido van Rossum." },
];

test("score ranks and names every item", async () => {
  const result = await client.score(MODEL, QUERY, ITEMS, { options: { return_tokens: true } });
  expect(result).toMatchObject({ model: MODEL, queryId: "q1" });
  expect(result.scores.map(({ itemId, rank }) => [itemId, rank])).toEqual([
    ["doc-1", 0],
    ["item-2", 1],
    ["doc-2", 2],
  ]);
  expect(result.scores[0]).toMatchObject({ tokens: expect.any(Number), truncated: false });
  expect(result.usage?.inputTokens).toBeGreaterThan(20);
  expect(result.request?.id).toMatch(/^[0-9a-f]{32}$/);
});

test("top k", async () => {
  expect((await client.score(MODEL, QUERY, ITEMS, { topK: 1 })).scores).toHaveLength(1);
});

test("MaxSim here and on the server agree", async () => {
  const { scores } = await client.score(MODEL, QUERY, ITEMS);
  const [query, documents] = await Promise.all([
    client.encode(MODEL, QUERY, { outputTypes: ["multivector"], isQuery: true }),
    client.encode(MODEL, ITEMS, { outputTypes: ["multivector"] }),
  ]);
  const ours = maxsimDocuments(
    query.multivector ?? [],
    documents.map(({ multivector }) => multivector ?? []),
  );
  const theirs = ["doc-1", "doc-2", "item-2"].map((id) => scores.find(({ itemId }) => itemId === id)?.score);
  for (const [i, score] of ours.entries()) expect(score).toBeCloseTo(theirs[i] as number, 4);
});

test("encode gives typed arrays", async () => {
  const one = await client.encode(MODEL, QUERY);
  expect(one.id).toBe("q1");
  expect(one.dense).toBeInstanceOf(Float32Array);
  expect(Math.hypot(...(one.dense ?? []))).toBeCloseTo(1, 5);
  expect(one.timing?.totalMs).toBeGreaterThan(0);
  const many = await client.encode(MODEL, ITEMS, { outputTypes: ["dense", "multivector"] });
  expect(many.map(({ id }) => id)).toEqual(["doc-1", "doc-2", undefined]);
  expect(many[0]?.multivector?.map(({ length }) => length)).toEqual(Array(8).fill(384));
});

test.each<[OutputDType, object, number]>([
  ["float32", Float32Array, 384],
  ["float16", Float32Array, 384],
  ["int8", Int8Array, 384],
  ["uint8", Uint8Array, 384],
  ["binary", Uint8Array, 48],
  ["ubinary", Uint8Array, 48],
])("%s", async (outputDtype, kind, length) => {
  const { dense, multivector } = await client.encode(MODEL, QUERY, {
    outputDtype,
    outputTypes: ["dense", "multivector"],
  });
  expect([dense?.constructor, dense?.length]).toEqual([kind, length]);
  expect([multivector?.[0]?.constructor, multivector?.[0]?.length]).toEqual([kind, length]);
});

test("float16 is float32 rounded", async () => {
  const [exact, half] = await Promise.all([
    client.encode(MODEL, QUERY),
    client.encode(MODEL, QUERY, { outputDtype: "float16" }),
  ]);
  const differences = Array.from(exact.dense ?? [], (value, i) => Math.abs((half.dense?.[i] ?? 9) - value));
  expect(differences).toHaveLength(384);
  expect(Math.max(...differences)).toBeLessThanOrEqual(2 ** -13);
});

test("spans are parts of the text, whatever its characters", async () => {
  const text = `${"\u{1F40D} Snakes are reptiles. ".repeat(120)}\u{1F40D} Python is a programming language.`;
  const { scores } = await client.score(MODEL, QUERY, [{ text }], { options: { long_documents: "chunk_max" } });
  expect(spanText(text, scores[0]?.span ?? [0, 0])).toContain("programming language");
});

test("more items than a request takes", async () => {
  const items = Array.from({ length: 600 }, (_, i) => ({ text: i === 555 ? QUERY.text : `Passage ${i}.` }));
  const { scores } = await client.score(MODEL, QUERY, items);
  expect(scores[0]?.itemId).toBe("item-555");
  expect(scores.map(({ rank }) => rank)).toEqual(items.map((_, i) => i));
});

test("the server is watched", async () => {
  const watching = new SIEClient(inject("url"), { webSocket: WebSocket });
  const seen = [];
  for await (const status of watching.watch("worker")) {
    if (seen.push(status) === 2) await watching.close();
  }
  expect(seen.map(({ loaded_models }) => loaded_models)).toEqual([[MODEL], [MODEL]]);
  expect(seen[0]?.models[0]).toMatchObject({ name: MODEL, state: "loaded", queue_depth: 0, config: { hf_id: MODEL } });
  expect(seen[1]?.timestamp).toBeGreaterThan(seen[0]?.timestamp ?? 0);
});

test("models", async () => {
  expect((await client.listModels()).map(({ name }) => name)).toContain(MODEL);
  expect(await client.getModel(MODEL)).toMatchObject({
    loaded: true,
    state: "loaded",
    maxSequenceLength: 256,
    lastError: null,
    dims: { dense: 384, multivector: 384 },
    score: "maxsim",
  });
});

test("errors carry the server's message", async () => {
  const unknown = client.score(`${MODEL}x`, QUERY, ITEMS);
  await expect(unknown).rejects.toMatchObject({ name: "RequestError", code: "MODEL_NOT_FOUND", statusCode: 404 });
  await expect(unknown).rejects.toThrow("Did you mean");
  await expect(unknown).rejects.toHaveProperty("requestId", expect.stringMatching(/^[0-9a-f]{32}$/));
  await expect(client.score(MODEL, QUERY, [])).rejects.toThrow("must not be empty");
  const wrong = [...Array(300).fill({ text: "" }), { text: 1 as unknown as string }];
  await expect(client.score(MODEL, QUERY, wrong)).rejects.toThrow("$.items[300].text");
  const failed = client.score("BAAI/bge-reranker-base", QUERY, ITEMS);
  await expect(failed).rejects.toMatchObject({
    name: "ModelLoadFailedError",
    code: "MODEL_LOAD_FAILED",
    statusCode: 502,
  });
  await expect(client.extract(MODEL, QUERY)).rejects.toMatchObject({ code: "INVALID_INPUT", statusCode: 400 });
});
