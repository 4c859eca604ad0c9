"""The calls of infinity_client, Infinity's Python client."""

from harness import Target, call, refused, same
from infinity_client import Client
from infinity_client.api.default import embeddings
from infinity_client.api.default import rerank as rerank_route
from infinity_client.models import OpenAIEmbeddingInputText, RerankInput

CLIENT = "infinity_client"


def client(t: Target, key: str = "") -> Client:
    headers = {"Authorization": f"Bearer {key or t.key}"}
    return Client(t.url + "/infinity", headers=headers, raise_on_unexpected_status=True)


@call(CLIENT, "rerank.sync")
def rerank(t: Target) -> None:
    body = RerankInput(query=t.query, documents=t.documents, model=t.reranker, return_documents=True)
    answer = rerank_route.sync(client=client(t), body=body)
    t.ranking((r.index, r.relevance_score) for r in answer.results)
    same([r.document for r in answer.results], [t.documents[r.index] for r in answer.results], "the documents")
    same(answer.usage.total_tokens, t.tokens, "total_tokens")


@call(CLIENT, "rerank.sync, without a model, top_n, raw_scores")
def rerank_raw(t: Target) -> None:
    body = RerankInput(query=t.query, documents=t.documents, top_n=2, raw_scores=True)
    answer = rerank_route.sync(client=client(t), body=body)
    t.ranking(((r.index, r.relevance_score) for r in answer.results), top=2, scale="raw")


@call(CLIENT, "rerank.asyncio")
async def rerank_async(t: Target) -> None:
    body = RerankInput(query=t.query, documents=t.documents, model=t.reranker)
    answer = await rerank_route.asyncio(client=client(t), body=body)
    t.ranking((r.index, r.relevance_score) for r in answer.results)


@call(CLIENT, "rerank.sync, unknown model")
def unknown_model(t: Target) -> None:
    body = RerankInput(query=t.query, documents=t.documents, model="nobody/nothing")
    refused(lambda: rerank_route.sync(client=client(t), body=body), "nobody/nothing")


@call(CLIENT, "rerank.sync, wrong key")
def wrong_key(t: Target) -> None:
    body = RerankInput(query=t.query, documents=t.documents, model=t.reranker)
    refused(lambda: rerank_route.sync(client=client(t, "wrong"), body=body), "API key")


@call(CLIENT, "embeddings.sync")
def embed(t: Target) -> None:
    answer = embeddings.sync(client=client(t), body=OpenAIEmbeddingInputText(input_=t.documents, model=t.embedder))
    t.embeddings([each.embedding for each in answer.data])
    same(answer.usage.total_tokens, t.embedded, "total_tokens")


@call(CLIENT, "embeddings.asyncio, dimensions")
async def embed_dimensions(t: Target) -> None:
    body = OpenAIEmbeddingInputText(input_=t.documents, model=t.embedder, dimensions=t.half)
    answer = await embeddings.asyncio(client=client(t), body=body)
    t.front_embeddings([each.embedding for each in answer.data])
