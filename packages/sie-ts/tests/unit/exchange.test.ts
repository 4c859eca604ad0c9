/** Calls that do not succeed at once: errors, retries, time limits and cancellation. */

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import * as errors from "../../src/errors.js";
import type { ScoreOptions } from "../../src/index.js";
import { fetchFailed, ITEMS, packed, QUERY, refused, SCORED, Server } from "./stand-ins.js";

const start = Date.UTC(2026, 0, 1);

beforeEach(() => {
  vi.useFakeTimers({ now: start });
  vi.spyOn(Math, "random").mockReturnValue(0);
  vi.spyOn(console, "warn").mockImplementation(() => {});
});
afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

/** Returns the outcome of a call and the seconds it waited, on a clock that only its waits advance. */
async function ask(server: Server, options: ScoreOptions = {}) {
  const outcome = server
    .client()
    .score("m", QUERY, ITEMS, options)
    .catch((error: unknown) => error);
  await vi.runAllTimersAsync();
  return { outcome: await outcome, waited: (Date.now() - start) / 1000 };
}

describe("errors", () => {
  test.each([
    [refused(400, "INVALID_INPUT", "bad"), "RequestError", "INVALID_INPUT", "bad"],
    [Response.json({ error: { code: "X", message: "m" } }, { status: 400 }), "RequestError", "X", "m"],
    [Response.json({ detail: { error: { code: "X", message: "m" } } }, { status: 404 }), "RequestError", "X", "m"],
    [Response.json({ detail: "Not Found" }, { status: 404 }), "RequestError", undefined, "Not Found"],
    [Response.json({ error: "a", detail: "b" }, { status: 503 }), "ServerError", undefined, "b"],
    [Response.json([1], { status: 500 }), "ServerError", undefined, /HTTP 500: \[1\]/],
    [
      new Response("<h1>Bad\n Gateway</h1>", { status: 502 }),
      "ServerError",
      undefined,
      "HTTP 502: <h1>Bad Gateway</h1>",
    ],
    [new Response(null, { status: 500 }), "ServerError", undefined, "HTTP 500 with an empty body"],
    [refused(500, "A", "m", { "x-sie-error-code": "B" }), "ServerError", "B", "m"],
    [
      new Response(null, { status: 307, headers: { location: "/x" } }),
      "RequestError",
      undefined,
      /redirected to \/x; .*base URL/,
    ],
  ])("%#", async (response, name, code, message) => {
    const { outcome } = await ask(new Server(response));
    expect(outcome).toBeInstanceOf(errors.SIEError);
    expect(outcome).toMatchObject({ name, code, statusCode: response.status, message: expect.stringMatching(message) });
  });

  test("carry the details in the headers", async () => {
    const { outcome } = await ask(new Server(refused(503, "X", "m", { "retry-after": "7", "x-sie-request-id": "r" })));
    expect(outcome).toMatchObject({ retryAfter: 7000, requestId: "r", request: { id: "r" } });
  });

  test("carry the details that their class has fields for", async () => {
    const extras = { error_class: "GATED", permanent: true, attempts: 2, param: "query" };
    const failed = await ask(new Server(refused(502, "MODEL_LOAD_FAILED", "m", {}, extras)));
    expect(failed.outcome).toBeInstanceOf(errors.ServerError);
    expect(failed.outcome).toMatchObject({ model: "m", errorClass: "GATED", permanent: true, attempts: 2 });
    const refusedInput = await ask(new Server(refused(400, "INVALID_INPUT", "m", {}, extras)));
    expect(refusedInput.outcome).toMatchObject({ param: "query" });
    const lora = await ask(new Server(refused(503, "LORA_LOADING")), { options: { lora_id: "l" } });
    expect(lora.outcome).toMatchObject({ name: "LoraLoadingError", lora: "l", model: "m" });
    const provisioning = await ask(new Server(refused(503, "PROVISIONING")), { waitForCapacity: false });
    expect(provisioning.outcome).toMatchObject({ name: "ProvisioningError", gpu: undefined });
    const memory = await ask(new Server(refused(503, "RESOURCE_EXHAUSTED")), { maxOomRetries: 1 });
    expect(memory.outcome).toMatchObject({ name: "ResourceExhaustedError", retries: 1 });
  });
});

describe("a missing route is answered with the nearest", () => {
  const at = "http://sie.test:8080";
  test.each([
    [at, `no (${at}/v1/score/m); check that ${at} is the address of an SIE server`],
    [`${at}/v1`, `no (${at}/v1/v1/score/m); the nearest route is ${at}/v1/score/m: try the base URL ${at}`],
    [
      `${at}/p/v1/rerank/`,
      `no (${at}/p/v1/rerank/v1/score/m); the nearest route is ${at}/p/v1/score/m: try the base URL ${at}/p`,
    ],
    [`${at}/rerank`, `no (${at}/rerank/v1/score/m); the nearest route is ${at}/v1/score/m: try the base URL ${at}`],
  ])("%s", async (baseUrl, message) => {
    const missing = new Server(refused(404)).client({}, baseUrl);
    await expect(missing.score("m", QUERY, ITEMS)).rejects.toMatchObject({ name: "RequestError", message });
    const unknown = new Server(refused(404, "MODEL_NOT_FOUND")).client({}, baseUrl);
    await expect(unknown.score("m", QUERY, ITEMS)).rejects.toMatchObject({ message: "no" });
  });
});

describe("waits", () => {
  test("until the model is loaded", async () => {
    const loading = refused(503, "MODEL_LOADING", "m", { "retry-after": "2" });
    const { outcome, waited } = await ask(new Server(loading, loading, packed(SCORED)));
    expect(outcome).toMatchObject({ model: "m" });
    expect(waited).toBe(4);
  });

  test("until the budget is spent", async () => {
    const server = new Server(refused(503, "MODEL_LOADING", "still loading", { "retry-after": "2" }));
    const { outcome, waited } = await ask(server, { provisionTimeout: 5000 });
    expect(outcome).toMatchObject({ name: "ModelLoadingError", message: "still loading", model: "m" });
    expect([server.sent.length, waited]).toEqual([3, 4]);
  });

  test("not at all with a budget of nothing", async () => {
    const server = new Server(refused(503, "MODEL_LOADING"));
    const { outcome, waited } = await ask(server, { provisionTimeout: 0 });
    expect(outcome).toBeInstanceOf(errors.ModelLoadingError);
    expect([server.sent.length, waited]).toEqual([1, 0]);
  });

  test("for a server that is down, with one warning", async () => {
    const refusal = fetchFailed("ECONNREFUSED");
    const { outcome, waited } = await ask(new Server(refusal, refusal, packed(SCORED)));
    expect(outcome).toMatchObject({ model: "m" });
    expect(waited).toBe(1.5);
    expect(console.warn).toHaveBeenCalledExactlyOnceWith(
      "sie: POST http://sie.test:8080/v1/score/m: fetch failed (connect ECONNREFUSED); retrying for up to 5 s",
    );
  });

  test("longer for a server that has responded before", async () => {
    const refusal = fetchFailed("ECONNREFUSED");
    const client = new Server(refusal, refusal, refusal, refusal, packed(SCORED), refusal).client();
    const ask = async (options: ScoreOptions = {}) => {
      const since = Date.now();
      const outcome = client.score("m", QUERY, ITEMS, options).catch((error: unknown) => error);
      await vi.runAllTimersAsync();
      return { outcome: await outcome, waited: (Date.now() - since) / 1000 };
    };
    expect(await ask()).toMatchObject({ outcome: { kind: "connect" }, waited: 3.5 });
    expect(await ask()).toMatchObject({ outcome: { model: "m" }, waited: 0 });
    const later = await ask();
    expect(later.outcome).toMatchObject({ kind: "connect" });
    expect(later.waited).toBeGreaterThan(890);
  });

  test("longer for a server that never responded, if asked to", async () => {
    const { waited } = await ask(new Server(fetchFailed("ECONNREFUSED")), { provisionTimeout: 60_000 });
    expect(waited).toBeGreaterThan(50);
  });

  test("not for a server that is down, unless asked to", async () => {
    const { outcome } = await ask(new Server(fetchFailed("ENOTFOUND")), { waitForCapacity: false });
    expect(outcome).toMatchObject({ name: "SIEConnectionError", kind: "connect", cause: { message: "fetch failed" } });
    const server = new Server(fetchFailed("ECONNREFUSED"));
    await expect(server.client().listModels()).rejects.toMatchObject({ kind: "connect" });
    expect(server.sent).toHaveLength(1);
  });

  test.each(["DEPTH_ZERO_SELF_SIGNED_CERT", "CERT_HAS_EXPIRED", "Z_DATA_ERROR"])("not for %s", async (code) => {
    const server = new Server(fetchFailed(code));
    expect((await ask(server)).outcome).toMatchObject({ name: "SIEConnectionError", kind: "other" });
    expect(server.sent).toHaveLength(1);
  });

  test("as a browser can't tell, for every fetch that failed", async () => {
    const { outcome } = await ask(new Server(new TypeError("Failed to fetch"), packed(SCORED)));
    expect(outcome).toMatchObject({ model: "m" });
  });
});

describe("cancelling", () => {
  test("before it begins", async () => {
    const server = new Server(packed(SCORED));
    const { outcome } = await ask(server, { signal: AbortSignal.abort("no") });
    expect([outcome, server.sent.length]).toEqual(["no", 0]);
  });

  test("while it waits", async () => {
    const abort = new AbortController();
    setTimeout(() => abort.abort("enough"), 1000);
    const { outcome, waited } = await ask(new Server(refused(503, "MODEL_LOADING")), { signal: abort.signal });
    expect([outcome, waited]).toEqual(["enough", 1]);
  });

  test("leaves nothing at the signal", async () => {
    const { signal } = new AbortController();
    const [add, remove] = [vi.spyOn(signal, "addEventListener"), vi.spyOn(signal, "removeEventListener")];
    await ask(new Server(refused(503, "MODEL_LOADING"), packed(SCORED)), { signal });
    expect(add.mock.calls.length).toBeGreaterThan(0);
    expect(remove.mock.calls.length).toBe(add.mock.calls.length);
  });
});
