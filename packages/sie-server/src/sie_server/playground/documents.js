/** Documents as people paste them: one per line, a JSON array, or JSON Lines. */

/**
 * @typedef {object} Document
 * @property {string} text
 * @property {string} [id]
 *
 * @typedef {object} Documents
 * @property {Document[]} documents
 * @property {string} form - How they were read, as the end of a sentence.
 */

export const MOST_DOCUMENTS = 1000;
const LINE_BREAK = /\r\n|[\n\r]/;

/**
 * Reads documents.
 *
 * @param {string} text
 * @returns {Documents}
 * @throws {Error} whose message is a sentence that says where the fault is.
 */
export function readDocuments(text) {
  const read = readAs(text);
  const { documents } = read;
  if (documents.length > MOST_DOCUMENTS) {
    const [count, most] = [documents.length, MOST_DOCUMENTS].map((number) => number.toLocaleString("en"));
    throw new Error(`There are ${count} documents; this page ranks ${most} at most.`);
  }
  const ids = new Set();
  for (const { id } of documents) {
    if (id === undefined) continue;
    if (ids.has(id)) throw new Error(`Two documents have the id ${quoted(id)}.`);
    ids.add(id);
  }
  // The server's names for documents without an id.
  const taken = documents.findIndex(({ id }, index) => id === undefined && ids.has(`item-${index}`));
  if (taken >= 0) throw new Error(`Document ${taken + 1} needs an id, as another document has the id "item-${taken}".`);
  return read;
}

/**
 * @param {string} text
 * @returns {Documents}
 */
function readAs(text) {
  if (/^\s*\[\s*["{\]]/.test(text)) return { documents: array(text), form: "read as a JSON array" };
  const lines = text.split(LINE_BREAK).filter((line) => line.trim() !== "");
  // A text may begin with a quotation mark, so that a line which does so and is not JSON is no fault.
  if (lines.length > 0 && lines.every(isJson)) return { documents: jsonLines(text), form: "read as JSON Lines" };
  if (/^\s*\{\s*["}]/.test(text)) {
    if (lines.every((line) => line.trim().startsWith("{"))) {
      return { documents: jsonLines(text), form: "read as JSON Lines" };
    }
    const object = parsed(text, "The documents look like JSON, but are not valid");
    return { documents: [documentOf(object, "The JSON object")], form: "read as a JSON object" };
  }
  return { documents: lines.map((line, index) => documentOf(line.trim(), `Line ${index + 1}`)), form: "one per line" };
}

/** @param {string} text */
function array(text) {
  const items = parsed(text, "The documents look like a JSON array, but they are not valid JSON");
  if (!Array.isArray(items)) throw new Error("The documents look like a JSON array, but are not one.");
  return items.map((item, index) => documentOf(item, `Document ${index + 1} of the array`));
}

/** @param {string} text */
function jsonLines(text) {
  return text.split(LINE_BREAK).flatMap((line, index) => {
    if (line.trim() === "") return [];
    const place = `Line ${index + 1}`;
    return [documentOf(parsed(line, `${place} looks like JSON, but is not valid`, inOneLine), place)];
  });
}

/**
 * Whether a line is a text in quotation marks, or an object, in JSON.
 *
 * @param {string} line
 */
function isJson(line) {
  if (!/^\s*["{]/.test(line)) return false;
  try {
    JSON.parse(line);
    return true;
  } catch {
    return false;
  }
}

/**
 * What a browser says of JSON that is a single line, without the number that it gives to this line.
 *
 * @param {string} message
 */
function inOneLine(message) {
  return message
    .replace(/at position (\d+)(?: \(line 1 column \d+\))?/, (_, position) => `at column ${Number(position) + 1}`)
    .replace(/at line 1 column (\d+) of the JSON data/, "at column $1");
}

/**
 * @param {string} text
 * @param {string} complaint
 * @param {(message: string) => string} [reworded]
 * @returns {unknown}
 */
function parsed(text, complaint, reworded = (message) => message) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`${complaint}: ${reworded(error instanceof Error ? error.message : String(error))}.`);
  }
}

/**
 * @param {unknown} item
 * @param {string} place
 * @returns {Document}
 */
function documentOf(item, place) {
  if (typeof item === "string") return { text: wellFormed(item, place) };
  if (typeof item !== "object" || item === null || !("text" in item) || typeof item.text !== "string") {
    throw new Error(`${place} must be a text, or an object with a text in the field "text".`);
  }
  const { title, text: body, id, _id, ...others } = /** @type {Record<string, unknown>} */ (item);
  const [other] = Object.keys(others).filter((name) => name !== "metadata");
  if (other !== undefined) {
    throw new Error(
      `${place} has the field ${quoted(other)}, which is not read here; there are "id", "title" and "text".`,
    );
  }
  if (title !== undefined && title !== null && typeof title !== "string") {
    throw new Error(`The title of ${place} must be a text.`);
  }
  // As BEIR joins them, and sie-server rerank.
  const text = title ? `${title} ${body}`.trim() : body;
  const given = id ?? _id;
  if (given === undefined || given === null) return { text: wellFormed(text, place) };
  if (typeof given !== "string" && typeof given !== "number") throw new Error(`The id of ${place} must be a text.`);
  return { id: wellFormed(String(given), place), text: wellFormed(text, place) };
}

/**
 * @param {unknown} text
 * @param {string} place
 */
function wellFormed(text, place) {
  const known = String(text);
  if (/[\ud800-\udfff]/u.test(known)) throw new Error(`${place} has half a character in it (a lone surrogate).`);
  return known;
}

/** @param {string} text */
function quoted(text) {
  return JSON.stringify(text.length > 40 ? `${text.slice(0, 40)}…` : text);
}
