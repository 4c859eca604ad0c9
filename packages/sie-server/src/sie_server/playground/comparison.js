/** Two rankings of the same documents side by side, with a line from each document to itself. */

import { agreement } from "./correlation.js";
import { counted, drawn, duration, make, shownScore, spoken } from "./elements.js";
import { scaleOf, scoreBar } from "./ranking.js";

/** @import { Ranked } from "./ranking.js" */

const SHOWN = 200;
// As in the style sheet.
const ROW_PX = 60;

/**
 * @param {Ranked} left
 * @param {Ranked} right
 * @returns {Node[]}
 */
export function comparisonView(left, right) {
  const rows = Math.min(left.places.length, SHOWN);
  const sides = make("div", "sides");
  const lines = linesBetween(left, right, rows);
  sides.append(side(left, right, rows, "left"), lines, side(right, left, rows, "right"));
  sides.addEventListener("pointerover", (event) => emphasize(sides, event.target));
  sides.addEventListener("pointerleave", () => emphasize(sides, null));
  const parts = [verdict(left, right), sides];
  if (left.places.length > SHOWN) {
    parts.push(make("p", "note", `The first ${SHOWN} of ${counted(left.places.length, "document")} are shown.`));
  }
  return parts;
}

/**
 * @param {Ranked} left
 * @param {Ranked} right
 */
function verdict(left, right) {
  const { tau, share } = agreement(scoresInOrder(left), scoresInOrder(right));
  const facts = make("div", "verdict");
  if (Number.isFinite(tau)) {
    facts.append(
      make("p", "tau", make("b", "", tau.toFixed(2).replace("-", "−")), " Kendall’s τ"),
      make("p", "", `They agree on the order of ${Math.round(share * 100)} % of the pairs of documents.`),
    );
  }
  const same = left.places[0] === right.places[0];
  facts.append(make("p", "", same ? "Both put the same document first." : "They put different documents first."));
  return facts;
}

/** @param {Ranked} ranking */
function scoresInOrder({ result, places }) {
  /** @type {number[]} */
  const scores = [];
  result.scores.forEach(({ score }, rank) => {
    scores[Number(places[rank])] = score;
  });
  return scores;
}

/**
 * @param {Ranked} own
 * @param {Ranked} other
 * @param {number} rows
 * @param {"left" | "right"} name
 */
function side(own, other, rows, name) {
  const { request, result, places } = own;
  const scale = scaleOf(own);
  const ranks = new Map(other.places.map((place, rank) => [place, rank]));
  const list = make("ol", "");
  result.scores.slice(0, rows).forEach(({ score, rank }, i) => {
    const place = places[i] ?? 0;
    const text = request.items[place]?.text ?? "";
    const row = make(
      "li",
      "",
      make("span", "number", String(rank + 1)),
      make("span", "text", text.slice(0, 300)),
      make("span", "value", spoken("Score "), shownScore(score)),
      scoreBar(score, scale),
      spoken(`Rank ${Number(ranks.get(place)) + 1} on the other side.`),
    );
    row.dataset["place"] = String(place);
    list.append(row);
  });
  const mode = request.options["score_mode"];
  return make(
    "section",
    name,
    make("h2", "", request.model.split("/").at(-1) ?? "", ...(mode ? [make("span", "mode", ` ${mode}`)] : [])),
    make("p", "note", `${duration(result.timing?.totalMs ?? 0)} · ${counted(result.usage?.inputTokens ?? 0, "token")}`),
    list,
  );
}

/**
 * @param {Ranked} left
 * @param {Ranked} right
 * @param {number} rows
 */
function linesBetween(left, right, rows) {
  const ranks = new Map(right.places.map((place, rank) => [place, rank]));
  const middle = (/** @type {number} */ rank) => rank * ROW_PX + ROW_PX / 2;
  const lines = left.places.slice(0, rows).map((place, rank) => {
    const to = ranks.get(place) ?? rank;
    const name = to < rank ? "up" : to > rank ? "down" : "same";
    const path = `M0 ${middle(rank)}C50 ${middle(rank)} 50 ${middle(to)} 100 ${middle(to)}`;
    return drawn("path", { d: path, class: name, "data-place": place, "vector-effect": "non-scaling-stroke" });
  });
  const height = rows * ROW_PX;
  return drawn(
    "svg",
    { viewBox: `0 0 100 ${height}`, height, preserveAspectRatio: "none", class: "lines", "aria-hidden": "true" },
    ...lines,
  );
}

/**
 * Makes the rows and the line of the document under the pointer stand out.
 *
 * @param {HTMLElement} sides
 * @param {EventTarget | null} target
 */
function emphasize(sides, target) {
  const found = target instanceof Element ? target.closest("[data-place]") : null;
  const place = found?.getAttribute("data-place");
  sides.classList.toggle("emphasized", place != null);
  for (const each of sides.querySelectorAll("[data-place]")) {
    each.classList.toggle("chosen", place != null && each.getAttribute("data-place") === place);
  }
}
