// The calls of Vercel's AI SDK, with its providers for Cohere's API and for APIs compatible with OpenAI's.
import { createCohere } from "@ai-sdk/cohere";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embed, embedMany, rerank } from "ai";
import { call, embeddings, ranking, refused, same } from "./harness.mjs";

const COHERE = "Vercel @ai-sdk/cohere";
const cohere = (t, key = t.key) => createCohere({ apiKey: key, baseURL: `${t.url}/v2` });
const pairs = (answer) => answer.ranking.map((result) => [result.originalIndex, result.score]);

call(COHERE, "rerank", async (t) => {
  const answer = await rerank({ model: cohere(t).reranking(t.reranker), query: t.query, documents: t.documents });
  ranking(t, pairs(answer));
  same(answer.rerankedDocuments, answer.ranking.map((r) => t.documents[r.originalIndex]), "the documents");
});

call(COHERE, "rerank, topN, maxTokensPerDoc, priority", async (t) => {
  const providerOptions = { cohere: { maxTokensPerDoc: 4096, priority: 1 } };
  const fields = { query: t.query, documents: t.documents, topN: 2, providerOptions };
  ranking(t, pairs(await rerank({ model: cohere(t).reranking("rerank-v3.5"), ...fields })), 2);
});

call(COHERE, "rerank, unknown model", (t) => {
  const model = cohere(t).reranking("nobody/nothing");
  return refused(() => rerank({ model, query: "a", documents: ["b"], maxRetries: 0 }), "nobody/nothing");
});

call(COHERE, "embedMany", async (t) => {
  const providerOptions = { cohere: { inputType: "search_document" } };
  const model = cohere(t).textEmbeddingModel(t.embedder);
  const answer = await embedMany({ model, values: t.documents, providerOptions });
  embeddings(answer.embeddings, t.vectors.document);
});

const OPENAI = "Vercel @ai-sdk/openai-compatible";
const openai = (t, key = t.key) => createOpenAICompatible({ name: "sie", apiKey: key, baseURL: `${t.url}/v1` });

call(OPENAI, "embedMany", async (t) => {
  const answer = await embedMany({ model: openai(t).textEmbeddingModel(t.embedder), values: t.documents });
  embeddings(answer.embeddings, t.vectors.document);
  same(answer.usage.tokens, t.embedded, "tokens");
});

call(OPENAI, "embed, dimensions", async (t) => {
  const found = [];
  for (const value of t.documents) {
    const providerOptions = { sie: { dimensions: t.front[0].length } };
    const answer = await embed({ model: openai(t).textEmbeddingModel(t.embedder), value, providerOptions });
    found.push(answer.embedding);
  }
  embeddings(found, t.front);
});

call(OPENAI, "embed, wrong key", (t) =>
  refused(
    () => embed({ model: openai(t, "wrong").textEmbeddingModel(t.embedder), value: "a", maxRetries: 0 }),
    "API key",
  ),
);
