/** The scripts of the server's page that need no browser. */

import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { agreement } from "../../../sie-server/src/sie_server/playground/correlation.js";
import { readDocuments } from "../../../sie-server/src/sie_server/playground/documents.js";
import { EXAMPLES } from "../../../sie-server/src/sie_server/playground/example.js";
import { bestWindow, marksOf, queryWords } from "../../../sie-server/src/sie_server/playground/explanation.js";
import { fragmentOf, MOST_CHARACTERS, stateOf } from "../../../sie-server/src/sie_server/playground/link.js";
import { Rates } from "../../../sie-server/src/sie_server/playground/rates.js";
import { contender, scoreRequest } from "../../../sie-server/src/sie_server/playground/request.js";
import { BUNDLE, bundle } from "../../playground/bundle.mjs";

const STATE = {
  query: "q ☃ 😀",
  documents: "a\nb",
  model: "org/m#dense",
  against: "",
  long: "chunk_max",
  instruction: "",
  why: true,
};

test("sdk.js is what `make playground` makes of the sources", async () => {
  expect(readFileSync(BUNDLE, "utf8") === (await bundle()), "run `make playground` and commit sdk.js").toBe(true);
});

test.each([
  ["a\r\n\n  b  \n[1] c", ["a", "b", "[1] c"]],
  ['["a", {"text": "b", "id": 7}]', ["a", { id: "7", text: "b" }]],
  ['[{"text": "a\\nb"}]', ["a\nb"]],
  ['{"_id": "x", "text": "a"}\n\n{"text": "b", "metadata": {}}', [{ id: "x", text: "a" }, "b"]],
  ["[]", []],
  [" \n", []],
  ["{a} and more", ["{a} and more"]],
  ['"a"\n\n"b\\nc"', ["a", "b\nc"]],
  ['"a"\n{"text": "b"}', ["a", "b"]],
  ['{"text": "a"}\n"b"', ["a", "b"]],
  ['"To be" or not\n"a"', ['"To be" or not', '"a"']],
  ['{"text":\n"a"}', ["a"]],
  // As `sie-server rerank` joins them.
  ['{"_id": 1, "title": "T", "text": "a"}', [{ id: "1", text: "T a" }]],
  ['[{"title": "", "text": " a"}, {"title": null, "text": " b"}, {"title": "T", "text": ""}]', [" a", " b", "T"]],
  ['{\n "text": "a"\n}', ["a"]],
])("documents are read from %j", (text, expected) => {
  const read = readDocuments(text).documents.map(({ id, text }) => (id === undefined ? text : { id, text }));
  expect(read).toEqual(expected);
});

test.each([
  ['["a", ', "The documents look like a JSON array, but they are not valid JSON: "],
  ['{"text": "a"}\n{"text": "b"', "Line 2 looks like JSON, but is not valid: "],
  ['{"text": "a"}\nb', "The documents look like JSON, but are not valid: "],
  ['["a", {"id": "item-0", "text": "b"}]', 'Document 1 needs an id, as another document has the id "item-0".'],
  ['{"text": "a"}\n{"text": b}', "Line 2 looks like JSON, but is not valid: "],
  ['["a", 7]', 'Document 2 of the array must be a text, or an object with a text in the field "text".'],
  ['{"id": "a"}', "Line 1 must be a text"],
  ['{"title": 7, "text": "a"}', "The title of Line 1 must be a text."],
  ['{"name": "T", "text": "a"}', 'Line 1 has the field "name", which is not read here'],
  ['{"id": [1], "text": "a"}', "The id of Line 1 must be a text."],
  ['["\\ud83d"]', "Document 1 of the array has half a character in it"],
  ['[{"id": "a", "text": ""}, {"id": "a", "text": ""}]', 'Two documents have the id "a".'],
  ["a\n".repeat(1001), "There are 1,001 documents; this page ranks 1,000 at most."],
])("a fault in documents has a sentence: %j", (text, message) => {
  expect(() => readDocuments(text)).toThrow(message);
});

test("a fault in a line of JSON has one number of a line", () => {
  const fault = () => readDocuments('{"text": "a"}\n{"text": "b" "c"}');
  expect(fault).toThrow(/^Line 2 looks like JSON, but is not valid: .* at column 14/);
  expect(fault).not.toThrow(/line 1/);
});

test("a link restores the state", async () => {
  const fragment = await fragmentOf(STATE);
  expect(fragment).toMatch(/^1\.[\w-]+$/);
  expect(await stateOf(fragment)).toEqual(STATE);
  const long = { ...STATE, documents: "the same words again\n".repeat(1000) };
  expect((await fragmentOf(long)).length).toBeLessThan(1000);
});

test.each([
  ["", "damaged"],
  ["1.", "damaged"],
  ["1.!!!", "damaged"],
  ["2.AAAA", "damaged"],
  ["1.AAAA", "damaged"],
  ["%00%ff", "damaged"],
  ["1.".padEnd(MOST_CHARACTERS + 1, "A"), "too long"],
])("a broken link has a sentence", async (fragment, message) => {
  await expect(stateOf(fragment)).rejects.toThrow(new RegExp(`^The link is .*${message}.*\\.$`));
});

test.each([
  { ...STATE, why: "yes" },
  { ...STATE, long: "drop" },
  { ...STATE, other: "field" },
  { ...STATE, query: undefined },
  ["a"],
  null,
])("a link to something else has a sentence", async (state) => {
  const fragment = await fragmentOf(state as typeof STATE);
  await expect(stateOf(fragment)).rejects.toThrow("The link is damaged: it does not describe a ranking.");
});

test("a link can't be made to expand without end, and none is made that is too long", async () => {
  const zeros = await fragmentOf({ ...STATE, documents: "0".repeat(2 ** 20 - 200) });
  expect((await stateOf(zeros)).documents).toHaveLength(2 ** 20 - 200);
  await expect(fragmentOf({ ...STATE, documents: "0".repeat(2 ** 20) })).rejects.toThrow("too long for a link");
  const bytes = crypto.getRandomValues(new Uint8Array(60_000));
  const noise = Array.from(bytes, (byte) => byte.toString(16)).join("");
  await expect(fragmentOf({ ...STATE, documents: noise })).rejects.toThrow("too long for a link");
  const bomb = new Blob([new Uint8Array(2 ** 24)]).stream().pipeThrough(new CompressionStream("deflate-raw"));
  const packed = Buffer.from(await new Response(bomb).arrayBuffer()).toString("base64url");
  expect(packed.length).toBeLessThan(MOST_CHARACTERS);
  await expect(stateOf(`1.${packed}`)).rejects.toThrow("damaged");
});

test("the request has what the form says, and nothing else", () => {
  const asked = { query: "q", documents: [{ text: "a" }], instruction: " ", long: "truncate", explain: false };
  expect(scoreRequest(contender("org/m"), asked)).toEqual({
    model: "org/m",
    query: "q",
    items: [{ text: "a" }],
    instruction: undefined,
    options: { return_tokens: true },
  });
  const all = { ...asked, instruction: "I", long: "chunk_max", explain: true };
  expect(scoreRequest(contender("org/m#dense"), all)).toMatchObject({
    instruction: "I",
    options: { return_tokens: true, score_mode: "dense", long_documents: "chunk_max", return_highlights: true },
  });
});

test("Kendall's tau is that of the definition", () => {
  expect(agreement([3, 2, 1], [30, 20, 10])).toEqual({ tau: 1, share: 1 });
  expect(agreement([3, 2, 1], [1, 2, 3])).toEqual({ tau: -1, share: 0 });
  // scipy.stats.kendalltau([12, 2, 1, 12, 2], [1, 4, 7, 1, 0]).statistic
  expect(agreement([12, 2, 1, 12, 2], [1, 4, 7, 1, 0]).tau).toBeCloseTo(-0.4714045207910316, 12);
  expect(agreement([1, 1], [1, 2]).tau).toBeNaN();
});

test("highlights become words of the query, and marks in UTF-16 units", () => {
  // Code points: the snowman is one, and so is the emoji, which has two units.
  const highlights = [
    { query: [0, 2], document: [2, 5], score: 0.5 },
    { query: [2, 4], document: [6, 7], score: 0.75 },
    { query: [5, 7], document: [2, 5], score: 0.9 },
    { query: [7, 8], document: null, score: 0.3 },
    { query: [8, 9], document: null, score: 0.1 },
  ] as const;
  const mutable = structuredClone(highlights) as never;
  const words = queryWords("blue sky?", mutable);
  expect(words).toEqual([
    { text: "blue", tokens: [0, 1] },
    { text: "sky", tokens: [2, 3] },
    { text: "?", tokens: [4] },
  ]);
  const text = "😀 sky ☃";
  expect(marksOf(text, mutable, words)).toEqual([
    {
      start: 3,
      end: 6,
      words: new Map([
        [0, 0.5],
        [1, 0.9],
      ]),
    },
    { start: 7, end: 8, words: new Map([[0, 0.75]]) },
  ]);
});

test("a window is one only if it is a part of the text", () => {
  const entry = { itemId: "a", score: 1, rank: 0 };
  expect(bestWindow("a b c", entry)).toBeUndefined();
  expect(bestWindow(" a b c ", { ...entry, span: [1, 6] })).toBeUndefined();
  expect(bestWindow("😀 b c", { ...entry, span: [2, 3] })).toEqual({ start: 3, end: 4 });
});

test("rates are those of the last two seconds, and begin anew with the server", () => {
  const rates = new Rates();
  expect(rates.add(100, 5000)).toBe(0);
  expect(rates.add(101, 6000)).toBe(1000);
  expect(rates.add(102, 6000)).toBe(500);
  expect(rates.add(103, 6000)).toBe(0);
  expect(rates.add(104, 10)).toBe(0);
  expect(rates.add(105, 30)).toBe(20);
});

test("the examples can be ranked, and fit into a link", async () => {
  for (const example of EXAMPLES) {
    expect(readDocuments(example.documents).documents.length).toBeGreaterThan(2);
    await fragmentOf({ ...STATE, ...example });
  }
});
