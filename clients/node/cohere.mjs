// The calls of cohere-ai, Cohere's client for Node.
import { CohereClient, CohereClientV2 } from "cohere-ai";
import { call, embeddings, ranking, refused, same } from "./harness.mjs";

const CLIENT = "cohere-ai (Node)";
const v2 = (t, path = "") => new CohereClientV2({ token: t.key, environment: t.url + path });
const v1 = (t, path = "") => new CohereClient({ token: t.key, environment: t.url + path });
const pairs = (answer) => answer.results.map((result) => [result.index, result.relevanceScore]);

call(CLIENT, "CohereClientV2.rerank", async (t) => {
  const answer = await v2(t).rerank({ model: t.reranker, query: t.query, documents: t.documents });
  ranking(t, pairs(answer));
  same(answer.meta.billedUnits.searchUnits, 1, "searchUnits");
});

call(CLIENT, "CohereClientV2.rerank, base URL with the prefix /cohere, topN, maxTokensPerDoc", async (t) => {
  const fields = { model: "rerank-v3.5", topN: 2, maxTokensPerDoc: 4096 };
  ranking(t, pairs(await v2(t, "/cohere").rerank({ query: t.query, documents: t.documents, ...fields })), 2);
});

call(CLIENT, "CohereClient.rerank, rankFields, returnDocuments", async (t) => {
  const documents = t.documents.map((body) => ({ body }));
  const fields = { model: t.reranker, query: t.query, rankFields: ["body"], returnDocuments: true };
  const answer = await v1(t).rerank({ documents, ...fields });
  ranking(t, pairs(answer));
  same(answer.results.map((r) => r.document.text), answer.results.map((r) => t.documents[r.index]), "the documents");
});

call(CLIENT, "CohereClientV2.rerank, unknown model", (t) =>
  refused(() => v2(t).rerank({ model: "nobody/nothing", query: "a", documents: ["b"] }), "nobody/nothing"),
);

call(CLIENT, "CohereClientV2.rerank, wrong key", (t) => {
  const client = new CohereClientV2({ token: "wrong", environment: t.url });
  return refused(() => client.rerank({ model: t.reranker, query: "a", documents: ["b"] }), "API key");
});

call(CLIENT, "CohereClientV2.embed, search_document and search_query", async (t) => {
  for (const [inputType, readAs] of [["search_document", "document"], ["search_query", "query"]]) {
    const fields = { model: t.embedder, inputType, texts: t.documents, embeddingTypes: ["float"] };
    const answer = await v2(t).embed(fields);
    embeddings(answer.embeddings.float, t.vectors[readAs]);
  }
});
