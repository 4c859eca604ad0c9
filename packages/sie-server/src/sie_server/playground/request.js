/** The request that the form stands for: the same for the page's own calls and for the programs that it shows. */

/** @import { Document } from "./documents.js" */

/**
 * A model, and how it compares a query with a document where it has several ways.
 *
 * @typedef {{ model: string, mode: string }} Contender
 *
 * @typedef {object} ScoreRequest
 * @property {string} model
 * @property {string} query
 * @property {Document[]} items
 * @property {string | undefined} instruction
 * @property {Record<string, unknown>} options
 */

/** The most documents of which the page shows why they rank as they do. */
export const MOST_EXPLAINED = 200;

/**
 * @param {Contender} contender
 * @param {{ query: string, documents: Document[], instruction: string, long: string, explain: boolean }} asked
 * @returns {ScoreRequest}
 */
export function scoreRequest({ model, mode }, { query, documents, instruction, long, explain }) {
  /** @type {Record<string, unknown>} */
  const options = { return_tokens: true };
  if (mode) options["score_mode"] = mode;
  if (long !== "truncate") options["long_documents"] = long;
  if (explain && documents.length <= MOST_EXPLAINED) options["return_highlights"] = true;
  return { model, query, items: documents, instruction: instruction.trim() || undefined, options };
}

/** @param {string} value - `MODEL` or `MODEL#MODE`, as in the lists of models and in links. */
export function contender(value) {
  const [model = "", mode = ""] = value.split("#");
  return { model, mode };
}

/**
 * What ranked: the model, and how it compared texts if the request says so.
 *
 * @param {ScoreRequest} request
 */
export function rankerName({ model, options }) {
  const mode = options["score_mode"];
  return mode ? `${model} (${mode})` : model;
}
