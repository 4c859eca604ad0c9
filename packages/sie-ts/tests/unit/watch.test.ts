/** Status streams: how they are opened and reopened, and what ends them. */

import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import { type ClientOptions, SIEClient, type StatusMessage, type WatchMode } from "../../src/index.js";

const closing: (() => void)[] = [];
beforeEach(() => {
  vi.spyOn(Math, "random").mockReturnValue(1);
  vi.spyOn(console, "warn").mockImplementation(() => {});
});
afterEach(() => {
  for (const close of closing.splice(0)) close();
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
});

/** A server whose n-th stream sends `frames[n]` and ends, but the last stays open; `absent`: it has no such route. */
async function served(frames: string[][], { absent = false, port = 0, chooses = true } = {}) {
  const asked: { path: string; headers: Record<string, unknown> }[] = [];
  const http: Server = createServer((request, response) => {
    asked.push({ path: `http ${request.url}`, headers: request.headers });
    response.statusCode = absent ? 404 : 426;
    response.end(response.statusCode === 404 ? '{"detail":"Not Found"}' : "{}");
  });
  const streams = new WebSocketServer({
    noServer: true,
    handleProtocols: ([name]) => (chooses ? (name ?? false) : false),
  });
  let opened = 0;
  http.on("upgrade", (request, socket, head) => {
    asked.push({ path: `ws ${request.url}`, headers: request.headers });
    if (absent) {
      socket.end("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
      return;
    }
    streams.handleUpgrade(request, socket, head, (stream) => {
      for (const frame of frames[opened] ?? []) stream.send(frame);
      if (++opened < frames.length) stream.close(1012);
    });
  });
  await new Promise<void>((resolve) => http.listen(port, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(http.address() as AddressInfo).port}`;
  closing.push(() => {
    for (const stream of streams.clients) stream.terminate();
    http.closeAllConnections();
    http.close();
  });
  const client = (options: ClientOptions = {}) => new SIEClient(url, { webSocket: WebSocket, ...options });
  return { client, asked, paths: () => asked.map(({ path }) => path), streams, url };
}

const frame = (n: number) => JSON.stringify({ n });

/** Returns the first statuses of a stream. */
async function first(count: number, statuses: AsyncGenerator<StatusMessage>): Promise<unknown[]> {
  const seen: unknown[] = [];
  for await (const status of statuses) if (seen.push(status) === count) break;
  return seen;
}

test.each<WatchMode>(["auto", "worker"])("mode %s", async (mode) => {
  const server = await served([[frame(1), frame(2)]]);
  expect(await first(2, server.client().watch(mode))).toEqual([{ n: 1 }, { n: 2 }]);
  expect(server.paths()).toEqual(["ws /ws/status"]);
});

test.each([
  ["gateway", 'mode must be "auto" or "worker", got "gateway"'],
  ["cluster", 'mode must be "auto" or "worker", got "cluster": the status of a cluster comes from a gateway'],
])("mode %s", (mode, message) => {
  const client = new SIEClient("http://sie.test", { webSocket: WebSocket });
  expect(() => client.watch(mode as WatchMode)).toThrow(new RangeError(message));
});

test("the headers go along, outside of browsers", async () => {
  const server = await served([[frame(1)], [frame(2)]]);
  await first(1, server.client({ apiKey: "k" }).watch("worker"));
  expect(server.asked[0]?.headers).toMatchObject({ authorization: "Bearer k", "x-sie-sdk-version": expect.anything() });
});

/** A browser's WebSocket: its second argument is a list of protocols, of which the server must choose one. */
class Browser extends WebSocket {
  constructor(url: string, protocols?: unknown) {
    if (protocols !== undefined && !Array.isArray(protocols)) throw new DOMException("no such protocol", "SyntaxError");
    super(url, protocols);
  }
}

test("a browser's connection carries the key as a subprotocol", async () => {
  const server = await served([[frame(1)], [frame(2)]]);
  const apiKey = "first-of+2/keys~>?";
  expect(await first(1, server.client({ webSocket: Browser, apiKey }).watch())).toHaveLength(1);
  const [chosen, key] = String(server.asked[0]?.headers["sec-websocket-protocol"]).split(",");
  expect(chosen).toBe("sie.status");
  expect(Buffer.from(String(key).replace("sie.key.", ""), "base64url").toString()).toBe(apiKey);
  await first(1, server.client({ webSocket: Browser }).watch());
  expect(server.asked[1]?.headers["sec-websocket-protocol"]).toBeUndefined();
});

test("without a choice among the subprotocols, a browser connects without them", async () => {
  const server = await served([[], [frame(2)]], { chooses: false });
  expect(await first(1, server.client({ webSocket: Browser, apiKey: "k" }).watch())).toEqual([{ n: 2 }]);
  expect(server.paths()).toEqual(["ws /ws/status", "http /ws/status", "ws /ws/status"]);
});

test("a connection that ends is followed by another", async () => {
  const server = await served([[frame(1)], [frame(2)], [frame(3)]]);
  const started = performance.now();
  expect(await first(3, server.client().watch())).toEqual([{ n: 1 }, { n: 2 }, { n: 3 }]);
  expect(performance.now() - started).toBeGreaterThan(2 * 375 - 10);
  expect(server.paths()).toEqual(["ws /ws/status", "ws /ws/status", "ws /ws/status"]);
});

test("leaving the loop closes the connection", async () => {
  const server = await served([[frame(1)]]);
  await first(1, server.client().watch("worker"));
  await vi.waitFor(() => expect(server.streams.clients.size).toBe(0));
});

test("closing the client ends the loop", async () => {
  const server = await served([[frame(1)]]);
  const client = server.client();
  const seen = [];
  for await (const status of client.watch("worker")) {
    seen.push(status);
    setTimeout(() => client.close(), 20);
  }
  expect(seen).toEqual([{ n: 1 }]);
  expect(await first(1, client.watch("worker"))).toEqual([]);
});

test.each([0, 30])("a signal ends it with its reason, aborted after %i ms", async (ms) => {
  const server = await served([[frame(1)]]);
  const stop = new AbortController();
  if (ms === 0) stop.abort("enough");
  const watched = first(2, server.client().watch("worker", { signal: stop.signal }));
  if (ms > 0) setTimeout(() => stop.abort("enough"), ms);
  await expect(watched).rejects.toBe("enough");
});

test("a signal ends a wait for a server that is gone", async () => {
  const client = new SIEClient("http://127.0.0.1:9", { webSocket: WebSocket });
  const signal = AbortSignal.timeout(50);
  await expect(first(1, client.watch("auto", { signal }))).rejects.toMatchObject({ name: "TimeoutError" });
});

test("a silent connection is opened again", async () => {
  const server = await served([[]]);
  const watched = first(1, server.client().watch("worker", { timeoutMs: 50 }));
  watched.catch(() => {});
  await vi.waitFor(() => expect(server.paths()).toEqual(["ws /ws/status", "ws /ws/status"]), 5000);
});

test("a server without such a stream", async () => {
  const server = await served([], { absent: true });
  await expect(first(1, server.client().watch())).rejects.toMatchObject({
    name: "RequestError",
    message: expect.stringContaining(`no status stream at ${server.url}/ws/status: Not Found`),
    statusCode: 404,
  });
});

test.each([{ waitForCapacity: false }, { provisionTimeout: 0 }])("not waiting: %o", async (options) => {
  const server = await served([[frame(1)], []]);
  await expect(first(2, server.client().watch("worker", options))).rejects.toMatchObject({
    name: "SIEConnectionError",
    kind: "connect",
  });
  const gone = new SIEClient("http://127.0.0.1:9", { webSocket: WebSocket });
  await expect(first(1, gone.watch("worker", options))).rejects.toMatchObject({ kind: "connect" });
});

test.each(["not json", "[1]"])("an invalid status frame: %s", async (text) => {
  const server = await served([[text]]);
  await expect(first(1, server.client().watch("worker"))).rejects.toThrow("Malformed status JSON response");
});

test("only the newest of what is unread is kept", async () => {
  class Burst {
    onopen = null;
    onmessage: ((event: { data: string }) => void) | null = null;
    onclose = null;
    onerror = null;
    constructor() {
      queueMicrotask(() => {
        for (let n = 0; n < 100; n++) this.onmessage?.({ data: JSON.stringify({ n }) });
      });
    }
    close() {}
  }
  const statuses = new SIEClient("http://sie.test", { webSocket: Burst }).watch("worker");
  expect(await first(16, statuses)).toEqual(Array.from({ length: 16 }, (_, i) => ({ n: 84 + i })));
});

test("a runtime without a WebSocket says so", () => {
  vi.stubGlobal("WebSocket", undefined);
  expect(() => new SIEClient("http://sie.test").watch()).toThrow(
    "this runtime has no WebSocket (Node has one from version 22 on)",
  );
});
