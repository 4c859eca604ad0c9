"""The calls of zeroentropy, ZeroEntropy's Python client."""

import zeroentropy
from harness import Target, call, refused, same

CLIENT = "zeroentropy"


def client(t: Target) -> zeroentropy.ZeroEntropy:
    return zeroentropy.ZeroEntropy(api_key=t.key, base_url=t.url + "/zeroentropy/v1", max_retries=0)


@call(CLIENT, "models.rerank")
def rerank(t: Target) -> None:
    answer = client(t).models.rerank(model=t.reranker, query=t.query, documents=t.documents)
    t.ranking((r.index, r.relevance_score) for r in answer.results)
    same(answer.total_tokens, t.tokens, "total_tokens")
    same(answer.actual_latency_mode, "fast", "the latency mode")


@call(CLIENT, "models.rerank, base URL without a prefix, top_n, latency")
def rerank_root(t: Target) -> None:
    plain = zeroentropy.ZeroEntropy(api_key=t.key, base_url=t.url + "/v1")
    answer = plain.models.rerank(model=t.reranker, query=t.query, documents=t.documents, top_n=2, latency="slow")
    t.ranking(((r.index, r.relevance_score) for r in answer.results), top=2)


@call(CLIENT, "AsyncZeroEntropy.models.rerank")
async def rerank_async(t: Target) -> None:
    async with zeroentropy.AsyncZeroEntropy(api_key=t.key, base_url=t.url + "/zeroentropy/v1") as asynchronous:
        answer = await asynchronous.models.rerank(model=t.reranker, query=t.query, documents=t.documents, top_n=None)
    t.ranking((r.index, r.relevance_score) for r in answer.results)


@call(CLIENT, "models.rerank, unknown model")
def unknown_model(t: Target) -> None:
    refused(
        lambda: client(t).models.rerank(model="nobody/nothing", query=t.query, documents=["a"]),
        "nobody/nothing",
        zeroentropy.NotFoundError,
    )


@call(CLIENT, "models.rerank, wrong key")
def wrong_key(t: Target) -> None:
    wrong = zeroentropy.ZeroEntropy(api_key="wrong", base_url=t.url + "/zeroentropy/v1")
    refused(
        lambda: wrong.models.rerank(model=t.reranker, query=t.query, documents=["a"]),
        "API key",
        zeroentropy.AuthenticationError,
    )


@call(CLIENT, "models.embed, input_type document and query")
def embed(t: Target) -> None:
    for kind in ("document", "query"):
        answer = client(t).models.embed(model=t.embedder, input=t.documents, input_type=kind)
        t.embeddings([each.embedding for each in answer.results], kind)
