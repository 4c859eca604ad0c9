// What the program below takes from a vector database.
const top100Docs = Array.from({ length: 100 }, (_, i) => ({
  text: i === 42 ? "Machine learning is a subset of AI that learns from data." : `It will rain on day ${i}.`,
}));

import { SIEClient } from "@sie/sdk";

const client = new SIEClient("http://localhost:8080");

// Stage 1: Retrieve candidates with embeddings
const queryText = "What is machine learning?";
const queryEmbedding = await client.encode(
  "sentence-transformers/all-MiniLM-L6-v2",
  { text: queryText },
  { isQuery: true },
);
// ... search your vector database, get top 100 candidates ...

// Stage 2: Rerank top candidates with IDs for tracking
const query = { text: queryText };
const candidates = top100Docs.map((doc, i) => ({
  id: `doc-${i}`,
  text: doc.text,
}));

const result = await client.score("sentence-transformers/all-MiniLM-L6-v2", query, candidates);

// Get top 10 by itemId after reranking
const top10Ids = result.scores.slice(0, 10).map((entry) => entry.itemId);

await client.close();

// What the program above keeps to itself.
console.log(queryEmbedding.dense?.length, top10Ids.length, top10Ids[0]);
