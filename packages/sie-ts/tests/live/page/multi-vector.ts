// What the program below takes for granted.
import { dotProduct, SIEClient } from "@sie/sdk";

const client = new SIEClient("http://localhost:8080");
const documents = [
  { text: "Snakes are reptiles." },
  { text: "ColBERT ranks by late interaction of token vectors." },
  { text: "The weather forecast predicts rain tomorrow." },
];

// Encode query and documents with multivector output
const queryResult = await client.encode(
  "sentence-transformers/all-MiniLM-L6-v2",
  { text: "What is ColBERT?" },
  { outputTypes: ["multivector"], isQuery: true },
);

const docResults = await client.encode("sentence-transformers/all-MiniLM-L6-v2", documents, {
  outputTypes: ["multivector"],
});

// Score with MaxSim (client-side computation)
const queryMv = queryResult.multivector!;
const docMvs = docResults.map((r) => r.multivector!);

// Compute MaxSim scores
const scores = docMvs.map((docMv) => {
  let score = 0;
  for (const qToken of queryMv) {
    let maxSim = -Infinity;
    for (const dToken of docMv) {
      const sim = dotProduct(qToken, dToken);
      if (sim > maxSim) maxSim = sim;
    }
    score += maxSim;
  }
  return score;
});

// Rank by score
const ranked = scores.map((score, idx) => ({ idx, score })).sort((a, b) => b.score - a.score);

// What the program above keeps to itself.
console.log(ranked.map(({ idx, score }) => `${idx}: ${score.toFixed(3)}`).join("\n"));
