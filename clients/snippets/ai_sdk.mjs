import { createCohere } from "@ai-sdk/cohere";
import { rerank } from "ai";

const cohere = createCohere({ apiKey: "KEY", baseURL: "http://localhost:8080/v2" });
const { ranking } = await rerank({
  model: cohere.reranking("BAAI/bge-reranker-v2-m3"),
  query: "What is Python?",
  documents: ["Snakes are reptiles.", "Python is a programming language."],
});
for (const { document, score } of ranking) console.log(document, score);
