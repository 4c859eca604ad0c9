/** How far two rankings agree. */

/**
 * @typedef {object} Agreement
 * @property {number} tau - Kendall's tau-b, which takes equal scores into account; NaN if all of one side are equal.
 * @property {number} share - Of the pairs that both rank, those in the same order.
 */

/**
 * Compares two lists of scores of the same documents (Kendall 1945, The treatment of ties in ranking problems).
 *
 * @param {readonly number[]} first
 * @param {readonly number[]} second
 * @returns {Agreement}
 */
export function agreement(first, second) {
  let concordant = 0;
  let discordant = 0;
  let tiedFirst = 0;
  let tiedSecond = 0;
  for (let i = 0; i < first.length; i++) {
    for (let j = 0; j < i; j++) {
      const a = Math.sign(Number(first[i]) - Number(first[j]));
      const b = Math.sign(Number(second[i]) - Number(second[j]));
      if (a === 0) tiedFirst++;
      if (b === 0) tiedSecond++;
      if (a * b > 0) concordant++;
      if (a * b < 0) discordant++;
    }
  }
  const pairs = (first.length * (first.length - 1)) / 2;
  const tau = (concordant - discordant) / Math.sqrt((pairs - tiedFirst) * (pairs - tiedSecond));
  return { tau, share: concordant / (concordant + discordant) };
}
