/** The server's page: what it shows of rankings. */

import { execFile } from "node:child_process";
import { promisify } from "node:util";
import type { Page } from "playwright-core";
import { describe, expect, inject, test } from "vitest";
import { packMessage } from "../../src/index.js";
import { present } from "./chromium.js";
import { faults, opened, ranked } from "./playground-page.js";
import { MODEL, python } from "./server.js";

const run = promisify(execFile);
const ABSENT = "cross-encoder/ms-marco-MiniLM-L-6-v2";

async function rank(page: Page, query: string, documents: string): Promise<void> {
  await page.fill("#query", query);
  await page.fill("#documents", documents);
  await page.evaluate(() => document.querySelector("#view-ranking")?.replaceChildren());
  await page.click("#rank");
  await page.waitForSelector(".ranking li");
}

const withoutScores = (printed: string) =>
  printed
    .trimEnd()
    .split("\n")
    .map((line) => line.trim().replace(/^\S+ +/, ""));
const texts = (page: Page, selector: string) => page.locator(selector).allInnerTexts();

describe.skipIf(!present)("the playground", () => {
  test("ranks its example at once", async () => {
    const page = await ranked();
    const scores = (await texts(page, ".ranking .value")).map((text) => Number(text.replace(/\D*/, "")));
    expect(scores).toHaveLength(8);
    expect(scores).toEqual([...scores].sort((a, b) => b - a));
    expect(await page.locator(".ranking li").first().innerText()).toContain("Rayleigh scattering gives the sky");
    // It was the fifth.
    expect(await texts(page, ".ranking li:first-child .move")).toEqual(["▲4\nup by 4, from 5"]);
    expect(await page.locator(".ranking .meta").first().innerText()).toMatch(/document 5\s*25 tokens/);
    expect(await page.locator(".terms").innerText()).toMatch(/Queue .* ms\s*Tokenization .* ms\s*Inference .* ms/);
    expect(await page.locator("#message").innerText()).toMatch(/^8 documents ranked in/);
    expect(await page.locator("#documents-note").innerText()).toBe("8 documents, one per line");
    const before = await page.locator("#message").innerText();
    await page.fill("#query", "Why is the sky blue");
    expect(await page.locator("#message").innerText()).toBe("Changed since; Ctrl ↵ ranks again");
    await page.fill("#query", "Why is the sky blue?");
    expect(await page.locator("#message").innerText()).toBe(before);
    await page.waitForFunction(() =>
      /1 model in memory/.test(document.querySelector("#status-text")?.textContent ?? ""),
    );
    expect(await page.locator("#version").innerText()).toMatch(/^sie-server \d/);
  });

  test("shows why, on the text", async () => {
    const page = await ranked();
    await rank(page, "blue sky", "A sky that is blue.\nIt rains.");
    const marks = page.locator(".ranking li:first-child mark");
    expect(await marks.allInnerTexts()).toEqual(["sky", "blue"]);
    expect(await marks.first().getAttribute("title")).toMatch(/^“sky” 0\.\d\d$/);
    const strength = () => marks.first().evaluate((mark) => Number(mark.style.getPropertyValue("--strength")));
    expect(await strength()).toBeGreaterThan(0.5);
    await page.click(".word:has-text('blue')");
    expect(await strength()).toBe(0);
    await page.click(".word:has-text('blue')");
    expect(await strength()).toBeGreaterThan(0.5);
  });

  test("marks the best window of a long document", async () => {
    const page = await ranked();
    await page.click("#example");
    await page.waitForSelector(".window");
    expect(await page.locator(".window").innerText()).toContain(
      "Lamps and other electric goods can be returned within 60 days",
    );
    await page.selectOption("#long", "truncate");
    await page.click("#rank");
    await page.waitForSelector(".cut");
    expect(await page.locator(".facts").innerText()).toContain("1 document cut at the model’s limit");
  });

  test("draws two rankings side by side", async () => {
    const page = await ranked();
    await page.selectOption("#against", `${MODEL}#dense`);
    await page.click("#rank");
    await page.waitForSelector(".sides li");
    expect(await page.locator("#tab-sides").getAttribute("aria-selected")).toBe("true");
    expect(await page.locator(".sides .left li").count()).toBe(8);
    expect(await page.locator(".sides .right li").count()).toBe(8);
    expect(await page.locator(".lines path").count()).toBe(8);
    expect(Number((await page.locator(".tau b").innerText()).replace("−", "-"))).toBeGreaterThan(0.5);
    expect(await texts(page, ".sides h2")).toEqual(["all-MiniLM-L6-v2", "all-MiniLM-L6-v2 dense"]);
    expect(await page.locator(".sides .right .note").innerText()).toMatch(/ms · 170 tokens/);
    await page.click("#tab-request");
    expect(await texts(page, "#view-request h2")).toEqual([MODEL, `${MODEL} (dense)`]);
    const programs = await texts(page, "#view-request code");
    expect(programs.map((program) => program.includes('"score_mode":"dense"'))).toEqual([false, true]);
  });

  test("says in a sentence what is wrong", async () => {
    const page = await ranked();
    await page.fill("#query", "  ");
    await page.click("#rank");
    expect(await page.locator("#error").innerText()).toBe("Enter a query.");
    await page.fill("#query", "q");
    await page.fill("#documents", '["a", 7]');
    await page.click("#rank");
    expect(await page.locator("#error").innerText()).toMatch(/^Document 2 of the array must be a text/);
    await page.click("#tab-request");
    expect(await page.locator("#view-request").textContent()).toMatch(/^Document 2 of the array must be a text/);
    await page.fill("#documents", "a");
    await page.selectOption("#model", ABSENT);
    await page.click("#rank");
    await page.waitForFunction(
      () => /loaded|found|hub/.test(document.querySelector("#error")?.textContent ?? ""),
      null,
      {
        timeout: 30_000,
      },
    );
    expect(await page.locator("#error").innerText()).toMatch(/^[A-Z].*\. \([A-Z_]+\)$/s);
    // The browser notes the failed request; that is all.
    expect(faults.splice(0)).toEqual([expect.stringContaining("Failed to load resource")]);
  });

  test("waits for a model that loads, and can be told not to", async () => {
    const page = await ranked();
    await page.selectOption("#model", ABSENT);
    let asked = 0;
    let seconds = "1";
    const loading = { error: undefined, detail: { code: "MODEL_LOADING", message: "it loads" } };
    const scores = [
      { item_id: "item-1", score: 1.5, rank: 0 },
      { item_id: "item-0", score: -3, rank: 1 },
    ];
    await page.route("**/v1/score/**", (route) =>
      asked++ === 0
        ? route.fulfill({ status: 503, headers: { "retry-after": seconds }, json: loading })
        : route.fulfill({
            contentType: "application/msgpack",
            body: Buffer.from(packMessage({ model: ABSENT, scores, usage: { input_tokens: 1 } })),
          }),
    );
    await page.fill("#documents", "a\nb");
    await page.click("#rank");
    await page.waitForFunction(() => document.querySelector("#message")?.textContent?.includes("is loading…"));
    await page.waitForSelector(".ranking .negative");
    expect(asked).toBe(2);
    // A score below zero goes to the left of it.
    const [left, zero] = await page
      .locator(".ranking li:last-child .bar")
      .evaluate((bar) =>
        [...bar.children].map((part) => part.getBoundingClientRect().left - bar.getBoundingClientRect().left),
      );
    expect(left).toBe(0);
    expect(zero).toBeGreaterThan(20);
    seconds = "30";
    asked = 0;
    await page.click("#rank");
    await page.waitForFunction(() => document.querySelector("#message")?.textContent?.includes("is loading…"));
    await page.keyboard.press("Escape");
    await page.waitForFunction(() => document.querySelector("#message")?.textContent === "Stopped.");
    asked = 0;
    await page.click("#rank");
    await page.click("#stop");
    await page.waitForFunction(() => document.querySelector("#message")?.textContent === "Stopped.");
    expect(await page.locator("#stop").isVisible()).toBe(false);
    expect(faults.splice(0).every((fault) => fault.includes("503"))).toBe(true);
  });

  test("needs no pointer", async () => {
    const page = await ranked();
    await page.keyboard.press("/");
    await page.keyboard.press("Control+A");
    await page.keyboard.type("snakes");
    for (let i = 0; i < 3; i++) await page.keyboard.press("Tab");
    await page.keyboard.press("Control+A");
    await page.keyboard.insertText("It rains.\nA python is a snake.");
    await page.keyboard.press("Control+Enter");
    await page.waitForFunction(() => document.querySelectorAll(".ranking li").length === 2);
    expect(await page.locator(".ranking li").first().innerText()).toContain("A python is a snake.");
    const reached: string[] = [];
    for (let i = 0; i < 12 && reached.at(-1) !== "tab-ranking"; i++) {
      await page.keyboard.press("Tab");
      reached.push(await page.evaluate(() => document.activeElement?.id || document.activeElement?.tagName || ""));
    }
    expect(reached).toEqual(["model", "against", "SUMMARY", "rank", "link", "tab-ranking"]);
    const outline = await page.locator("#tab-ranking").evaluate((tab) => getComputedStyle(tab).outlineStyle);
    expect(outline).toBe("solid");
    await page.keyboard.press("ArrowLeft");
    expect(await page.evaluate(() => document.activeElement?.id)).toBe("tab-request");
    expect(await page.locator("#view-request pre").isVisible()).toBe(true);
  });

  test("shows texts as texts", async () => {
    const page = await ranked();
    const evil = `<img src=x onerror="document.title='bad'"><script>document.title='bad'</script>`;
    await rank(page, evil, JSON.stringify([{ id: evil, text: `${evil} snakes` }, "b"]));
    await page.selectOption("#against", `${MODEL}#dense`);
    await page.click("#rank");
    await page.waitForSelector(".sides li");
    expect(await page.locator("#results").textContent()).toContain(`${evil} snakes`);
    expect(await page.locator("#results img, #results script, main img").count()).toBe(0);
    expect(await page.title()).toBe("SIE playground");
  });

  test("keeps its state in the link", async () => {
    const page = await ranked();
    await rank(page, "blue ☃", '["sky 😀", "sea"]');
    await page.selectOption("#against", `${MODEL}#dense`);
    await page.locator("summary").click();
    await page.selectOption("#long", "chunk_max");
    await page.uncheck("#why");
    await page.click("#rank");
    await page.waitForSelector(".sides li");
    const url = page.url();
    expect(url).toMatch(/#1\.[\w-]+$/);
    const other = await opened(url);
    await other.waitForSelector(".sides li");
    const values = await other.evaluate(() =>
      ["query", "documents", "model", "against", "long"].map(
        (id) => (document.getElementById(id) as HTMLInputElement | null)?.value,
      ),
    );
    expect(values).toEqual(["blue ☃", '["sky 😀", "sea"]', MODEL, `${MODEL}#dense`, "chunk_max"]);
    expect(await other.isChecked("#why")).toBe(false);
    // A link that is pasted into an open page counts too, and a broken one harms nothing.
    await other.evaluate(() => {
      location.hash = "#1.broken";
    });
    await other.waitForSelector("#error:not([hidden])");
    expect(await other.locator("#error").innerText()).toMatch(/^The link is damaged/);
    expect(await other.inputValue("#query")).toBe("blue ☃");
    const third = await ranked(`${inject("url")}/#1.broken`);
    expect(await third.locator("#error").innerText()).toMatch(/^The link is damaged/);
    expect(await third.inputValue("#query")).toBe("Why is the sky blue?");
  });

  test("shows programs that run as pasted", async () => {
    const page = await ranked();
    const nasty = [
      'it\'s "quoted" \\ $(reboot) `id` !x',
      "two\nlines\tand JSON\nJSON",
      "emoji 😀 \u202e\u2028 ☃",
      "'''",
    ];
    const documents = nasty.map((text, i) => (i % 2 ? { id: `${i}'"\\`, text } : text));
    await rank(page, 'what\'s "JSON"? \\n', JSON.stringify(documents));
    await page.locator("summary").click();
    await page.fill("#instruction", "it's an 'instruction'");
    await page.click("#rank");
    await page.waitForFunction(() => !document.querySelector("#rank")?.hasAttribute("aria-busy"));
    const expected = await texts(page, ".ranking .meta span:first-child");
    const names = expected.map((name) => name.replace(/^document (\d)$/, (_, n) => `item-${Number(n) - 1}`));
    await page.click("#tab-request");
    const code = async (name: string) => {
      await page.click(`.choices button:has-text("${name}")`);
      return (await page.locator("#view-request code").textContent()) ?? "";
    };
    const { stdout: json } = await run("bash", ["-c", await code("curl")]);
    expect(JSON.parse(json).scores.map(({ item_id }: { item_id: string }) => item_id)).toEqual(names);
    const { stdout: lines } = await run(python, ["-c", await code("Python")]);
    expect(withoutScores(lines)).toEqual(names);
    const prompt = run(python, ["-i", "-q"]);
    prompt.child.stdin?.end(`${await code("Python")}\n`);
    const { stdout: answers, stderr: prompts } = await prompt;
    expect(withoutScores(answers)).toEqual(names);
    expect(prompts).not.toMatch(/Error/);
    const program = ["--input-type=module", "-e", await code("TypeScript")];
    const { stdout: typed } = await run(process.execPath, program, { cwd: new URL("../..", import.meta.url) });
    expect(withoutScores(typed)).toEqual(names);
  });
});
