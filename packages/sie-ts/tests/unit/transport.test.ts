/** Transport failures over real sockets, and the errors that callers get. */

import type { AddressInfo } from "node:net";
import { createServer, type Socket } from "node:net";
import { gzipSync } from "node:zlib";
import { afterEach, expect, test, vi } from "vitest";
import { type ClientOptions, type ScoreOptions, SIEClient } from "../../src/index.js";
import { ITEMS, pack, QUERY, SCORED } from "./stand-ins.js";

const body = Buffer.from(pack(SCORED));
const head = (length: number, more = "") => `HTTP/1.1 200 OK\r\n${more}Content-Length: ${length}\r\n\r\n`;
const zipped = gzipSync(body);

const ways = {
  answer: (socket: Socket) => socket.end(Buffer.concat([Buffer.from(head(body.length)), body])),
  zip: (socket: Socket) =>
    socket.end(Buffer.concat([Buffer.from(head(zipped.length, "Content-Encoding: gzip\r\n")), zipped])),
  garble: (socket: Socket) => socket.end(`${head(5, "Content-Encoding: gzip\r\n")}12345`),
  cutOff: (socket: Socket) => socket.end(Buffer.concat([Buffer.from(head(body.length)), body.subarray(0, 5)])),
  hangUp: (socket: Socket) => socket.destroy(),
  stall: () => {},
  stallHalfway: (socket: Socket) => socket.write(Buffer.concat([Buffer.from(head(body.length)), body.subarray(0, 5)])),
  redirect: (socket: Socket) => socket.end("HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n"),
};
type Way = keyof typeof ways;

const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
  vi.restoreAllMocks();
});

/** A server that answers the n-th request in the n-th way, then repeats the last one. */
async function listening(...met: Way[]) {
  const sockets: Socket[] = [];
  const open: Socket[] = [];
  const server = createServer((socket) => {
    open.push(socket);
    socket.on("error", () => {});
    socket.once("data", () => {
      sockets.push(socket);
      ways[met[Math.min(sockets.length, met.length) - 1] as Way](socket);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closing.push(() => {
    for (const socket of open) socket.destroy();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, sockets };
}

const score = (url: string, client: ClientOptions = {}, options: ScoreOptions = {}) =>
  new SIEClient(url, client).score("m", QUERY, ITEMS, options);

test.each(["answer", "zip"] as const)("%s", async (way) => {
  const { url } = await listening(way);
  expect((await score(url)).scores).toHaveLength(2);
});

test.each(["cutOff", "hangUp"] as const)("%s is retried", async (way) => {
  vi.spyOn(console, "warn").mockImplementation(() => {});
  const { url, sockets } = await listening(way, "answer");
  expect((await score(url)).scores).toHaveLength(2);
  expect(sockets).toHaveLength(2);
});

test.each([
  ["cutOff", "connect"],
  ["hangUp", "connect"],
  ["stall", "timeout"],
  ["stallHalfway", "timeout"],
  ["garble", "other"],
] as const)("%s is a failure of kind %s", async (way, kind) => {
  const { url, sockets } = await listening(way);
  const asked = score(url, { timeoutMs: 300 }, { waitForCapacity: false });
  await expect(asked).rejects.toMatchObject({ name: "SIEConnectionError", kind, statusCode: undefined });
  expect(sockets).toHaveLength(1);
});

test("a slow response is not retried", async () => {
  const { url, sockets } = await listening("stall");
  await expect(score(url, { timeoutMs: 200 })).rejects.toThrow("no response within 0.2 s");
  await expect(score(url, {}, { timeoutMs: 100 })).rejects.toThrow("no response within 0.1 s");
  expect(sockets).toHaveLength(2);
});

test("the budget cuts a slow answer short", async () => {
  const { url } = await listening("stall");
  await expect(score(url, {}, { provisionTimeout: 200 })).rejects.toMatchObject({ kind: "timeout" });
});

test("cancelling a request that is under way ends it at once", async () => {
  const { url, sockets } = await listening("stall");
  await expect(score(url, {}, { signal: AbortSignal.timeout(100) })).rejects.toMatchObject({ name: "TimeoutError" });
  await vi.waitFor(() => expect(sockets[0]?.closed).toBe(true));
});

test("a redirect is not followed", async () => {
  const { url, sockets } = await listening("redirect");
  await expect(score(url)).rejects.toThrow("HTTP 302: redirected to /login; redirects are not followed");
  expect(sockets).toHaveLength(1);
});

test("a refused connection", async () => {
  const { url } = await listening("answer");
  closing.pop()?.();
  await expect(score(url, { waitForCapacity: false })).rejects.toMatchObject({ kind: "connect" });
});
