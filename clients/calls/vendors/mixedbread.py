"""The calls of mixedbread, Mixedbread's Python client."""

import mixedbread
from harness import Target, call, refused, same

CLIENT = "mixedbread"


def client(t: Target) -> mixedbread.Mixedbread:
    return mixedbread.Mixedbread(api_key=t.key, base_url=t.url + "/mixedbread", max_retries=0)


@call(CLIENT, "rerank")
def rerank(t: Target) -> None:
    answer = client(t).rerank(model=t.reranker, query=t.query, input=t.documents, top_k=3, return_input=True)
    t.ranking(((r.index, r.score) for r in answer.data), top=3)
    same([r.input for r in answer.data], [t.documents[r.index] for r in answer.data], "the documents")
    same(answer.usage.total_tokens, t.tokens, "total_tokens")


@call(CLIENT, "rerank, base URL without a prefix, rank_fields")
def rank_fields(t: Target) -> None:
    plain = mixedbread.Mixedbread(api_key=t.key, base_url=t.url)
    documents = [{"body": text, "n": str(n)} for n, text in enumerate(t.documents)]
    answer = plain.rerank(model=t.reranker, query=t.query, input=documents, rank_fields=["body"])
    t.ranking((r.index, r.score) for r in answer.data)


@call(CLIENT, "AsyncMixedbread.rerank")
async def rerank_async(t: Target) -> None:
    async with mixedbread.AsyncMixedbread(api_key=t.key, base_url=t.url + "/mixedbread") as asynchronous:
        answer = await asynchronous.rerank(model=t.reranker, query=t.query, input=t.documents, rewrite_query=False)
    t.ranking((r.index, r.score) for r in answer.data)


@call(CLIENT, "rerank, no documents")
def no_documents(t: Target) -> None:
    refused(lambda: client(t).rerank(model=t.reranker, query=t.query, input=[]), "'input'", mixedbread.BadRequestError)


@call(CLIENT, "rerank, rewrite_query=True")
def rewrite(t: Target) -> None:
    refused(
        lambda: client(t).rerank(model=t.reranker, query=t.query, input=t.documents, rewrite_query=True),
        "'rewrite_query'",
        mixedbread.BadRequestError,
    )


@call(CLIENT, "embed")
def embed(t: Target) -> None:
    answer = client(t).embed(model=t.embedder, input=t.documents)
    t.embeddings([each.embedding for each in answer.data])


@call(CLIENT, "embed, dimensions")
def embed_dimensions(t: Target) -> None:
    answer = client(t).embed(model=t.embedder, input=t.documents, dimensions=t.half, normalized=True)
    t.front_embeddings([each.embedding for each in answer.data])


@call(CLIENT, "embed, unknown model")
def embed_unknown(t: Target) -> None:
    refused(lambda: client(t).embed(model="nobody/nothing", input=["a"]), "nobody/nothing", mixedbread.NotFoundError)
