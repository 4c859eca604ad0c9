/** Hostile or broken responses give an exception of this package, in bounded memory. */

import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { pause } from "../../src/http/exchange.js";
import { readBody } from "../../src/http/response-body.js";
import { LONGEST_DELAY_MS, parseRetryAfter } from "../../src/http/retry.js";
import { RequestError, ServerError, SIEClient, SIEConnectionError, SIEError } from "../../src/index.js";

// Many small calls, and a quarter of a gigabyte of zeros.
vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

const MIB = 2 ** 20;
const once = { provisionTimeout: 0 };

function answering(response: () => Response): SIEClient {
  return new SIEClient("http://sie.test", { fetch: async () => response() });
}

/** A small random generator with a seed, so that failures can be reproduced. */
function draws(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

const SCALARS = [null, true, 0, -1, 1.5, 1e308, "", "QUEUE_FULL", "\ud800", `items[${"9".repeat(5000)}]`, [], {}];
const NAMES = ["code", "message", "param", "error_class", "permanent", "attempts", "error", "detail", "__proto__"];

function value(draw: () => number, depth: number): unknown {
  const pick = <T>(of: readonly T[]): T => of[Math.floor(draw() * of.length)] as T;
  if (depth === 0 || draw() < 0.4) return pick(SCALARS);
  if (draw() < 0.3) return [value(draw, depth - 1)];
  const entries = Array.from({ length: 4 }, () => [pick(NAMES), value(draw, depth - 1)] as const);
  return Object.fromEntries(entries);
}

test("an error is one of this package, of its status, whatever its body", async () => {
  const kinds = Object.entries({ code: "string", param: "string", attempts: "number", permanent: "boolean" });
  for (let seed = 0; seed < 150; seed++) {
    const draw = draws(seed);
    const status = 400 + Math.floor(draw() * 200);
    const text = draw() < 0.1 ? "[".repeat(100_000) : JSON.stringify(value(draw, 3));
    const headers = { "retry-after": ["nan", "-1", "1e999", "9".repeat(400), "5"][seed % 5] as string };
    const client = answering(() => new Response(text, { status, headers }));
    const error = await client.score("m", { text: "q" }, [{ text: "d" }], once).catch((thrown) => thrown);
    expect(error, `seed ${seed}`).toBeInstanceOf(SIEError);
    expect(error.statusCode).toBe(status);
    if (status < 500) expect(error).toBeInstanceOf(RequestError);
    else expect(error).not.toBeInstanceOf(RequestError);
    expect(typeof error.message).toBe("string");
    for (const [name, kind] of kinds) expect([kind, "undefined"]).toContain(typeof error[name]);
    expect(error.retryAfter ?? 0).toBeLessThanOrEqual(LONGEST_DELAY_MS);
  }
});

test.each(["score", "encode", "listModels"] as const)("an invalid response is an error: %s", async (route) => {
  const lists = [Uint8Array.of(0xdd, 0xff, 0xff, 0xff, 0xff), new Uint8Array(100_000).fill(0x91)];
  const noise = Array.from({ length: 100 }, (_, seed) => {
    const draw = draws(seed);
    return Uint8Array.from({ length: Math.floor(draw() * 40) }, () => Math.floor(draw() * 256));
  });
  for (const body of [...lists, ...noise]) {
    const client = answering(() => new Response(body));
    const call = {
      score: () => client.score("m", { text: "q" }, [{ text: "d" }], once),
      encode: () => client.encode("m", { text: "d" }, once),
      listModels: () => client.listModels(),
    }[route];
    const error = await call().catch((thrown: unknown) => thrown);
    if (error instanceof Error) expect(error, String(body.subarray(0, 40))).toBeInstanceOf(SIEError);
  }
});

test.each(["1e300", "9".repeat(300), "Fri, 31 Dec 9999 23:59:59 GMT"])("Retry-After has a bound: %s", (header) => {
  expect([undefined, LONGEST_DELAY_MS]).toContain(parseRetryAfter(header, 0));
});

test("a pause that no timer can wait for is not over at once", async () => {
  const stop = new AbortController();
  setTimeout(() => stop.abort("stopped"), 30);
  await expect(pause(LONGEST_DELAY_MS, stop.signal)).rejects.toBe("stopped");
});

describe("a body that expands to gigabytes", () => {
  let server: Server;
  let url: string;
  beforeAll(async () => {
    const bomb = gzipSync(new Uint8Array(256 * MIB));
    server = createServer((request, response) => {
      request.resume().on("end", () => {
        const status = Number(request.url?.split("/")[1]);
        response.writeHead(status, { "Content-Encoding": "gzip", "Content-Length": bomb.length }).end(bomb);
      });
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterAll(() => {
    server.closeAllConnections();
    server.close();
  });

  test("is given up", async () => {
    const error = await new SIEClient(`${url}/200`).score("m", { text: "q" }, [{ text: "d" }], once).catch((e) => e);
    expect(error).toBeInstanceOf(SIEConnectionError);
    expect(error).toMatchObject({ kind: "other" });
    expect(error.message).toContain("exceeds the limit of 67108864 bytes");
  });

  test("of an error counts only by its status", async () => {
    const error = await new SIEClient(`${url}/500`).score("m", { text: "q" }, [{ text: "d" }], once).catch((e) => e);
    expect(error).toBeInstanceOf(ServerError);
    expect(error.statusCode).toBe(500);
  });
});

test("an error's body is cut", async () => {
  expect(await readBody(new Response(new Uint8Array(3 * MIB), { status: 500 }))).toHaveLength(MIB);
  expect(await readBody(new Response(new Uint8Array(3 * MIB)))).toHaveLength(3 * MIB);
  expect(await readBody(new Response(null))).toHaveLength(0);
});
