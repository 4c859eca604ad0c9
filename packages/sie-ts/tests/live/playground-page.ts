/** The server's page in a real browser, watched. */

import type { Browser, BrowserContextOptions, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect, inject } from "vitest";
import { launched, present } from "./chromium.js";

let browser: Browser;
/** What must not happen in a page, and did. A test takes out of it what it expects; the rest fails it. */
export const faults: string[] = [];

beforeAll(async () => {
  if (present) browser = await launched();
});
afterAll(() => browser?.close());
afterEach(async () => {
  for (const context of browser?.contexts() ?? []) await context.close();
  expect(faults.splice(0)).toEqual([]);
});

/** Opens a page, and notes what must not happen in it: errors, and requests to anywhere else. */
export async function opened(url = `${inject("url")}/`, options: BrowserContextOptions = {}): Promise<Page> {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.on("console", (message) => {
    if (message.type() === "error") faults.push(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => faults.push(`error: ${error.message}`));
  page.on("request", (request) => {
    if (new URL(request.url()).host !== new URL(url).host) faults.push(`elsewhere: ${request.url()}`);
  });
  await page.goto(url);
  return page;
}

/** Opens a page, which ranks its example at once. */
export async function ranked(url?: string, options?: BrowserContextOptions): Promise<Page> {
  const page = await opened(url, options);
  await page.waitForSelector(".ranking li");
  return page;
}
