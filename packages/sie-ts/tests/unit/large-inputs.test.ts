/** Large inputs are split, sent a few requests at a time, and merged. */

import { expect, test, vi } from "vitest";
import type { Item } from "../../src/index.js";
import { float32, packed, refused, type Sent, Server } from "./stand-ins.js";

const QUERY = { id: "q", text: "0" };
const numbers = (n: number): Item[] => Array.from({ length: n }, (_, i) => ({ text: String(i) }));
const firstText = ({ body }: Sent) => Number(body.items[0].text);

/** Answers like a server, each request by itself. A text is a number: its score, and its whole embedding. */
function engine({ url, body }: Sent): Response {
  const items: Item[] = body.items;
  const id = (i: number) => items[i]?.id ?? `item-${i}`;
  if (url.includes("/encode/")) {
    return packed({ model: "m", items: items.map(({ text }) => ({ dense: { values: float32([Number(text)]) } })) });
  }
  if (url.includes("/extract/")) return packed({ model: "m", items: items.map((_, i) => ({ id: id(i) })) });
  const scored = items
    .map(({ text }, i) => ({ item_id: id(i), score: Number(text) }))
    .sort((a, b) => b.score - a.score);
  const scores = scored.slice(0, body.options?.top_k).map((entry, rank) => ({ ...entry, rank }));
  return packed({ model: "m", query_id: body.query.id, scores, usage: { input_tokens: items.length } });
}

const sizes = (server: Server) => server.sent.map(({ body }) => body.items.length).sort((a, b) => b - a);

test.each([
  [1, [1]],
  [256, [256]],
  [257, [256, 1]],
  [2000, [...Array(7).fill(256), 208]],
])("encode %i items in order", async (n, expected) => {
  const server = new Server(engine);
  const results = await server.client().encode("m", numbers(n));
  expect(results.map(({ dense }) => dense?.[0])).toEqual(numbers(n).map(({ text }) => Number(text)));
  expect(sizes(server)).toEqual(expected);
});

test("one ranking of all parts, ties in their order, ids as in a single request", async () => {
  const items = numbers(600).map(({ text }, i) => ({
    text: String(Number(text) % 3),
    ...(i === 500 && { id: "mine" }),
  }));
  const { scores, queryId, usage } = await new Server(engine).client().score("m", QUERY, items);
  const expected = items
    .map(({ text, id }, i) => ({ itemId: id ?? `item-${i}`, score: Number(text) }))
    .sort((a, b) => b.score - a.score)
    .map((entry, rank) => ({ ...entry, rank }));
  expect(scores).toEqual(expected);
  expect([queryId, usage]).toEqual(["q", { inputTokens: 600 }]);
});

test("the best so many of all parts", async () => {
  const { scores } = await new Server(engine).client().score("m", QUERY, numbers(600), { topK: 2 });
  expect(scores.map(({ itemId, rank }) => [itemId, rank])).toEqual([
    ["item-599", 0],
    ["item-598", 1],
  ]);
});

test("extract", async () => {
  const results = await new Server(engine).client().extract("m", numbers(300));
  expect(results.map(({ id }) => id)).toEqual(numbers(300).map((_, i) => `item-${i}`));
});

test("large items go in small parts, one too large goes alone", async () => {
  const server = new Server(engine);
  const item = { text: `1${" ".repeat(300_000)}` };
  expect(
    await server.client().encode("m", [...Array(8).fill(item), { text: `1${" ".repeat(2 ** 20 + 1000)}` }]),
  ).toHaveLength(9);
  expect(sizes(server)).toEqual([3, 3, 2, 1]);
  expect(server.sent.filter(({ bytes }) => bytes > 2 ** 20 + 100)).toHaveLength(1);
});

test("an empty list is the server's to refuse, an empty stream is empty", async () => {
  const server = new Server(refused(400, "INVALID_INPUT", "Field 'items' must not be empty"));
  await expect(server.client().encode("m", [])).rejects.toThrow("must not be empty");
  for await (const _ of server.client().encodeStream("m", [])) expect.unreachable();
  expect(sizes(server)).toEqual([0]);
});

test("four at a time", async () => {
  let [now, most] = [0, 0];
  const server = new Server(async (sent) => {
    most = Math.max(most, ++now);
    await new Promise((resolve) => setTimeout(resolve, 5));
    now--;
    return engine(sent);
  });
  await server.client().encode("m", numbers(256 * 10));
  expect(most).toBe(4);
});

test("a stream reads no further than it must, from any iterable", async () => {
  let pulled = 0;
  async function* source() {
    for (const item of numbers(4000)) {
      pulled++;
      yield item;
    }
  }
  let taken = 0;
  const done: number[] = [];
  const onProgress = (count: number) => done.push(count);
  for await (const { dense } of new Server(engine).client().encodeStream("m", source(), { onProgress })) {
    expect(dense?.[0]).toBe(taken++);
    expect(pulled).toBeLessThanOrEqual(taken + 4 * 256 + 1);
  }
  expect([taken, pulled]).toEqual([4000, 4000]);
  expect(done).toEqual([...Array.from({ length: 15 }, (_, i) => 256 * (i + 1)), 4000]);
});

test("leaving a stream early ends its source and the requests under way", async () => {
  const closed = vi.fn();
  function* source() {
    try {
      yield* numbers(4000);
    } finally {
      closed();
    }
  }
  const server = new Server(engine);
  const signals = () => server.fetch.mock.calls.map(([, init]) => init?.signal?.aborted);
  for await (const _ of server.client().encodeStream("m", source())) break;
  expect(closed).toHaveBeenCalledOnce();
  expect(signals().length).toBeLessThanOrEqual(5);
});

test("the first error by position is thrown, in the caller's numbers", async () => {
  const server = new Server((sent) =>
    firstText(sent) >= 256
      ? refused(400, "INVALID_INPUT", "at `$.items[2].text`", {}, { param: "items[2]" })
      : engine(sent),
  );
  await expect(server.client().encode("m", numbers(1000))).rejects.toMatchObject({
    message: "at `$.items[258].text`",
    param: "items[258]",
  });
});

test("requests in flight end with the error, and with the signal", async () => {
  const server = new Server(({ body }) => {
    if (body.items[0].text === "0") return refused(400, "INVALID_INPUT");
    return new Promise<Response>(() => {});
  });
  await expect(server.client().encode("m", numbers(1000))).rejects.toThrow("no");
  const aborted = server.fetch.mock.calls.slice(1).map(([, init]) => init?.signal?.aborted);
  expect(aborted).toEqual([true, true, true]);
});
