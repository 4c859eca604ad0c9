"""The calls of `rerankers`, through the APIs that take a URL."""

from harness import Target, call, same
from rerankers import Reranker

CLIENT = "rerankers"


def ranker(t: Target, provider: str, path: str) -> object:
    return Reranker(t.reranker, model_type=provider, api_key=t.key, url=t.url + path, verbose=0)


def check(t: Target, provider: str, path: str) -> None:
    ranked(t, ranker(t, provider, path))


def ranked(t: Target, found: object) -> None:
    answer = found.rank(t.query, t.documents)
    t.ranking((r.doc_id, r.score) for r in answer.results)
    same([r.text for r in answer.results], [t.documents[r.doc_id] for r in answer.results], "the documents")


@call(CLIENT, "cohere")
def cohere(t: Target) -> None:
    check(t, "cohere", "/v1/rerank")


@call(CLIENT, "jina")
def jina(t: Target) -> None:
    check(t, "jina", "/jina/v1/rerank")


@call(CLIENT, "voyage")
def voyage(t: Target) -> None:
    check(t, "voyage", "/voyage/v1/rerank")


@call(CLIENT, "mixedbread.ai, with the vendor's model")
def mixedbread(t: Target) -> None:
    ranked(t, Reranker("mixedbread.ai", api_key=t.key, url=t.url + "/v1/reranking", verbose=0))


@call(CLIENT, "pinecone")
def pinecone(t: Target) -> None:
    check(t, "pinecone", "/pinecone/rerank")


@call(CLIENT, "text-embeddings-inference")
def tei(t: Target) -> None:
    check(t, "text-embeddings-inference", "/rerank")


@call(CLIENT, "isaacus")
def isaacus(t: Target) -> None:
    check(t, "isaacus", "/v1/rerankings")


@call(CLIENT, "rank_async")
async def rank_async(t: Target) -> None:
    answer = await ranker(t, "jina", "/v1/rerank").rank_async(t.query, t.documents)
    t.ranking((r.doc_id, r.score) for r in answer.results)
