/** The package as built, in a real browser, from another origin than the server's. */

import { readFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import type * as sdk from "../../src/index.js";
import { launched, present } from "./chromium.js";
import { MODEL } from "./server.js";

declare global {
  interface Window {
    sdk: typeof sdk;
  }
}

const files: Record<string, string> = {
  "/sdk/": "../../dist/esm/",
  "/msgpack/": "../../node_modules/@msgpack/msgpack/dist.esm/",
};
const page = `<!doctype html>
<script type="importmap">{"imports": {"@msgpack/msgpack": "/msgpack/index.mjs"}}</script>
<script type="module">window.sdk = await import("/sdk/index.js");</script>`;

let browser: Browser;
let pages: Server;

beforeAll(async () => {
  if (!present) return;
  pages = createServer((request, response) => {
    const { pathname } = new URL(request.url ?? "/", "http://pages.test");
    const prefix = Object.keys(files).find((name) => pathname.startsWith(name));
    const found = prefix && new URL(`${files[prefix]}${pathname.slice(prefix.length)}`, import.meta.url);
    response.setHeader("content-type", found ? "text/javascript" : "text/html");
    response.end(found ? readFileSync(found) : page);
  });
  await new Promise<void>((resolve) => pages.listen(0, "127.0.0.1", resolve));
  browser = await launched();
});
afterAll(async () => {
  await browser?.close();
  pages?.close();
});

test.skipIf(!present)("scores, encodes and reads errors in a page", async () => {
  const tab = await browser.newPage();
  await tab.goto(`http://127.0.0.1:${(pages.address() as AddressInfo).port}/`);
  await tab.waitForFunction(() => window.sdk !== undefined);
  const seen = await tab.evaluate(
    async ({ url, model }) => {
      const client = new window.sdk.SIEClient(url, { apiKey: "k" });
      const query = { text: "What is Python?" };
      const items = [{ text: "Snakes are reptiles." }, { text: "Python is a programming language." }];
      const { scores, request } = await client.score(model, query, items);
      const { multivector } = await client.encode(model, query, {
        outputTypes: ["multivector"],
        outputDtype: "float16",
      });
      const error = await client.getModel("no/such").catch((error: sdk.SIEError) => error);
      const stopped = await client
        .score(model, query, items, { signal: AbortSignal.abort("stop") })
        .catch((reason) => reason);
      const { value } = await client.watch().next();
      await client.close();
      return {
        loaded: value && "server" in value ? value.loaded_models : undefined,
        best: scores[0]?.itemId,
        requestId: request?.id,
        rows: multivector?.map((row) => [row.constructor.name, row.length].join()),
        error: "code" in error ? [error.name, error.code, error.requestId?.length] : undefined,
        stopped,
      };
    },
    { url: inject("url"), model: MODEL },
  );
  expect(seen).toEqual({
    loaded: [MODEL],
    best: "item-1",
    requestId: expect.stringMatching(/^[0-9a-f]{32}$/),
    rows: Array(6).fill("Float32Array,384"),
    error: ["RequestError", "MODEL_NOT_FOUND", 32],
    stopped: "stop",
  });
});

test.skipIf(!present)("a redirect is not followed", async () => {
  const tab = await browser.newPage();
  await tab.goto(`http://127.0.0.1:${(pages.address() as AddressInfo).port}/`);
  await tab.waitForFunction(() => window.sdk !== undefined);
  await tab.route("**/v1/models", (route) => route.fulfill({ status: 302, headers: { location: "/elsewhere" } }));
  const message = await tab.evaluate(() =>
    new window.sdk.SIEClient(location.origin).listModels().catch((error: Error) => `${error.name}: ${error.message}`),
  );
  expect(message).toMatch(/^RequestError: HTTP 302: redirected to another address/);
});
