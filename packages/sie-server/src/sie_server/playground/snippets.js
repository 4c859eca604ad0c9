/** A request as a command and as programs, which run as they are pasted. */

/** @import { ScoreRequest } from "./request.js" */

/** @typedef {{ name: string, code: string }} Snippet */

/**
 * @param {ScoreRequest} request
 * @param {string} url - Address of the server.
 * @param {boolean} keyed - Whether it needs an API key, which comes from the environment.
 * @returns {Snippet[]}
 */
export function snippets(request, url, keyed) {
  return [
    { name: "curl", code: curl(request, url, keyed) },
    { name: "Python", code: python(request, url, keyed) },
    { name: "TypeScript", code: typescript(request, url, keyed) },
  ];
}

/**
 * @param {ScoreRequest} request
 * @param {string} url
 * @param {boolean} keyed
 */
function curl({ model, query, items, instruction, options }, url, keyed) {
  const path = model.split("/").map(encodeURIComponent).join("/");
  const body = [
    `"query": ${json({ text: query })}`,
    `"items": [\n${items.map((item) => `  ${json(item)}`).join(",\n")}\n ]`,
    ...(instruction === undefined ? [] : [`"instruction": ${json(instruction)}`]),
    `"options": ${json(options)}`,
  ];
  return [
    `curl -sS ${shellQuoted(`${url}/v1/score/${path}`)} \\`,
    "  -H 'Content-Type: application/json' -H 'Accept: application/json' \\",
    ...(keyed ? ['  -H "Authorization: Bearer $SIE_API_KEY" \\'] : []),
    // No line of the JSON is this word, and the shell replaces nothing in between.
    "  --data-binary @- <<'JSON'",
    `{${body.join(",\n ")}}`,
    "JSON",
  ].join("\n");
}

/**
 * @param {ScoreRequest} request
 * @param {string} url
 * @param {boolean} keyed
 */
function python({ model, query, items, instruction, options }, url, keyed) {
  return [
    ...(keyed ? ["# The client reads the API key from the environment variable SIE_API_KEY."] : []),
    "from sie_sdk import SIEClient",
    "",
    `query = ${json(query)}`,
    `documents = ${pythonValue(items.map(bare))}`,
    `client = SIEClient(${json(url)})`,
    "result = client.score(",
    `    ${json(model)},`,
    "    query,",
    "    documents,",
    ...(instruction === undefined ? [] : [`    instruction=${json(instruction)},`]),
    `    options=${pythonValue(options, "    ")},`,
    ")",
    // Without blocks, which an interactive Python ends only at an empty line.
    "lines = [f\"{entry['score']:9.4f}  {entry['item_id']}\" for entry in result[\"scores\"]]",
    'print("\\n".join(lines))',
    "client.close()",
  ].join("\n");
}

/**
 * @param {ScoreRequest} request
 * @param {string} url
 * @param {boolean} keyed
 */
function typescript({ model, query, items, instruction, options }, url, keyed) {
  const settings = { instruction, options };
  return [
    ...(keyed ? ["// The client reads the API key from the environment variable SIE_API_KEY."] : []),
    'import { SIEClient } from "@sie/sdk";',
    "",
    `const query = ${json(query)};`,
    `const documents = [\n${items.map((item) => `  ${json(bare(item))},\n`).join("")}];`,
    `const client = new SIEClient(${json(url)});`,
    `const result = await client.score(${json(model)}, query, documents, ${json(settings, "  ")});`,
    "for (const { score, itemId } of result.scores) console.log(score.toFixed(4).padStart(9), itemId);",
  ].join("\n");
}

/** @param {import("./documents.js").Document} document */
function bare(document) {
  return document.id === undefined ? document.text : document;
}

// What a terminal or an editor would not show, or would act on: control characters, marks of direction and the like.
const UNSEEN = /[\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;

/**
 * JSON that is also a literal of Python and of TypeScript, apart from `true`, `false` and `null`.
 *
 * @param {unknown} value
 * @param {string} [indent]
 */
function json(value, indent) {
  return JSON.stringify(value, null, indent).replace(
    UNSEEN,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/**
 * @param {unknown} value
 * @param {string} [margin] - Of the line on which it begins.
 * @returns {string}
 */
function pythonValue(value, margin = "") {
  const inner = `${margin}    `;
  const block = (/** @type {string} */ open, /** @type {string[]} */ parts, /** @type {string} */ close) =>
    parts.length === 0
      ? open + close
      : `${open}\n${parts.map((part) => `${inner}${part},\n`).join("")}${margin}${close}`;
  if (value === true) return "True";
  if (value === false) return "False";
  if (value === null || value === undefined) return "None";
  if (Array.isArray(value)) {
    return block(
      "[",
      value.map((each) => pythonValue(each, inner)),
      "]",
    );
  }
  if (typeof value === "object") {
    return block(
      "{",
      Object.entries(value).map(([name, each]) => `${json(name)}: ${pythonValue(each, inner)}`),
      "}",
    );
  }
  return json(value);
}

/** @param {string} text */
function shellQuoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
