"""The calls of pinecone, Pinecone's Python client."""

import pinecone
from harness import Target, call, refused, refused_async, same

CLIENT = "pinecone"


def client(t: Target, key: str = "") -> pinecone.Pinecone:
    return pinecone.Pinecone(key or t.key, host=t.url + "/pinecone")


@call(CLIENT, "inference.rerank")
def rerank(t: Target) -> None:
    answer = client(t).inference.rerank(t.reranker, t.query, t.documents)
    t.ranking((r.index, r.score) for r in answer.data)
    same([r.document["text"] for r in answer.data], [t.documents[r.index] for r in answer.data], "the documents")
    same(answer.usage.rerank_units, 1, "rerank_units")


@call(CLIENT, "inference.rerank, rank_fields, top_n, parameters")
def rank_fields(t: Target) -> None:
    documents = [{"id": str(n), "body": text} for n, text in enumerate(t.documents)]
    answer = client(t).inference.rerank(
        t.reranker,
        t.query,
        documents,
        rank_fields=["body"],
        top_n=2,
        return_documents=False,
        parameters={"truncate": "END"},
    )
    t.ranking(((r.index, r.score) for r in answer.data), top=2)


@call(CLIENT, "AsyncPinecone.inference.rerank")
async def rerank_async(t: Target) -> None:
    async with pinecone.AsyncPinecone(t.key, host=t.url + "/pinecone") as asynchronous:
        answer = await asynchronous.inference.rerank(t.reranker, t.query, t.documents)
    t.ranking((r.index, r.score) for r in answer.data)


@call(CLIENT, "inference.rerank, truncate NONE, too long")
def too_long(t: Target) -> None:
    refused(
        lambda: client(t).inference.rerank(t.reranker, t.query, ["python " * 2000], parameters={"truncate": "NONE"}),
        "tokens",
    )


@call(CLIENT, "inference.rerank, wrong key")
def wrong_key(t: Target) -> None:
    refused(lambda: client(t, "wrong").inference.rerank(t.reranker, t.query, t.documents), "API key")


@call(CLIENT, "AsyncPinecone.inference.rerank, unknown model")
async def unknown_model(t: Target) -> None:
    async with pinecone.AsyncPinecone(t.key, host=t.url + "/pinecone") as asynchronous:
        await refused_async(asynchronous.inference.rerank("nobody/nothing", t.query, t.documents), "nobody/nothing")


@call(CLIENT, "inference.embed, input_type passage and query")
def embed(t: Target) -> None:
    for kind, read_as in (("passage", "document"), ("query", "query")):
        answer = client(t).inference.embed(t.embedder, t.documents, parameters={"input_type": kind, "truncate": "END"})
        t.embeddings([each.values for each in answer.data], read_as)
