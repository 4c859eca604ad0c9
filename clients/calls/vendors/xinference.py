"""The calls of xinference_client, Xinference's Python client."""

from harness import Target, call, refused, same
from xinference_client import AsyncRESTfulClient, RESTfulClient

CLIENT = "xinference_client"


def client(t: Target, key: str = "", path: str = "/xinference") -> RESTfulClient:
    return RESTfulClient(t.url + path, api_key=key or t.key)


@call(CLIENT, "get_model(…).rerank")
def rerank(t: Target) -> None:
    answer = client(t).get_model(t.reranker).rerank(t.documents, t.query, top_n=3, return_documents=True)
    t.ranking(((r["index"], r["relevance_score"]) for r in answer["results"]), top=3)
    found = [r["document"]["text"] for r in answer["results"]]
    same(found, [t.documents[r["index"]] for r in answer["results"]], "the documents")


@call(CLIENT, "rerank, base URL without a prefix, return_len")
def rerank_root(t: Target) -> None:
    answer = client(t, path="").get_model(t.reranker).rerank(t.documents, t.query, return_len=True)
    t.ranking((r["index"], r["relevance_score"]) for r in answer["results"])
    same(answer["meta"]["tokens"]["input_tokens"], t.tokens, "input_tokens")


@call(CLIENT, "AsyncRESTfulClient, rerank")
async def rerank_async(t: Target) -> None:
    asynchronous = AsyncRESTfulClient(t.url + "/xinference", api_key=t.key)
    model = await asynchronous.get_model(t.reranker)
    answer = await model.rerank(t.documents, t.query)
    t.ranking((r["index"], r["relevance_score"]) for r in answer["results"])
    await model.close()
    await asynchronous.close()


@call(CLIENT, "rerank, no documents")
def no_documents(t: Target) -> None:
    model = client(t).get_model(t.reranker)
    refused(lambda: model.rerank([], t.query), "'documents'", RuntimeError)


@call(CLIENT, "get_model, unknown")
def unknown_model(t: Target) -> None:
    refused(lambda: client(t).get_model("nobody/nothing"), "nobody/nothing", RuntimeError)


@call(CLIENT, "get_model, wrong key")
def wrong_key(t: Target) -> None:
    refused(lambda: client(t, "wrong").get_model(t.reranker), "API key", RuntimeError)


@call(CLIENT, "get_model(…).create_embedding")
def embed(t: Target) -> None:
    answer = client(t).get_model(t.embedder).create_embedding(t.documents)
    t.embeddings([each["embedding"] for each in answer["data"]])
