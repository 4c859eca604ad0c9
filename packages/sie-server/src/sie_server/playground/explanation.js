/** Why a document has its rank, drawn on its text: the tokens that match the query's, or the best window. */

import { make, spoken } from "./elements.js";

/** @import { Highlight, ScoreEntry } from "./sdk.js" */

/**
 * A word of the query, with the numbers of its tokens among the highlights.
 *
 * @typedef {{ text: string, tokens: number[] }} Word
 *
 * A part of a text: `[start, end)` in UTF-16 units, and the words of the query that it is nearest to, with cosines.
 *
 * @typedef {{ start: number, end: number, words: Map<number, number> }} Mark
 */

const EXCERPT = 420;
const LEAD_IN = 60;

/**
 * The words of a query, made of neighboring tokens.
 *
 * @param {string} query
 * @param {readonly Highlight[]} highlights
 * @returns {Word[]}
 */
export function queryWords(query, highlights) {
  const points = Array.from(query);
  /** @type {{ start: number, end: number, tokens: number[] }[]} */
  const words = [];
  highlights.forEach(({ query: [start, end] }, token) => {
    const last = words.at(-1);
    if (last !== undefined && last.end === start && isWord(points[start]) && isWord(points[start - 1])) {
      last.end = end;
      last.tokens.push(token);
    } else {
      words.push({ start, end, tokens: [token] });
    }
  });
  return words.map(({ start, end, tokens }) => ({ text: points.slice(start, end).join(""), tokens }));
}

/**
 * The parts of a document that are nearest to words of the query, in the order of the text.
 *
 * @param {string} text
 * @param {readonly Highlight[]} highlights
 * @param {readonly Word[]} words
 * @returns {Mark[]}
 */
export function marksOf(text, highlights, words) {
  const units = unitsOf(text);
  /** @type {Map<number, Mark>} */
  const marks = new Map();
  words.forEach(({ tokens }, word) => {
    for (const token of tokens) {
      const { document, score } = highlights[token] ?? { document: null, score: 0 };
      if (document === null) continue;
      const [start, end] = document;
      const mark = marks.get(start) ?? { start: units(start), end: units(end), words: new Map() };
      mark.words.set(word, Math.max(mark.words.get(word) ?? -1, score));
      marks.set(start, mark);
    }
  });
  return [...marks.values()].sort((a, b) => a.start - b.start);
}

/**
 * The text of a document with its marks and its best window.
 *
 * @param {string} text
 * @param {ScoreEntry} entry
 * @param {readonly Word[]} words
 * @returns {HTMLElement}
 */
export function explainedText(text, entry, words) {
  const marks = entry.highlights ? marksOf(text, entry.highlights, words) : [];
  const window = bestWindow(text, entry);
  const excerpt = excerptOf(text, window, marks);
  const shown = make("div", "text");
  const draw = (/** @type {boolean} */ whole) => {
    const [from, to] = whole ? [0, text.length] : excerpt;
    const parts = (/** @type {number} */ start, /** @type {number} */ end) =>
      marked(text, Math.max(start, from), Math.min(end, to), marks, words);
    shown.replaceChildren(
      ...(from > 0 ? ["… "] : []),
      ...(window
        ? [
            ...parts(0, window.start),
            make("span", "window", spoken("Best window: "), ...parts(window.start, window.end), spoken(" End of it. ")),
            ...parts(window.end, text.length),
          ]
        : parts(0, text.length)),
      ...(to < text.length ? [" …"] : []),
    );
    if (excerpt[0] > 0 || excerpt[1] < text.length) {
      const more = make(
        "button",
        "link",
        whole ? "Show less" : `Show all ${text.length.toLocaleString("en")} characters`,
      );
      more.type = "button";
      more.addEventListener("click", () => {
        draw(!whole);
        shown.querySelector("button")?.focus();
      });
      shown.append(" ", more);
    }
  };
  draw(false);
  return shown;
}

/**
 * The words of the query as buttons: one of them shows its own matches alone.
 *
 * @param {readonly Word[]} words
 * @param {HTMLElement} list - Has the marks.
 */
export function wordButtons(words, list) {
  const buttons = words.map(({ text }, index) => {
    const button = make("button", "word", text);
    button.type = "button";
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => {
      const pressed = button.getAttribute("aria-pressed") !== "true";
      for (const other of buttons) other.setAttribute("aria-pressed", String(pressed && other === button));
      showMatches(list, pressed ? index : undefined);
    });
    return button;
  });
  return make("div", "words", make("span", "caption", "Why: nearest to"), ...buttons);
}

/**
 * @param {HTMLElement} list
 * @param {number | undefined} word - The only word to show the matches of.
 */
function showMatches(list, word) {
  for (const mark of list.querySelectorAll("mark")) {
    const scores = new Map(JSON.parse(mark.dataset["words"] ?? "[]"));
    const score = word === undefined ? Math.max(...scores.values()) : (scores.get(word) ?? 0);
    mark.style.setProperty("--strength", strength(score).toFixed(2));
  }
}

/**
 * @param {string} text
 * @param {number} from
 * @param {number} to
 * @param {readonly Mark[]} marks
 * @param {readonly Word[]} words
 * @returns {(Node | string)[]}
 */
function marked(text, from, to, marks, words) {
  /** @type {(Node | string)[]} */
  const parts = [];
  let place = from;
  for (const { start, end, words: near } of marks) {
    if (start < place || end > to) continue;
    const mark = make("mark", "", text.slice(start, end));
    mark.dataset["words"] = JSON.stringify([...near]);
    mark.style.setProperty("--strength", strength(Math.max(...near.values())).toFixed(2));
    mark.title = Array.from(near, ([word, score]) => `“${words[word]?.text}” ${score.toFixed(2)}`).join(", ");
    parts.push(text.slice(place, start), mark);
    place = end;
  }
  if (place < to) parts.push(text.slice(place, to));
  return parts;
}

/**
 * How strongly a cosine is drawn, from 0 to 1: the weak ones, which every word has, fade.
 *
 * @param {number} cosine
 */
function strength(cosine) {
  return Math.min(Math.max((cosine - 0.2) / 0.7, 0), 1) ** 1.5;
}

/**
 * The window of a long document that scored best, in UTF-16 units; nothing if the document is one window.
 *
 * @param {string} text
 * @param {ScoreEntry} entry
 * @returns {{ start: number, end: number } | undefined}
 */
export function bestWindow(text, { span }) {
  if (span === undefined) return undefined;
  const units = unitsOf(text);
  const window = { start: units(span[0]), end: units(span[1]) };
  // Spaces around the text belong to no window.
  const isAll = text.slice(0, window.start).trim() === "" && text.slice(window.end).trim() === "";
  return isAll ? undefined : window;
}

/**
 * The part of a long text to show first: its best window, or else where the strongest mark is.
 *
 * @param {string} text
 * @param {{ start: number, end: number } | undefined} window
 * @param {readonly Mark[]} marks
 * @returns {[from: number, to: number]}
 */
function excerptOf(text, window, marks) {
  if (text.length <= EXCERPT * 1.5) return [0, text.length];
  if (window && window.end - window.start <= EXCERPT * 4) {
    return [cutBefore(text, window.start - LEAD_IN), Math.min(text.length, window.end + LEAD_IN)];
  }
  const among = window ? marks.filter(({ start, end }) => start >= window.start && end <= window.end) : marks;
  const best = among.reduce(
    (found, { start, words }) => {
      const score = Math.max(...words.values());
      return score > found.score ? { start, score } : found;
    },
    { start: window?.start ?? 0, score: 0 },
  );
  const from = best.start < EXCERPT ? 0 : cutBefore(text, best.start - EXCERPT / 3);
  return [from, Math.min(text.length, from + EXCERPT)];
}

/**
 * A place near another at which a word begins.
 *
 * @param {string} text
 * @param {number} place
 */
function cutBefore(text, place) {
  if (place <= 0) return 0;
  const space = text.indexOf(" ", place);
  if (space >= 0 && space < place + LEAD_IN / 2) return space + 1;
  return isLowSurrogate(text, place) ? place - 1 : place;
}

/**
 * @param {string} text
 * @param {number} place
 */
function isLowSurrogate(text, place) {
  return (text.charCodeAt(place) & 0xfc00) === 0xdc00;
}

/** @param {string | undefined} point */
function isWord(point) {
  return point !== undefined && /[\p{L}\p{N}\p{M}]/u.test(point);
}

/**
 * The place of code points, which the server counts, in the UTF-16 units of JavaScript's strings.
 *
 * @param {string} text
 * @returns {(point: number) => number}
 */
function unitsOf(text) {
  if (!/[\ud800-\udbff]/.test(text)) return (point) => point;
  const places = [0];
  for (const point of text) places.push(Number(places.at(-1)) + point.length);
  return (point) => places[point] ?? text.length;
}
