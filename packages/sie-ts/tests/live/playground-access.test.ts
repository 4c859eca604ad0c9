/** The server's page: where it runs, what it may do, and who can use it. */

import axe from "axe-core";
import type { Page } from "playwright-core";
import { describe, expect, inject, test } from "vitest";
import { present } from "./chromium.js";
import { faults, opened, ranked } from "./playground-page.js";
import { prefixProxy } from "./prefix-proxy.js";
import { MODEL, started } from "./server.js";

const KEY = "key/of+the=page";

describe.skipIf(!present)("the playground", () => {
  test("is bound to its origin by its policy", async () => {
    const page = await opened();
    const response = await page.request.get(`${inject("url")}/`, { headers: { accept: "text/html" } });
    expect(response.headers()["content-security-policy"]).toContain("default-src 'none'");
    const outcome = await page.evaluate(async () => {
      const blocked: string[] = [];
      document.addEventListener("securitypolicyviolation", ({ effectiveDirective }) =>
        blocked.push(effectiveDirective),
      );
      const refused = await fetch("http://127.0.0.1:9/").catch((error: Error) => error.name);
      const image = new Image();
      image.src = "http://127.0.0.1:9/x.png";
      const markup = (() => {
        try {
          document.createElement("p").innerHTML = "<b>";
          return "allowed";
        } catch (error) {
          return (error as Error).name;
        }
      })();
      await new Promise((resolve) => setTimeout(resolve, 200));
      return { refused, markup, blocked: blocked.sort() };
    });
    expect(outcome).toEqual({
      refused: "TypeError",
      markup: "TypeError",
      blocked: expect.arrayContaining(["connect-src", "img-src"]),
    });
    const expected = /Content Security Policy|Refused|elsewhere: http:..127.0.0.1:9|TrustedHTML|require-trusted/;
    expect(faults.splice(0).filter((fault) => !expected.test(fault))).toEqual([]);
  });

  test("asks for a key, and keeps it in the tab", async () => {
    const { url, stop } = await started(["--preload", MODEL], { SIE_API_KEYS: KEY });
    try {
      const page = await opened(`${url}/`);
      await page.waitForSelector("#key-dialog[open]");
      expect(await page.locator("#key-reason").innerText()).toBe("This server needs a key.");
      expect(faults).toEqual([]);
      await page.fill("#key", "wrong");
      await page.keyboard.press("Enter");
      await page.waitForFunction(() => document.querySelector("#key-reason")?.textContent?.includes("does not accept"));
      await page.fill("#key", KEY);
      await page.keyboard.press("Enter");
      await page.waitForSelector(".ranking li");
      await page.waitForFunction(() => /in memory/.test(document.querySelector("#status-text")?.textContent ?? ""));
      expect(page.url()).not.toContain(encodeURIComponent(KEY));
      await page.click("#tab-request");
      expect(await page.locator("#view-request code").textContent()).toContain('"Authorization: Bearer $SIE_API_KEY"');
      expect(await page.locator("body").textContent()).not.toContain(KEY);
      expect(await page.evaluate(() => JSON.stringify({ ...localStorage }) + document.cookie)).not.toContain(KEY);
      await page.reload();
      await page.waitForSelector(".ranking li");
      expect(faults.splice(0).every((fault) => fault.includes("401"))).toBe(true);
    } finally {
      await stop();
    }
  });

  test("works behind a path, and reconnects", async () => {
    const proxy = await prefixProxy(inject("url"), "/search/rerank");
    try {
      const page = await ranked(proxy.url);
      const connected = () => /in memory/.test(document.querySelector("#status-text")?.textContent ?? "");
      await page.waitForFunction(connected);
      await page.click("#tab-request");
      expect(await page.locator("#view-request").textContent()).toContain("/search/rerank/v1/score/");
      expect(await page.evaluate(() => (document.querySelector("nav a") as HTMLAnchorElement).href)).toBe(
        `${proxy.url}docs`,
      );
      proxy.cut();
      await page.waitForFunction(() =>
        /Connecting again/.test(document.querySelector("#status-text")?.textContent ?? ""),
      );
      await page.waitForFunction(connected, null, { timeout: 20_000 });
      expect(faults.splice(0).filter((fault) => !fault.includes("426"))).toEqual([]);
    } finally {
      proxy.close();
    }
  });

  test.each(["light", "dark"] as const)("is accessible in %s", async (colorScheme) => {
    const page = await ranked(undefined, { colorScheme, viewport: { width: 1280, height: 800 } });
    await page.selectOption("#against", `${MODEL}#dense`);
    await page.locator("summary").click();
    await page.click("#rank");
    await page.waitForSelector(".sides li");
    for (const view of ["sides", "ranking", "request"]) {
      await page.click(`#tab-${view}`);
      expect(await complaints(page)).toEqual([]);
    }
    await page.click("#theme");
    const theme = await page.evaluate(() => document.documentElement.dataset["theme"]);
    expect(theme).toBe(colorScheme === "dark" ? "light" : "dark");
  });

  test("fits on a phone", async () => {
    const page = await ranked(undefined, { viewport: { width: 390, height: 844 }, hasTouch: true });
    await page.selectOption("#against", `${MODEL}#dense`);
    await page.tap("#rank");
    await page.waitForSelector(".sides li");
    const scores = await page.locator(".sides .value").all();
    expect(scores).toHaveLength(16);
    for (const score of scores) {
      const side = await score.locator("xpath=ancestor::li").boundingBox();
      const box = await score.boundingBox();
      expect(box?.width).toBeGreaterThan(0);
      expect(Number(box?.y) + Number(box?.height)).toBeLessThanOrEqual(Number(side?.y) + Number(side?.height));
    }
    for (const view of ["sides", "ranking", "request"]) {
      await page.tap(`#tab-${view}`);
      expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(390);
    }
    expect(await complaints(page)).toEqual([]);
  });
});

/** What axe-core finds against WCAG 2.2 AA, contrast among it. */
async function complaints(page: Page): Promise<string[]> {
  await page.evaluate(axe.source);
  return page.evaluate(async () => {
    const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
    const found = await (window as unknown as { axe: typeof axe }).axe.run(document, { runOnly: tags });
    return found.violations.flatMap(({ id, nodes }) => nodes.map(({ html }) => `${id}: ${html.slice(0, 200)}`));
  });
}
