"""The calls of LanceDB's rerankers."""

from unittest.mock import patch

import pyarrow
from harness import Target, call, same
from lancedb.rerankers import CohereReranker, JinaReranker, VoyageAIReranker, jinaai

CLIENT = "LanceDB"


def check(t: Target, reranker: object, top: int | None = None) -> None:
    count = len(t.documents)
    table = pyarrow.table({"text": t.documents, "n": list(range(count)), "_distance": [0.5] * count})
    found = reranker.rerank_vector(t.query, table).to_pylist()
    t.ranking(((row["n"], row["_relevance_score"]) for row in found), top=top)
    same([row["text"] for row in found], [t.documents[row["n"]] for row in found], "the documents")


@call(CLIENT, "CohereReranker, with CO_API_URL")
def cohere(t: Target) -> None:
    check(t, CohereReranker(model_name=t.reranker, api_key=t.key))


@call(CLIENT, "CohereReranker, top_n, the vendor's name of the model")
def cohere_top(t: Target) -> None:
    check(t, CohereReranker(model_name="rerank-v3.5", api_key=t.key, top_n=2), top=2)


@call(CLIENT, "JinaReranker, with another API_URL in lancedb.rerankers.jinaai")
def jina(t: Target) -> None:
    with patch.object(jinaai, "API_URL", t.url + "/v1/rerank"):
        check(t, JinaReranker(model_name=t.reranker, api_key=t.key))


@call(CLIENT, "VoyageAIReranker")
def voyage(t: Target) -> None:
    check(t, VoyageAIReranker(model_name=t.reranker, api_key=t.key))
