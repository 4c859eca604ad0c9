/** A ranking as a list: ranks, scores as bars, moves, and the reasons. */

import { counted, duration, make, shownScore, spoken } from "./elements.js";
import { bestWindow, explainedText, queryWords, wordButtons } from "./explanation.js";
import { rankerName } from "./request.js";

/** @import { ScoreEntry, ScoreResult } from "./sdk.js" */
/** @import { ScoreRequest } from "./request.js" */

/**
 * A request and its answer. `isProbability`: whether the scores are from 0 to 1. `places` are the numbers of the documents in the request, in the order of the ranking.
 *
 * @typedef {{ request: ScoreRequest, result: ScoreResult, isProbability: boolean, places: number[] }} Ranked
 */

const SHOWN_AT_FIRST = 100;

/**
 * @param {ScoreRequest} request
 * @param {ScoreResult} result
 * @param {boolean} isProbability
 * @returns {Ranked}
 */
export function ranked(request, result, isProbability) {
  const numbers = new Map(request.items.map(({ id }, index) => [id ?? `item-${index}`, index]));
  return { request, result, isProbability, places: result.scores.map(({ itemId }) => numbers.get(itemId) ?? 0) };
}

/**
 * @param {Ranked} ranking
 * @returns {Node[]}
 */
export function rankingView(ranking) {
  const { request, result, places } = ranking;
  const first = result.scores.find(({ highlights }) => highlights)?.highlights ?? [];
  const words = queryWords(request.query, first);
  const scale = scaleOf(ranking);
  const list = make("ol", "ranking");
  const add = (/** @type {number} */ from, /** @type {number} */ to) =>
    list.append(
      ...result.scores.slice(from, to).map((entry, i) => {
        const place = places[from + i] ?? 0;
        return row(entry, place, request, words, scale);
      }),
    );
  add(0, SHOWN_AT_FIRST);
  /** @type {HTMLElement[]} */
  const parts = [summary(ranking), ...(words.length > 0 ? [wordButtons(words, list)] : []), list];
  if (result.scores.length > SHOWN_AT_FIRST) {
    const more = make("button", "", `Show all ${counted(result.scores.length, "document")}`);
    more.type = "button";
    more.addEventListener("click", () => {
      more.remove();
      add(SHOWN_AT_FIRST, result.scores.length);
    });
    parts.push(more);
  }
  return parts;
}

/**
 * The model, the times and the tokens of a request.
 *
 * @param {Ranked} ranking
 */
export function summary({ request, result }) {
  const { totalMs = 0, queueMs = 0, tokenizationMs = 0, inferenceMs = 0 } = result.timing ?? {};
  const rest = Math.max(totalMs - queueMs - tokenizationMs - inferenceMs, 0);
  const phases = /** @type {const} */ ([
    ["queue", "Queue", queueMs],
    ["tokenization", "Tokenization", tokenizationMs],
    ["inference", "Inference", inferenceMs],
    ["rest", "Rest", rest],
  ]);
  const bar = make("div", "phases");
  bar.setAttribute("aria-hidden", "true");
  for (const [name, , ms] of phases) {
    const part = make("span", name);
    part.style.flexGrow = String(ms);
    bar.append(part);
  }
  const terms = phases.map(([name, title, ms]) =>
    make("span", `phase ${name}`, `${title} `, make("b", "", duration(ms))),
  );
  const cut = result.scores.filter(({ truncated }) => truncated).length;
  const facts = [
    make("b", "ranker", rankerName(request)),
    " · ",
    make("b", "", duration(totalMs)),
    ` for ${counted(result.usage?.inputTokens ?? 0, "token")}`,
    ...(cut > 0 ? [` · ${counted(cut, "document")} cut at the model’s limit`] : []),
  ];
  return make("div", "summary", make("p", "facts", ...facts), bar, make("p", "terms", ...terms));
}

/** @typedef {{ least: number, most: number }} Scale */

/**
 * The range of a bar. It begins at zero, so that the lengths of bars are as the scores.
 *
 * @param {Ranked} ranking
 * @returns {Scale}
 */
export function scaleOf({ result, isProbability }) {
  const values = result.scores.map(({ score }) => score);
  return { least: Math.min(0, ...values), most: Math.max(isProbability ? 1 : 0, ...values) };
}

/**
 * @param {number} score
 * @param {Scale} scale
 */
export function scoreBar(score, { least, most }) {
  const range = most - least || 1;
  const fill = make("span", score < 0 ? "fill negative" : "fill");
  fill.style.left = `${((Math.min(score, 0) - least) / range) * 100}%`;
  fill.style.width = `${(Math.abs(score) / range) * 100}%`;
  const bar = make("span", "bar", fill);
  if (least < 0) {
    const zero = make("span", "zero");
    zero.style.left = `${(-least / range) * 100}%`;
    bar.append(zero);
  }
  bar.setAttribute("aria-hidden", "true");
  return bar;
}

/**
 * @param {ScoreEntry} entry
 * @param {number} place
 * @param {ScoreRequest} request
 * @param {import("./explanation.js").Word[]} words
 * @param {Scale} scale
 */
function row(entry, place, { items }, words, scale) {
  const { id, text } = items[place] ?? { id: undefined, text: "" };
  const meta = make("p", "meta", make("span", "", id ?? `document ${place + 1}`));
  if (entry.tokens !== undefined) meta.append(make("span", "", counted(entry.tokens, "token")));
  if (entry.truncated) meta.append(make("span", "cut", "cut"));
  if (bestWindow(text, entry)) meta.append(make("span", "", "best window marked"));
  return make(
    "li",
    "",
    make("div", "rank", make("span", "number", String(entry.rank + 1)), moved(place - entry.rank, place, items.length)),
    make("div", "document", explainedText(text, entry, words), meta),
    make(
      "div",
      "score",
      make("span", "value", spoken("Score "), shownScore(entry.score)),
      scoreBar(entry.score, scale),
    ),
  );
}

/**
 * @param {number} by - Ranks that the document has risen.
 * @param {number} from
 * @param {number} count
 */
function moved(by, from, count) {
  if (count === 1) return "";
  const [sign, name, words] =
    by > 0
      ? [`▲${by}`, "up", `up by ${by}, from ${from + 1}`]
      : by < 0
        ? [`▼${-by}`, "down", `down by ${-by}, from ${from + 1}`]
        : ["=", "same", "where it was"];
  const shown = make("span", "", sign);
  shown.setAttribute("aria-hidden", "true");
  const move = make("span", `move ${name}`, shown, spoken(words));
  move.title = words;
  return move;
}
