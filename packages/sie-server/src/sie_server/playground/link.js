/** The form's state in the fragment of the page's URL, which browsers send to no server: compressed JSON in base64url. */

/**
 * @typedef {object} State
 * @property {string} query
 * @property {string} documents - As they were typed.
 * @property {string} model - `MODEL` or `MODEL#MODE`.
 * @property {string} against - The same for a second model, or empty.
 * @property {string} long - What happens to long documents.
 * @property {string} instruction
 * @property {boolean} why
 */

/** The most characters of a fragment. */
export const MOST_CHARACTERS = 32_768;
const MOST_BYTES = 2 ** 20;
const VERSION = "1.";
const LONG = ["truncate", "chunk_max", "error"];
/** @type {Readonly<Record<keyof State, "string" | "boolean">>} */
const FIELDS = {
  query: "string",
  documents: "string",
  model: "string",
  against: "string",
  long: "string",
  instruction: "string",
  why: "boolean",
};

/**
 * @param {State} state
 * @returns {Promise<string>} the fragment, without its #.
 * @throws {Error} if it would be too long; the message is a sentence.
 */
export async function fragmentOf(state) {
  const bytes = new TextEncoder().encode(JSON.stringify(state));
  const packed = bytes.length > MOST_BYTES ? bytes : await through(bytes, new CompressionStream("deflate-raw"));
  if (packed.length * (4 / 3) + VERSION.length > MOST_CHARACTERS) {
    throw new Error("These documents are too long for a link.");
  }
  const base64 = btoa(Array.from(packed, (byte) => String.fromCharCode(byte)).join(""));
  return VERSION + base64.replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

/**
 * @param {string} fragment - Without its #.
 * @returns {Promise<State>}
 * @throws {Error} if it is not one; the message is a sentence.
 */
export async function stateOf(fragment) {
  if (fragment.length > MOST_CHARACTERS) throw new Error("The link is too long to be one of this page’s.");
  /** @type {unknown} */
  let state;
  try {
    if (!fragment.startsWith(VERSION)) throw new Error("another version");
    const packed = atob(fragment.slice(VERSION.length).replaceAll("-", "+").replaceAll("_", "/"));
    const bytes = Uint8Array.from(packed, (character) => character.charCodeAt(0));
    const json = await through(bytes, new DecompressionStream("deflate-raw"));
    state = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(json));
  } catch {
    throw new Error("The link is damaged: what follows the # in the address can’t be read.");
  }
  if (!isState(state)) throw new Error("The link is damaged: it does not describe a ranking.");
  return state;
}

/**
 * @param {unknown} value
 * @returns {value is State}
 */
function isState(value) {
  if (typeof value !== "object" || value === null) return false;
  const fields = /** @type {Record<string, unknown>} */ (value);
  const complete = Object.entries(FIELDS).every(([name, type]) => typeof fields[name] === type);
  return complete && Object.keys(fields).length === Object.keys(FIELDS).length && LONG.includes(String(fields["long"]));
}

/**
 * @param {Uint8Array<ArrayBuffer>} bytes
 * @param {CompressionStream | DecompressionStream} stream
 * @returns {Promise<Uint8Array<ArrayBuffer>>}
 * @throws {Error} if it gives more than a state may have.
 */
async function through(bytes, stream) {
  const reader = new Blob([bytes]).stream().pipeThrough(stream).getReader();
  const parts = [];
  let size = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    size += value.length;
    if (size > MOST_BYTES) {
      await reader.cancel();
      throw new Error("too long");
    }
    parts.push(value);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}
