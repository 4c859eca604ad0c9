import { afterEach, beforeEach, describe, expect, expectTypeOf, test, vi } from "vitest";
import manifest from "../../package.json" with { type: "json" };
import { type EncodeResult, SDK_VERSION, SIEClient } from "../../src/index.js";
import { CONTRACT_VERSION } from "../../src/version.js";
import { BASE_URL, float32, ITEMS, NdArray, packed, QUERY, SCORED, Server } from "./stand-ins.js";

beforeEach(() => {
  vi.stubEnv("SIE_BASE_URL", undefined);
  vi.stubEnv("SIE_API_KEY", undefined);
});
afterEach(() => {
  vi.unstubAllEnvs();
  vi.restoreAllMocks();
});

const dense = (value: number, fields = {}) => ({
  dense: { dims: 1, dtype: "float32", values: float32([value]) },
  ...fields,
});
const encoded = (...items: unknown[]) =>
  packed({ model: "m", items, timing: { total_ms: 1.5, postprocessing_ms: null } });

/** A WebSocket that never opens. */
class SilentSocket {
  onopen = null;
  onmessage = null;
  onclose = null;
  onerror = null;
  close(): void {}
}

describe("the client", () => {
  test.each([undefined, "", "localhost:8080", "/relative", "ftp://x", "http://x?q=1", "http://x#f", "http://u:p@x"])(
    "no base URL: %s",
    (url) => expect(() => new SIEClient(url)).toThrow(TypeError),
  );

  test("base URL and key from the environment", async () => {
    vi.stubEnv("SIE_BASE_URL", "http://env.test/prefix/");
    vi.stubEnv("SIE_API_KEY", " key ");
    const server = new Server(packed(SCORED));
    const client = new SIEClient(undefined, { fetch: server.fetch as unknown as typeof fetch });
    await client.score("m", QUERY, ITEMS);
    expect(client.getBaseUrl()).toBe("http://env.test/prefix");
    expect(server.sent[0]?.url).toBe("http://env.test/prefix/v1/score/m");
    expect(server.sent[0]?.headers.get("authorization")).toBe("Bearer key");
    await new Server(packed(SCORED)).client({ apiKey: "" }).score("m", QUERY, ITEMS);
  });

  test.each([
    { timeoutMs: 0 },
    { timeoutMs: Number.NaN },
    { timeout: 2 ** 31 },
    { apiKey: "kéy" },
    { headers: { "X-A": "a\nb" } },
  ])("%o can't be right", (options) => expect(() => new SIEClient(BASE_URL, options)).toThrow(/timeout|ASCII/));

  test.each(["", "/", "a/../b", "..", "a//b"])("no model id: %s", async (model) => {
    await expect(new Server().client().score(model, QUERY, ITEMS)).rejects.toThrow("invalid model id");
  });

  test("warns once of options without effect", async () => {
    const warn = vi.spyOn(console, "warn").mockImplementation(() => {});
    const server = new Server(packed(SCORED));
    const client = server.client({ gpu: "batch/l4", org: "o" });
    await client.score("m", QUERY, ITEMS, { gpu: "l4" });
    const reason = "this SDK talks to one server, not to a gateway";
    expect(warn).toHaveBeenCalledExactlyOnceWith(`sie: gpu, org have no effect: ${reason}`);
    await server.client().score("m", QUERY, ITEMS, { gpu: "l4" });
    expect(warn).toHaveBeenLastCalledWith(`sie: gpu has no effect: ${reason}`);
    expect(server.sent[0]?.headers.has("x-sie-machine-profile")).toBe(false);
  });

  test("warns once of each option that the server ignored", async () => {
    const warn = vi.spyOn(console, "warn").mockImplementation(() => {});
    const ignoring = (names: string) => packed(SCORED, { "x-sie-ignored": names });
    const client = new Server(ignoring("options.topk, options.a"), ignoring("options.topk,options.b")).client();
    for (let i = 0; i < 3; i++) await client.score("m", QUERY, ITEMS, { options: { topk: 1 } });
    expect(warn.mock.calls).toEqual(
      ["topk", "a", "b"].map((name) => [`sie: the server does not know options.${name}, and ignored it`]),
    );
  });

  test("names the version of its package", () => expect(SDK_VERSION).toBe(manifest.version));

  test("closes", async () => {
    await expect(new SIEClient(BASE_URL).close()).resolves.toBeUndefined();
  });

  test("closes at the end of a block", async () => {
    const ends: unknown[] = [];
    {
      await using client = new SIEClient(BASE_URL, { webSocket: SilentSocket });
      ends.push(client.watch().next());
    }
    {
      using client = new SIEClient(BASE_URL, { webSocket: SilentSocket });
      ends.push(client.watch().next());
    }
    expect(await Promise.all(ends)).toEqual([
      { done: true, value: undefined },
      { done: true, value: undefined },
    ]);
  });

  test("warns once of a server that is far away in versions", async () => {
    const warn = vi.spyOn(console, "warn").mockImplementation(() => {});
    const far = packed(SCORED, { "x-sie-server-version": "99.0.0" });
    const client = new Server(packed(SCORED, { "x-sie-server-version": "unknown" }), far).client();
    for (let i = 0; i < 3; i++) await client.score("m", QUERY, ITEMS);
    expect(warn).toHaveBeenCalledExactlyOnceWith(expect.stringContaining("the server implements version 99.0.0"));
  });
});

describe("score", () => {
  test("request", async () => {
    const server = new Server(packed(SCORED));
    const client = server.client({ apiKey: "k", options: { a: 1, b: 1 }, headers: { "X-Own": "1" } });
    await client.score("org/model", { id: "q", text: "q" }, ITEMS, { instruction: "I", topK: 3, options: { b: 2 } });
    const [sent] = server.sent;
    expect([sent?.method, sent?.url]).toEqual(["POST", `${BASE_URL}/v1/score/org%2Fmodel`]);
    expect(Object.fromEntries(sent?.headers ?? [])).toEqual({
      accept: "application/msgpack",
      authorization: "Bearer k",
      "content-type": "application/msgpack",
      "x-own": "1",
      "x-sie-model": "org/model",
      "x-sie-sdk-version": CONTRACT_VERSION,
    });
    expect(sent?.body).toEqual({
      query: { id: "q", text: "q" },
      items: ITEMS,
      instruction: "I",
      options: { a: 1, b: 2, top_k: 3 },
    });
  });

  test("omitted options are not sent", async () => {
    const server = new Server(packed(SCORED));
    await server.client().score("m", QUERY, ITEMS);
    expect(server.sent[0]?.body).toEqual({ query: QUERY, items: ITEMS });
    expect(server.sent[0]?.headers.has("authorization")).toBe(false);
  });

  test.each(["images", "audio", "video", "document"])("an item with %s is refused", async (field) => {
    const client = new Server().client();
    const item = { text: "a", [field]: [Uint8Array.of(1)] };
    const inItems = client.score("m", QUERY, [...ITEMS, item]);
    await expect(inItems).rejects.toThrow(
      new TypeError(`Field 'items[2].${field}' is not supported: models read text only`),
    );
    await expect(client.score("m", item, ITEMS)).rejects.toThrow(`Field 'query.${field}' is not supported`);
  });

  test("an item that names no medium is sent", async () => {
    const server = new Server(packed(SCORED));
    const item = { text: "a", images: [], document: null };
    await server.client().score("m", QUERY, [item]);
    expect(server.sent[0]?.body.items).toEqual([item]);
  });

  test("result", async () => {
    const body = {
      ...SCORED,
      query_id: "q",
      usage: { input_tokens: 9 },
      scores: [{ item_id: "", score: 1, rank: 0, tokens: 5, truncated: true, span: [0, 4] }],
    };
    const headers = {
      "x-sie-request-id": "r",
      "x-sie-model-revision": "abc",
      "x-sie-units-gpu": "2",
      "x-total-time": "12.50",
      "x-queue-time": "0.00",
      "x-inference-time": "soon",
    };
    expect(await new Server(packed(body, headers)).client().score("m", QUERY, ITEMS)).toEqual({
      model: "m",
      queryId: "q",
      usage: { inputTokens: 9 },
      scores: [{ itemId: "", score: 1, rank: 0, tokens: 5, truncated: true, span: [0, 4] }],
      timing: { totalMs: 12.5, queueMs: 0 },
      request: { id: "r", modelRevision: "abc", units: { gpu: 2 } },
    });
    const plain = await new Server(packed(SCORED)).client().score("m", QUERY, ITEMS);
    expect(Object.keys(plain)).toEqual(["model", "scores"]);
  });

  test.each([
    {},
    [],
    { model: "m", scores: null },
    { scores: [] },
    { model: "m", scores: [1] },
    { model: "m", scores: [{ item_id: "a", score: 1 }] },
    { model: "m", scores: [{ item_id: "a", score: "1", rank: 0 }] },
  ])("a response without a ranking: %j", async (body) => {
    await expect(new Server(packed(body)).client().score("m", QUERY, ITEMS)).rejects.toThrow(
      "Malformed score MessagePack response (",
    );
  });

  test("JSON where MessagePack was asked for", async () => {
    await expect(new Server(Response.json(SCORED)).client().score("m", QUERY, ITEMS)).rejects.toMatchObject({
      name: "RequestError",
      message: expect.stringContaining("Malformed score MessagePack response"),
    });
  });

  test("a text is an item", async () => {
    const server = new Server(packed(SCORED));
    await server.client().score("m", "q", ["a", { id: "b", text: "b" }]);
    expect(server.sent[0]?.body).toEqual({ query: { text: "q" }, items: [{ text: "a" }, { id: "b", text: "b" }] });
  });

  test("a text is not a list of items", async () => {
    const items = "text" as unknown as [];
    await expect(new Server().client().score("m", QUERY, items)).rejects.toThrow("items must be a list of items");
  });

  test("text that is not Unicode is named", async () => {
    const server = new Server(packed(SCORED));
    await expect(server.client().score("m", QUERY, [...ITEMS, { text: "\ud800" }])).rejects.toThrow("items[2].text");
    await expect(server.client().score("m", { text: "\ud800" }, ITEMS)).rejects.toThrow("query.text");
    expect(server.sent).toEqual([]);
  });
});

describe("encode", () => {
  test("request", async () => {
    const server = new Server(encoded(dense(1)));
    await server.client({ options: { normalize: true } }).encode("m", QUERY, {
      outputTypes: ["dense", "multivector"],
      outputDtype: "int8",
      instruction: "I",
      isQuery: true,
      options: { profile: "p" },
    });
    expect(server.sent[0]?.url).toBe(`${BASE_URL}/v1/encode/m`);
    expect(server.sent[0]?.body).toEqual({
      items: [QUERY],
      params: {
        output_types: ["dense", "multivector"],
        output_dtype: "int8",
        instruction: "I",
        options: { normalize: true, profile: "p", is_query: true },
      },
    });
    await server.client().encode("m", QUERY);
    expect(server.sent[1]?.body).toEqual({ items: [QUERY] });
    await server.client({ options: { is_query: true } }).encode("m", QUERY, { isQuery: false });
    expect(server.sent[2]?.body.params).toEqual({ options: { is_query: false } });
  });

  test("result", async () => {
    const halves = new Uint8Array(Uint16Array.of(0x3c00, 0xc000, 0x3800, 0).buffer);
    const indices = new NdArray("<i4", [2], new Uint8Array(Int32Array.of(3, 7).buffer));
    const entry = dense(0.5, {
      id: "x",
      sparse: { dims: 9, dtype: "float32", indices, values: float32([1, 2]) },
      multivector: { token_dims: 2, num_tokens: 2, dtype: "float16", values: new NdArray("<f2", [2, 2], halves) },
    });
    expect(await new Server(encoded(entry)).client().encode("m", QUERY)).toEqual({
      id: "x",
      model: "m",
      timing: { totalMs: 1.5, postprocessingMs: null },
      dense: Float32Array.of(0.5),
      sparse: { indices: Int32Array.of(3, 7), values: Float32Array.of(1, 2) },
      multivector: [Float32Array.of(1, -2), Float32Array.of(0.5, 0)],
    });
  });

  test("a text is an item", async () => {
    const server = new Server(encoded(dense(1)));
    const client = server.client();
    const result = await client.encode("m", "q");
    expectTypeOf(result).toEqualTypeOf<EncodeResult>();
    expect([result.dense?.[0], server.sent[0]?.body]).toEqual([1, { items: [{ text: "q" }] }]);
    expect(await client.encode("m", ["q"])).toHaveLength(1);
    for await (const { dense } of client.encodeStream("m", ["q"])) expect(dense?.[0]).toBe(1);
  });

  test("a list for a list, in order", async () => {
    const client = new Server(encoded(dense(1), dense(2, { id: "b" }))).client();
    const results = await client.encode("m", ITEMS);
    expectTypeOf(results).toEqualTypeOf<EncodeResult[]>();
    expect(results.map(({ id, dense }) => [id, dense?.[0]])).toEqual([
      [undefined, 1],
      ["b", 2],
    ]);
    expect(await new Server(encoded(dense(1))).client().encode("m", [QUERY])).toHaveLength(1);
  });

  test("an incomplete batch", async () => {
    const body = { model: "m", items: [dense(1, { id: "x" })] };
    const client = new Server(packed(body, { "x-sie-request-id": "r" })).client();
    const items = [{ id: "x", text: "1" }, { id: "y", text: "2" }, { text: "3" }];
    await expect(client.encode("m", items)).rejects.toMatchObject({
      name: "IncompleteBatchError",
      expected: 3,
      received: 1,
      missingIds: ["y"],
      requestId: "r",
    });
  });

  test.each([
    [{ dense: { values: [1] } }, "NumPy array for dense.values"],
    [{ dense: [1] }, "NumPy array for dense.values"],
    [{ dense: { values: float32([1, 2], [1, 2]) } }, "one-dimensional NumPy array"],
    [{ multivector: { values: float32([1, 2]) } }, "two-dimensional NumPy array"],
    [{ sparse: { indices: float32([1]), values: float32([1, 2]) } }, "1 indices but 2 values"],
  ])("a response without an embedding: %o", async (entry, message) => {
    await expect(new Server(encoded(entry)).client().encode("m", QUERY)).rejects.toThrow(message);
  });
});

test("extract", async () => {
  const server = new Server(packed({ model: "m", items: [{ id: "item-0", entities: [{ text: "x" }] }] }));
  const result = await server.client().extract("m", QUERY, { labels: ["person"], outputSchema: { a: 1 } });
  expect(server.sent[0]?.url).toBe(`${BASE_URL}/v1/extract/m`);
  expect(server.sent[0]?.body.params).toEqual({ labels: ["person"], output_schema: { a: 1 } });
  expect(result).toEqual({ id: "item-0", entities: [{ text: "x" }] });
});

test("models", async () => {
  const wire = { name: "a/b", max_sequence_length: 512, last_error: null, profiles: { default: { is_default: true } } };
  const info = { name: "a/b", maxSequenceLength: 512, lastError: null, profiles: { default: { is_default: true } } };
  const server = new Server(Response.json({ models: [wire] }), Response.json(wire));
  const client = server.client();
  expect(await client.listModels()).toEqual([info]);
  expect(await client.getModel("a/b")).toEqual(info);
  expect(server.sent.map(({ method, url }) => [method, url])).toEqual([
    ["GET", `${BASE_URL}/v1/models`],
    ["GET", `${BASE_URL}/v1/models/a%2Fb`],
  ]);
  expect(server.sent[0]?.headers.get("accept")).toBe("application/json");
  await expect(new Server(new Response("<html>")).client().listModels()).rejects.toThrow("Malformed models JSON");
});
