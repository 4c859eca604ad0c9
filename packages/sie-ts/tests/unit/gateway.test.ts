/** What a gateway in front of several machines is asked. */

import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { PoolError, ProvisioningError, RequestError } from "../../src/index.js";
import { BASE_URL, fetchFailed, packed, refused, SCORED, Server } from "./stand-ins.js";

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval", "performance"] });
});
afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

const L4 = { name: "a", gpu: "l4", healthy: true, queue_depth: 2 };
const SICK = { name: "b", gpu: "L4", healthy: false };
const A100 = { name: "c", gpu: "a100-80gb" };
const POOL = { name: "night run", spec: { gpus: { l4: 2 }, gpu_caps: { l4: 4 } }, status: { state: "pending" } };
const health = (...workers: object[]) =>
  Response.json({
    status: "healthy",
    type: "gateway",
    cluster: { worker_count: workers.length, gpu_count: 3, models_loaded: 1, total_qps: 0.5 },
    configured_gpu_types: ["l4"],
    live_gpu_types: ["l4"],
    workers,
  });
const notFound = () => Response.json({ detail: "Not Found" }, { status: 404 });
const asked = (server: Server) => server.sent.map(({ method, url }) => `${method} ${url.replace(BASE_URL, "")}`);
const json = (server: Server) =>
  JSON.parse(new TextDecoder().decode(server.fetch.mock.calls[0]?.[1]?.body as Uint8Array));

/** The call's end, with time passing as fast as it may. */
async function soon<T>(call: Promise<T>): Promise<T> {
  call.catch(() => {});
  await vi.runAllTimersAsync();
  return call;
}

test("capacity", async () => {
  const server = new Server(health(L4, SICK, A100));
  const client = server.client();
  expect(await client.getCapacity()).toMatchObject({ status: "healthy", workerCount: 3, gpuCount: 3, modelsLoaded: 1 });
  const { workerCount, workers } = await client.getCapacity("night/l4");
  expect([workerCount, workers]).toEqual([1, [{ name: "a", gpu: "l4", healthy: true, queueDepth: 2 }, SICK]]);
  expect(asked(server)[0]).toBe("GET /health");
});

test.each([notFound, () => Response.json({ type: "worker" })])("a server is no gateway", async (answer) => {
  const client = new Server(answer()).client();
  await expect(client.getCapacity()).rejects.toThrow(RequestError);
  await expect(client.waitForCapacity("l4")).rejects.toThrow(/Not Found|no gateway/);
});

test("waiting for a machine", async () => {
  const server = new Server(health(), fetchFailed("ECONNREFUSED"), refused(500), health(SICK), health(L4));
  const start = performance.now();
  expect((await soon(server.client().waitForCapacity("l4", { pollIntervalMs: 7000 }))).workerCount).toBe(1);
  expect(performance.now() - start).toBe(28_000);
});

test("waiting in vain", async () => {
  const call = soon(new Server(health(A100)).client().waitForCapacity("l4", { timeoutMs: 12_000 }));
  const error = await call.catch((error: unknown) => error);
  expect(error).toBeInstanceOf(ProvisioningError);
  expect(error).toMatchObject({ gpu: "l4", message: "no machine of profile l4 within 12 s" });
});

test("waiting ends with the signal", async () => {
  const stop = new AbortController();
  const call = new Server(health()).client().waitForCapacity("l4", { signal: stop.signal });
  await vi.advanceTimersByTimeAsync(7000);
  stop.abort(new Error("enough"));
  await expect(call).rejects.toThrow("enough");
});

test.each([{ timeoutMs: -1 }, { pollIntervalMs: Number.NaN }])("waits that are none: %o", async (options) => {
  await expect(new Server(health()).client().waitForCapacity("l4", options)).rejects.toThrow(RangeError);
});

test.each([
  [["multivector", "score"], packed({ model: "m", items: [{}] }), "encode"],
  [["score"], packed(SCORED), "score"],
])("waiting for a model of %s", async (outputs, answer, route) => {
  const server = new Server(Response.json({ name: "m", outputs }), answer, health(L4));
  await server.client().waitForCapacity("l4", { model: "m" });
  expect(asked(server)).toEqual(["GET /v1/models/m", `POST /v1/${route}/m`, "GET /health"]);
  expect(server.sent[1]?.headers.get("x-sie-machine-profile")).toBe("l4");
});

/** A server that JSON goes to, which the stand-in does not read. */
function pools(...answers: Response[]) {
  const server = new Server(...answers);
  const fetch = server.fetch.getMockImplementation() as typeof globalThis.fetch;
  server.fetch.mockImplementation((input, init) => fetch(input as string, { ...init, body: null }));
  return server;
}

test("pools", async () => {
  const server = pools(Response.json(POOL));
  const client = server.client();
  const expected = { name: "night run", spec: { gpus: { l4: 2 }, gpuCaps: { l4: 4 } }, status: { state: "pending" } };
  expect(await client.createPool("night run", { l4: 2 }, { gpuCaps: { l4: 4 } })).toEqual(expected);
  expect(await client.getPool("night run")).toEqual(expected);
  expect(await client.deletePool("night run")).toBe(true);
  const path = "/v1/pools/night%20run";
  expect(asked(server)).toEqual(["POST /v1/pools", `GET ${path}`, `DELETE ${path}`]);
  expect(json(server)).toEqual({ name: "night run", gpus: { l4: 2 }, gpu_caps: { l4: 4 } });
  expect(server.sent[0]?.headers.get("content-type")).toBe("application/json");
});

test("pools that are not there, or refused", async () => {
  const client = pools(notFound()).client();
  expect([await client.getPool("p"), await client.deletePool("p")]).toEqual([null, false]);
  await expect(client.getPool("")).rejects.toThrow("a pool has a name");
  const refusal = pools(refused(409, "QUOTA", "too many"))
    .client()
    .createPool("p", { l4: 99 });
  const error = await refusal.catch((error: unknown) => error);
  expect(error).toBeInstanceOf(PoolError);
  expect(error).toMatchObject({ poolName: "p", code: "QUOTA", statusCode: 409, message: "too many" });
});

test("the lease of a pool is renewed until the client is closed", async () => {
  const warn = vi.spyOn(console, "warn").mockImplementation(() => {});
  const server = pools(Response.json(POOL), refused(500), Response.json({}));
  const client = server.client();
  await client.createPool("p", { l4: 1 });
  await vi.advanceTimersByTimeAsync(130_000);
  expect(asked(server)).toEqual(["POST /v1/pools", "POST /v1/pools/p/renew", "POST /v1/pools/p/renew"]);
  expect(warn).toHaveBeenCalledOnce();
  await client.close();
  await vi.advanceTimersByTimeAsync(130_000);
  expect(server.sent).toHaveLength(3);
});
