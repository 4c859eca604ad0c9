"""The calls of voyageai, Voyage's Python client."""

import voyageai
from harness import Target, call, refused, refused_async, same

CLIENT = "voyageai"


def client(t: Target) -> voyageai.Client:
    return voyageai.Client(t.key, base_url=t.url + "/voyage/v1")


def asynchronous(t: Target) -> voyageai.AsyncClient:
    return voyageai.AsyncClient(t.key, base_url=t.url + "/voyage/v1")


@call(CLIENT, "rerank")
def rerank(t: Target) -> None:
    answer = client(t).rerank(t.query, t.documents, t.reranker)
    t.ranking((r.index, r.relevance_score) for r in answer.results)
    same([r.document for r in answer.results], [t.documents[r.index] for r in answer.results], "the documents")
    same(answer.total_tokens, t.tokens, "total_tokens")


@call(CLIENT, "rerank, base URL without a prefix, top_k")
def rerank_root(t: Target) -> None:
    answer = voyageai.Client(t.key, base_url=t.url + "/v1").rerank(t.query, t.documents, "rerank-2.5", top_k=2)
    t.ranking(((r.index, r.relevance_score) for r in answer.results), top=2)


@call(CLIENT, "AsyncClient.rerank")
async def rerank_async(t: Target) -> None:
    answer = await asynchronous(t).rerank(t.query, t.documents, t.reranker, top_k=4)
    t.ranking(((r.index, r.relevance_score) for r in answer.results), top=4)


@call(CLIENT, "rerank, truncation=False, too long")
def too_long(t: Target) -> None:
    refused(
        lambda: client(t).rerank(t.query, ["python " * 2000], t.reranker, truncation=False),
        "tokens",
        voyageai.error.InvalidRequestError,
    )


@call(CLIENT, "rerank, unknown model")
def unknown_model(t: Target) -> None:
    refused(
        lambda: client(t).rerank(t.query, t.documents, "nobody/nothing"), "'nobody/nothing'", voyageai.error.VoyageError
    )


@call(CLIENT, "rerank, no documents")
def no_documents(t: Target) -> None:
    refused(lambda: client(t).rerank(t.query, [], t.reranker), "'documents'", voyageai.error.InvalidRequestError)


@call(CLIENT, "AsyncClient.rerank, wrong key")
async def wrong_key(t: Target) -> None:
    wrong = voyageai.AsyncClient("wrong", base_url=t.url + "/voyage/v1")
    await refused_async(wrong.rerank(t.query, t.documents, t.reranker), "API key", voyageai.error.AuthenticationError)


@call(CLIENT, "embed, input_type document and query")
def embed(t: Target) -> None:
    for kind in ("document", "query"):
        answer = client(t).embed(t.documents, t.embedder, input_type=kind)
        t.embeddings(answer.embeddings, kind)
    same(answer.total_tokens > 0, True, "tokens")


@call(CLIENT, "embed, output_dimension")
def embed_dimension(t: Target) -> None:
    answer = client(t).embed(t.documents, t.embedder, input_type="document", output_dimension=t.half)
    t.front_embeddings(answer.embeddings)


@call(CLIENT, "embed, output_dtype int8")
def embed_int8(t: Target) -> None:
    answer = client(t).embed(t.documents, t.embedder, input_type="document", output_dtype="int8")
    t.embeddings(answer.embeddings, least=0.99)


@call(CLIENT, "AsyncClient.embed")
async def embed_async(t: Target) -> None:
    answer = await asynchronous(t).embed(t.documents, t.embedder, input_type="query")
    t.embeddings(answer.embeddings, "query")


@call(CLIENT, "embed, truncation=False, too long")
def embed_too_long(t: Target) -> None:
    refused(
        lambda: client(t).embed(["python " * 2000], t.embedder, input_type="query", truncation=False),
        "tokens",
        voyageai.error.InvalidRequestError,
    )
