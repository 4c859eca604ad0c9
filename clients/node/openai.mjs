// The calls of openai, OpenAI's client for Node.
import OpenAI from "openai";
import { call, embeddings, refused, same } from "./harness.mjs";

const CLIENT = "openai (Node)";
const client = (t, key = t.key) => new OpenAI({ apiKey: key, baseURL: `${t.url}/v1`, maxRetries: 0 });
const vectors = (answer) => answer.data.map((each) => each.embedding);

call(CLIENT, "embeddings.create", async (t) => {
  const answer = await client(t).embeddings.create({ model: t.embedder, input: t.documents });
  embeddings(vectors(answer), t.vectors.document);
  same(answer.usage.total_tokens, t.embedded, "total_tokens");
});

call(CLIENT, "embeddings.create, dimensions, encoding_format float", async (t) => {
  const fields = { dimensions: t.front[0].length, encoding_format: "float" };
  const answer = await client(t).embeddings.create({ model: "text-embedding-3-small", input: t.documents, ...fields });
  embeddings(vectors(answer), t.front);
});

call(CLIENT, "embeddings.create, unknown model", (t) =>
  refused(() => client(t).embeddings.create({ model: "nobody/nothing", input: "a" }), "nobody/nothing"),
);

call(CLIENT, "embeddings.create, wrong key", (t) =>
  refused(() => client(t, "wrong").embeddings.create({ model: t.embedder, input: "a" }), "API key"),
);

call(CLIENT, "models.list", async (t) => {
  const names = [];
  for await (const model of client(t).models.list()) names.push(model.id);
  same(names.includes(t.reranker) && names.includes(t.embedder), true, "the models listed");
});
