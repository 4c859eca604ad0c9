/** Tokens per second, from a counter. */

const WINDOW_S = 2;
const KEPT_S = 60;

/** Rates from the counters of successive statuses. */
export class Rates {
  /** @type {{ time: number, tokens: number }[]} */
  #seen = [];

  /**
   * @param {number} time - In seconds.
   * @param {number} tokens - Computed so far.
   * @returns {number} tokens per second, over the last two seconds.
   */
  add(time, tokens) {
    const last = this.#seen.at(-1);
    // The counter of a server that was started again begins anew.
    if (last !== undefined && (tokens < last.tokens || time < last.time)) this.#seen = [];
    this.#seen.push({ time, tokens });
    while (this.#seen.length > 2 && time - Number(this.#seen[0]?.time) > KEPT_S) this.#seen.shift();
    return this.#rate(time);
  }

  /**
   * @param {number} points
   * @returns {number[]} the rates of the last minute, oldest first.
   */
  history(points) {
    const now = this.#seen.at(-1)?.time ?? 0;
    return Array.from({ length: points }, (_, i) => this.#rate(now - (KEPT_S * (points - 1 - i)) / points));
  }

  /** @param {number} until */
  #rate(until) {
    const after = this.#seen.findLast(({ time }) => time <= until);
    const before = this.#seen.findLast(({ time }) => time <= until - WINDOW_S) ?? this.#seen[0];
    if (after === undefined || before === undefined || after.time <= before.time) return 0;
    return (after.tokens - before.tokens) / (after.time - before.time);
  }
}
