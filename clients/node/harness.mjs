// How an answer is judged: as ../calls/harness.py.

/** The client got an answer that is not the right one, and no error. */
export class WrongError extends Error {}

/** The calls in the order in which they are registered. */
export const calls = [];

/** Register a call of a client. `attempt` throws a WrongError for a wrong answer. */
export function call(client, name, attempt) {
  calls.push({ client, call: name, attempt });
}

/** Check the index and score of each result: all, or the best `top`, best first. */
export function ranking(t, results, top = t.documents.length, scale = "unit") {
  const right = t.scores[scale];
  const expected = [...right.keys()].sort((a, b) => right[b] - right[a]).slice(0, top);
  same(
    results.map(([index]) => index),
    expected,
    "the order",
  );
  for (const [index, score] of results) {
    if (!(Math.abs(score - right[index]) <= 1e-5 + 1e-4 * Math.abs(right[index]))) {
      throw new WrongError(`the score of document ${index} is ${score}; it must be ${right[index]}`);
    }
  }
}

/** Check the direction of each document's vector, in all its dimensions. */
export function embeddings(vectors, right) {
  same(vectors.length, right.length, "the number of vectors");
  for (const [index, vector] of vectors.entries()) {
    same(vector.length, right[index].length, `the number of dimensions of vector ${index}`);
    const found = cosine([...vector], right[index]);
    if (!(found >= 0.9999)) throw new WrongError(`the cosine of vector ${index} to the right one is ${found}`);
  }
}

function cosine(one, other) {
  const dot = (a, b) => a.reduce((sum, value, index) => sum + value * b[index], 0);
  return dot(one, other) / Math.sqrt(dot(one, one) * dot(other, other));
}

/** Check a part of an answer. */
export function same(found, right, what) {
  if (JSON.stringify(found) !== JSON.stringify(right)) {
    throw new WrongError(`${what} is ${JSON.stringify(found)}; it must be ${JSON.stringify(right)}`);
  }
}

/** Check that a call throws, and that the error tells what the server says. */
export async function refused(attempt, says) {
  let told;
  try {
    await attempt();
  } catch (error) {
    told = [error.name, error.message, error.responseBody, JSON.stringify(error.body ?? "")].join(" ");
  }
  if (told === undefined) throw new WrongError(`nothing was thrown; the error must say "${says}"`);
  if (!told.includes(says)) throw new WrongError(`the error is "${told.slice(0, 300)}"; it must say "${says}"`);
}
