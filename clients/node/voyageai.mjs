// The calls of voyageai, Voyage's client for Node.
import { VoyageAIClient } from "voyageai";
import { call, embeddings, ranking, refused, same } from "./harness.mjs";

const CLIENT = "voyageai (Node)";
const client = (t, key = t.key) => new VoyageAIClient({ apiKey: key, environment: `${t.url}/voyage/v1`, maxRetries: 0 });

call(CLIENT, "rerank, topK, returnDocuments", async (t) => {
  const fields = { model: t.reranker, topK: 3, returnDocuments: true };
  const answer = await client(t).rerank({ query: t.query, documents: t.documents, ...fields });
  ranking(t, answer.data.map((result) => [result.index, result.relevanceScore]), 3);
  same(answer.data.map((r) => r.document), answer.data.map((r) => t.documents[r.index]), "the documents");
  same(answer.usage.totalTokens, t.tokens, "totalTokens");
});

call(CLIENT, "rerank, wrong key", (t) =>
  refused(() => client(t, "wrong").rerank({ model: t.reranker, query: "a", documents: ["b"] }), "API key"),
);

call(CLIENT, "embed, inputType query", async (t) => {
  const answer = await client(t).embed({ model: t.embedder, input: t.documents, inputType: "query" });
  embeddings(answer.data.map((each) => each.embedding), t.vectors.query);
});
