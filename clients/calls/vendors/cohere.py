"""The calls of cohere, Cohere's Python client."""

import cohere
from harness import Target, call, refused, refused_async, same

CLIENT = "cohere (Python)"


def v2(t: Target, path: str = "") -> cohere.ClientV2:
    return cohere.ClientV2(t.key, base_url=t.url + path, max_retries=0)


def v1(t: Target, path: str = "") -> cohere.Client:
    return cohere.Client(t.key, base_url=t.url + path, max_retries=0)


@call(CLIENT, "ClientV2.rerank")
def rerank_v2(t: Target) -> None:
    answer = v2(t).rerank(model=t.reranker, query=t.query, documents=t.documents)
    t.ranking((r.index, r.relevance_score) for r in answer.results)
    same(answer.meta.billed_units.search_units, 1, "search_units")
    same(answer.meta.tokens.input_tokens, t.tokens, "input_tokens")


@call(CLIENT, "ClientV2.rerank, base URL with the prefix /cohere, top_n, max_tokens_per_doc")
def rerank_v2_prefix(t: Target) -> None:
    answer = v2(t, "/cohere").rerank(
        model=t.reranker, query=t.query, documents=t.documents, top_n=3, max_tokens_per_doc=4096
    )
    t.ranking(((r.index, r.relevance_score) for r in answer.results), top=3)


@call(CLIENT, "AsyncClientV2.rerank")
async def rerank_v2_async(t: Target) -> None:
    async with cohere.AsyncClientV2(t.key, base_url=t.url) as client:
        answer = await client.rerank(model="rerank-v3.5", query=t.query, documents=t.documents, priority=0)
    t.ranking((r.index, r.relevance_score) for r in answer.results)


@call(CLIENT, "ClientV2.rerank, unknown model")
def unknown_model(t: Target) -> None:
    refused(
        lambda: v2(t).rerank(model="nobody/nothing", query=t.query, documents=["a"]),
        "'nobody/nothing'",
        cohere.errors.NotFoundError,
    )


@call(CLIENT, "ClientV2.rerank, no documents")
def no_documents(t: Target) -> None:
    refused(
        lambda: v2(t).rerank(model=t.reranker, query=t.query, documents=[]),
        "'documents'",
        cohere.errors.BadRequestError,
    )


@call(CLIENT, "ClientV2.rerank, wrong key")
def wrong_key(t: Target) -> None:
    client = cohere.ClientV2("wrong", base_url=t.url)
    refused(
        lambda: client.rerank(model=t.reranker, query=t.query, documents=["a"]),
        "API key",
        cohere.errors.UnauthorizedError,
    )


@call(CLIENT, "AsyncClientV2.rerank, empty query")
async def empty_query(t: Target) -> None:
    async with cohere.AsyncClientV2(t.key, base_url=t.url) as client:
        await refused_async(
            client.rerank(model=t.reranker, query="", documents=t.documents), "'query'", cohere.errors.BadRequestError
        )


@call(CLIENT, "Client.rerank, documents as objects, rank_fields, return_documents")
def rerank_v1(t: Target) -> None:
    documents = [{"body": text, "title": "x"} for text in t.documents]
    answer = v1(t).rerank(
        model=t.reranker, query=t.query, documents=documents, rank_fields=["body"], return_documents=True
    )
    t.ranking((r.index, r.relevance_score) for r in answer.results)
    for result in answer.results:
        same(result.document.text, t.documents[result.index], "the document")


@call(CLIENT, "Client.rerank, base URL with the prefix /cohere")
def rerank_v1_prefix(t: Target) -> None:
    answer = v1(t, "/cohere").rerank(model=t.reranker, query=t.query, documents=t.documents, top_n=2)
    t.ranking(((r.index, r.relevance_score) for r in answer.results), top=2)


@call(CLIENT, "AsyncClient.rerank")
async def rerank_v1_async(t: Target) -> None:
    async with cohere.AsyncClient(t.key, base_url=t.url) as client:
        answer = await client.rerank(query=t.query, documents=t.documents, max_chunks_per_doc=1)
    t.ranking((r.index, r.relevance_score) for r in answer.results)
