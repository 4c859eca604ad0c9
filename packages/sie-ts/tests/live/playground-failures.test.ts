/** The server's page when something fails: what it says, and of which request the rankings on it are. */

import type { Page } from "playwright-core";
import { describe, expect, inject, test } from "vitest";
import { present } from "./chromium.js";
import { faults, opened, ranked } from "./playground-page.js";
import { MODEL } from "./server.js";

const ABSENT = "cross-encoder/ms-marco-MiniLM-L-6-v2";
const EXAMPLE = "Why is the sky blue?";
const CAVEAT = `Of the earlier request “${EXAMPLE}”, ranked by ${MODEL}:`;

/** Makes a model that can't be loaded fail at once. */
async function withoutModel(page: Page): Promise<void> {
  const detail = { code: "MODEL_LOAD_FAILED", message: "the model can't be loaded" };
  await page.route(`**/v1/score/${encodeURIComponent(ABSENT)}`, (route) =>
    route.fulfill({ status: 502, json: { detail } }),
  );
}

const idle = (page: Page) =>
  page.waitForFunction(() => !document.querySelector("#rank")?.hasAttribute("aria-busy"), null, { timeout: 20_000 });
const opacity = (page: Page) =>
  page.locator("#view-ranking .ranking").evaluate((list) => Number(getComputedStyle(list).opacity));

describe.skipIf(!present)("the playground", () => {
  test("says at once that the server does not answer, and goes on when it does", async () => {
    const page = await ranked();
    await page.route("**/v1/score/**", (route) => route.abort("connectionrefused"));
    await page.fill("#query", "blue");
    await page.click("#rank");
    await page.waitForFunction(
      () => /^The server at .* does not answer\. Is it/.test(document.querySelector("#message")?.textContent ?? ""),
      null,
      { timeout: 3000 },
    );
    await page.waitForSelector("#view-ranking .caveat");
    expect(await page.locator("#stop").isVisible()).toBe(true);
    await page.unroute("**/v1/score/**");
    await page.waitForFunction(() => /^8 documents ranked/.test(document.querySelector("#message")?.textContent ?? ""));
    expect(await page.locator(".caveat").count()).toBe(0);
    expect(faults.splice(0).every((fault) => fault.includes("ERR_CONNECTION_REFUSED"))).toBe(true);
  });

  test("says that the ranking below an error is of an earlier request", async () => {
    const page = await ranked();
    expect(await page.locator(".ranker").innerText()).toBe(MODEL);
    await withoutModel(page);
    await page.selectOption("#model", ABSENT);
    await page.click("#rank");
    await page.waitForSelector("#error:not([hidden])");
    expect(await page.locator("#error").innerText()).toBe("The model can't be loaded. (MODEL_LOAD_FAILED)");
    expect(await page.locator("#view-ranking .caveat").innerText()).toBe(CAVEAT);
    expect(await opacity(page)).toBeLessThan(1);
    // Back to the request that the ranking is of.
    await page.selectOption("#model", MODEL);
    expect(await page.locator("#error").isVisible()).toBe(false);
    expect(await page.locator(".caveat").count()).toBe(0);
    expect(await opacity(page)).toBe(1);
    for (const documents of ["", '{"text": b}']) {
      await page.fill("#documents", documents);
      await page.click("#rank");
      expect(await page.locator("#error").isVisible()).toBe(true);
      expect(await page.locator("#view-ranking .caveat").innerText()).toBe(CAVEAT);
    }
    expect(faults.splice(0).every((fault) => fault.includes("502"))).toBe(true);
  });

  test("says why there is no second ranking", async () => {
    const page = await ranked();
    await withoutModel(page);
    await page.selectOption("#against", ABSENT);
    await page.click("#rank");
    await page.waitForSelector("#error:not([hidden])");
    await page.click("#tab-sides");
    expect(await page.locator("#view-sides").innerText()).toBe(
      "There is no second ranking. The model can't be loaded. (MODEL_LOAD_FAILED)",
    );
    // The first one has arrived.
    expect(await page.locator(".caveat").count()).toBe(0);
    await page.selectOption("#against", "");
    expect(await page.locator("#message").innerText()).toMatch(/^8 documents ranked in/);
    expect(faults.splice(0).every((fault) => fault.includes("502"))).toBe(true);
  });

  test("says so too if the second is not waited for", async () => {
    const page = await ranked();
    const loading = { detail: { code: "MODEL_LOADING", message: "it loads" } };
    await page.route(`**/v1/score/${encodeURIComponent(ABSENT)}`, (route) =>
      route.fulfill({ status: 503, headers: { "retry-after": "30" }, json: loading }),
    );
    await page.selectOption("#against", ABSENT);
    await page.click("#rank");
    await page.click("#tab-sides");
    await page.waitForFunction(() => /is awaited/.test(document.querySelector("#view-sides")?.textContent ?? ""));
    await page.click("#stop");
    await idle(page);
    expect(await page.locator("#view-sides").innerText()).toBe("There is no second ranking. Stopped.");
    expect(faults.splice(0).every((fault) => fault.includes("503"))).toBe(true);
  });

  test("leads to the results without touching the link", async () => {
    const page = await ranked();
    const url = page.url();
    expect(url).toContain("#1.");
    await page.focus("a.skip");
    await page.keyboard.press("Enter");
    expect(await page.evaluate(() => document.activeElement?.id)).toBe("results");
    expect(page.url()).toBe(url);
    const other = await ranked(`${inject("url")}/#results`);
    expect(await other.locator("#error").isVisible()).toBe(false);
  });

  test("keeps an address that it can't read until the user ranks", async () => {
    const url = `${inject("url")}/#1.broken`;
    const page = await ranked(url);
    await idle(page);
    expect(await page.locator("#error").isVisible()).toBe(true);
    expect(await page.locator("#error").innerText()).toMatch(/^The link is damaged/);
    expect(await page.inputValue("#query")).toBe(EXAMPLE);
    await page.fill("#query", "blue");
    expect(await page.locator("#error").isVisible()).toBe(false);
    // Longer than the pause after which links are written.
    await page.waitForTimeout(600);
    expect(page.url()).toBe(url);
    await page.click("#rank");
    await page.waitForFunction(() => /^#1\.(?!broken)/.test(location.hash));
  });

  test("has Home and End on its tabs", async () => {
    const page = await opened();
    await page.focus("#tab-ranking");
    await page.keyboard.press("End");
    expect(await page.evaluate(() => document.activeElement?.id)).toBe("tab-request");
    await page.keyboard.press("Home");
    expect(await page.evaluate(() => document.activeElement?.id)).toBe("tab-ranking");
    expect(await page.locator("#view-ranking").isVisible()).toBe(true);
  });
});
