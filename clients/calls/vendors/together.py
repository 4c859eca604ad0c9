"""The calls of together, Together's Python client."""

import together
from harness import Target, call, refused, same

CLIENT = "together"


def client(t: Target) -> together.Together:
    return together.Together(api_key=t.key, base_url=t.url + "/together", max_retries=0)


@call(CLIENT, "rerank.create")
def rerank(t: Target) -> None:
    answer = client(t).rerank.create(model=t.reranker, query=t.query, documents=t.documents, return_documents=True)
    t.ranking((r.index, r.relevance_score) for r in answer.results)
    same([r.document.text for r in answer.results], [t.documents[r.index] for r in answer.results], "the documents")
    same(answer.usage.total_tokens, t.tokens, "total_tokens")


@call(CLIENT, "rerank.create, base URL without a prefix, rank_fields, top_n")
def rank_fields(t: Target) -> None:
    plain = together.Together(api_key=t.key, base_url=t.url)
    documents = [{"body": text} for text in t.documents]
    answer = plain.rerank.create(model=t.reranker, query=t.query, documents=documents, rank_fields=["body"], top_n=2)
    # Without a prefix this path is SIE's own, which has the model's own scores: here, between 0 and 1 as well.
    t.ranking(((r.index, r.relevance_score) for r in answer.results), top=2)


@call(CLIENT, "AsyncTogether.rerank.create")
async def rerank_async(t: Target) -> None:
    async with together.AsyncTogether(api_key=t.key, base_url=t.url + "/together") as asynchronous:
        answer = await asynchronous.rerank.create(model=t.reranker, query=t.query, documents=t.documents)
    t.ranking((r.index, r.relevance_score) for r in answer.results)


@call(CLIENT, "rerank.create, no documents")
def no_documents(t: Target) -> None:
    refused(
        lambda: client(t).rerank.create(model=t.reranker, query=t.query, documents=[]),
        "'documents'",
        together.BadRequestError,
    )


@call(CLIENT, "embeddings.create")
def embed(t: Target) -> None:
    answer = client(t).embeddings.create(model=t.embedder, input=t.documents)
    t.embeddings([each.embedding for each in answer.data])
