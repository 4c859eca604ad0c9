/** Bytes on the wire: the client sends and reads the requests and responses recorded in the server's `wire.json`. */

import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { type EncodeOptions, type EncodeResult, type ModelInfo, SIEClient, unpackMessage } from "../../src/index.js";

// biome-ignore lint/suspicious/noExplicitAny: bodies of every shape
type Body = any;

interface Message {
  body: Body;
  json: string;
  msgpack?: string;
}

interface Exchange {
  name: string;
  method: string;
  path: string;
  request?: Message;
  status: number;
  answer: Message;
  retry_after?: string;
  sdk?: "score" | "encode" | "list_models" | "get_model";
  raises?: string;
}

const path = new URL("../../../sie-server/tests/wire.json", import.meta.url);
const { exchanges } = JSON.parse(readFileSync(path, "utf8")) as { exchanges: Exchange[] };
const answered = exchanges.filter(({ raises }) => raises === undefined);
const named = (name: string) => exchanges.find((exchange) => exchange.name === name) as Exchange;

/** Returns a client whose server gives the response of an exchange, and the requests sent to it. */
function served({ status, answer, retry_after }: Exchange) {
  const sent: { url: string; init: RequestInit }[] = [];
  const content = answer.msgpack === undefined ? answer.json : Uint8Array.from(Buffer.from(answer.msgpack, "hex"));
  const fetch = async (input: unknown, init: RequestInit = {}) => {
    sent.push({ url: String(input), init });
    return new Response(content, { status, headers: retry_after ? { "retry-after": retry_after } : {} });
  };
  return { client: new SIEClient("http://sie.test", { fetch: fetch as typeof globalThis.fetch }), sent };
}

/** Makes the SDK call that sends the request of an exchange, or any call that gets its response. */
async function call(client: SIEClient, { sdk, path, request }: Exchange): Promise<Body> {
  const model = path.split("/").slice(3).join("/");
  const body = request?.body;
  const once = { provisionTimeout: 0 };
  switch (sdk) {
    case "list_models":
      return client.listModels();
    case "get_model":
      return client.getModel(model);
    case "encode": {
      const { output_types: outputTypes, output_dtype: outputDtype, instruction, options } = body.params ?? {};
      const { is_query: isQuery, ...others } = options ?? {};
      const asked: EncodeOptions = { outputTypes, outputDtype, instruction, isQuery, options: others, ...once };
      return client.encode(model, body.items, asked);
    }
    case "score":
      return client.score(model, body.query, body.items, {
        instruction: body.instruction,
        options: body.options,
        ...once,
      });
    default:
      return client.score("m", { text: "q" }, [{ text: "d" }], once);
  }
}

const bySdk = exchanges.filter(({ sdk }) => sdk !== undefined);

test.each(bySdk)("request: $name", async (exchange) => {
  const { client, sent } = served(exchange);
  await call(client, exchange).catch(() => expect(exchange.raises).toBeDefined());
  expect(sent).toHaveLength(1);
  const [{ url, init }] = sent as [(typeof sent)[0]];
  expect([init.method, decodeURIComponent(new URL(url).pathname)]).toEqual([exchange.method, exchange.path]);
  const bytes = Buffer.from((init.body as Uint8Array | null) ?? []).toString("hex");
  expect(bytes).toBe(exchange.request?.msgpack ?? "");
});

test.each(answered.filter(({ sdk }) => sdk === "score"))("ranking: $name", async (exchange) => {
  const { model, query_id, scores, usage } = exchange.answer.body;
  expect(await call(served(exchange).client, exchange)).toEqual({
    model,
    ...(query_id !== null && { queryId: query_id }),
    scores: scores.map(({ item_id, ...entry }: Body) => ({ itemId: item_id, ...entry })),
    usage: { inputTokens: usage.input_tokens },
  });
});

const ARRAYS: Record<string, (values: number[]) => unknown> = {
  float32: (values) => Float32Array.from(values),
  float16: (values) => Float32Array.from(values),
  int8: (values) => Int8Array.from(values),
  uint8: (values) => Uint8Array.from(values),
  binary: (values) => Uint8Array.from(values),
};

test.each(answered.filter(({ sdk }) => sdk === "encode"))("embeddings: $name", async (exchange) => {
  const { model, items, timing } = exchange.answer.body;
  const expected = items.map(({ id, dense, sparse, multivector }: Body) => ({
    ...(id !== undefined && { id }),
    ...(dense && { dense: ARRAYS[dense.dtype]?.(dense.values) }),
    ...(sparse && { sparse: { indices: Int32Array.from(sparse.indices), values: Float32Array.from(sparse.values) } }),
    ...(multivector && { multivector: multivector.values.map(ARRAYS[multivector.dtype]) }),
    model,
    timing: {
      totalMs: timing.total_ms,
      queueMs: timing.queue_ms,
      tokenizationMs: timing.tokenization_ms,
      inferenceMs: timing.inference_ms,
      postprocessingMs: timing.postprocessing_ms,
    },
  }));
  expect(await call(served(exchange).client, exchange)).toEqual(expected);
});

test("models", async () => {
  const models: ModelInfo[] = await call(served(named("models")).client, named("models"));
  const camelCase = (name: string) => name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());
  const said = named("models").answer.body.models.map((model: Body) =>
    Object.fromEntries(Object.entries(model).map(([name, value]) => [camelCase(name), value])),
  );
  expect(models).toEqual(said);
  expect(models).toContainEqual(await call(served(named("one model")).client, named("one model")));
});

test.each(exchanges.filter(({ raises }) => raises !== undefined))("error: $name", async (exchange) => {
  const { detail, error } = exchange.answer.body;
  const fields = error ?? (typeof detail === "string" ? { message: detail } : detail);
  await expect(call(served(exchange).client, exchange)).rejects.toMatchObject({
    name: exchange.raises,
    message: expect.stringContaining(fields.message),
    code: fields.code,
    statusCode: exchange.status,
    retryAfter: exchange.retry_after && Number(exchange.retry_after) * 1000,
    ...(fields.param && { param: fields.param }),
    ...(fields.error_class && { errorClass: fields.error_class }),
    ...(fields.attempts && { attempts: fields.attempts, permanent: fields.permanent }),
  });
});

test("embeddings of the route like OpenAI's are those of encode", async () => {
  const results: EncodeResult[] = await call(served(named("encode")).client, named("encode"));
  const dense = results.map((result) => result.dense as Float32Array);
  const data = (values: unknown[]) => values.map((embedding, index) => ({ index, embedding, object: "embedding" }));
  const [plain, base64] = [named("embeddings"), named("embeddings in base64")].map((exchange) => exchange.answer.json);
  expect(JSON.parse(plain as string).data).toEqual(data(dense.map((values) => Array.from(values))));
  const encoded = dense.map(({ buffer }) => Buffer.from(buffer).toString("base64"));
  expect(JSON.parse(base64 as string).data).toEqual(data(encoded));
});

// The client would take text as well, other clients do not.
test.each(answered.filter(({ sdk }) => sdk === "encode"))("the keys of arrays are bytes: $name", ({ answer }) => {
  const arrays = answer.body.items.flatMap(({ dense, sparse, multivector }: Body) =>
    [dense, sparse, sparse, multivector].filter(Boolean),
  );
  // nd, true, type; kind, nothing, shape; data
  for (const keys of ["c4026e64c3c40474797065", "c4046b696e64c400c4057368617065", "c40464617461c4"]) {
    expect(answer.msgpack?.split(keys)).toHaveLength(arrays.length + 1);
  }
});

describe("all forms say the same", () => {
  const messages = exchanges.flatMap(({ name, request, answer }) => [
    ...(request ? [[`request: ${name}`, request] as const] : []),
    [`answer: ${name}`, answer] as const,
  ]);
  test.each(messages)("%s", (_, { body, json, msgpack }) => {
    expect(JSON.stringify(body)).toBe(json);
    if (msgpack) expect(JSON.stringify(listed(unpackMessage(Buffer.from(msgpack, "hex"))))).toBe(json);
  });
});

/** Returns the value with lists in place of arrays. */
function listed(value: unknown): unknown {
  if (ArrayBuffer.isView(value)) return Array.from(value as Uint8Array);
  if (Array.isArray(value)) return value.map(listed);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, field]) => [name, listed(field)]));
}
