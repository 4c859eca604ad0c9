"""The requests of Elasticsearch, Milvus and Weaviate."""

from harness import Target, call, same
from replays.wire import exactly, pairs, post, texts

# Elasticsearch's parsers throw on an unknown field within an item; beside the items they read leniently.
ELASTIC = {name: f"Elasticsearch {name}" for name in ("cohere", "hugging_face", "jinaai", "voyageai")}


@call(ELASTIC["cohere"], "rerank")
def elastic_cohere(t: Target) -> None:
    body = {"model": t.reranker, "query": t.query, "documents": t.documents, "return_documents": True, "top_n": 3}
    items = post(t, "/v2/rerank", body, {"Authorization": f"Bearer {t.key}", "Request-Source": "unspecified:elastic"})
    exactly(items["results"], {"index", "relevance_score", "document"})
    t.ranking(pairs(items["results"]), top=3)
    texts(t, items["results"], [item["document"]["text"] for item in items["results"]])


@call(ELASTIC["cohere"], "rerank, max_chunks_per_doc on the path of v2")
def elastic_cohere_chunks(t: Target) -> None:
    body = {"model": t.reranker, "query": t.query, "documents": t.documents, "max_chunks_per_doc": 3}
    items = post(t, "/cohere/v2/rerank", body)["results"]
    exactly(items, {"index", "relevance_score"})
    t.ranking(pairs(items))


@call(ELASTIC["cohere"], "rerank, unknown model")
def elastic_cohere_unknown(t: Target) -> None:
    answer = post(t, "/v2/rerank", {"model": "nobody/nothing", "query": "a", "documents": ["b"]}, status=404)
    same("nobody/nothing" in answer["message"], True, "the model's name in `message`")


@call(ELASTIC["hugging_face"], "rerank")
def elastic_hugging_face(t: Target) -> None:
    items = post(t, "/rerank", {"texts": t.documents, "query": t.query, "return_text": True, "top_n": 3})
    exactly(items, {"index", "score", "text"})
    t.ranking(pairs(items, "score")[:3], top=3)
    texts(t, items, [item["text"] for item in items])


@call(ELASTIC["hugging_face"], "rerank, an error")
def elastic_hugging_face_error(t: Target) -> None:
    answer = post(t, "/tei/rerank", {"texts": [], "query": t.query}, status=422)
    same(type(answer["error"]), str, "the type of `error`")


@call(ELASTIC["jinaai"], "rerank")
def elastic_jina(t: Target) -> None:
    body = {"model": t.reranker, "query": t.query, "documents": t.documents, "top_n": 3, "return_documents": True}
    items = post(t, "/jina/v1/rerank", body)["results"]
    t.ranking(pairs(items), top=3)
    texts(t, items, [item["document"]["text"] for item in items])


@call(ELASTIC["voyageai"], "rerank")
def elastic_voyage(t: Target) -> None:
    body = {"model": t.reranker, "query": t.query, "documents": t.documents, "top_k": 3, "return_documents": True}
    items = post(t, "/voyage/v1/rerank", {**body, "truncation": True})["data"]
    exactly(items, {"index", "relevance_score", "document"})
    t.ranking(pairs(items), top=3)
    texts(t, items, [item["document"] for item in items])


MILVUS = {name: f"Milvus {name}" for name in ("vllm", "tei", "cohere", "sglang")}


def for_each(t: Target, scored: list[tuple[int, float]]) -> None:
    """Milvus sorts by index and gives document i the score i: every index must be there, once."""
    scored = sorted(scored)
    same([index for index, _ in scored], list(range(len(t.documents))), "the indices")
    t.ranking(scored, order="sent")


@call(MILVUS["vllm"], "rerank, without a model, the path overwritten")
def milvus_vllm(t: Target) -> None:
    body = {"query": t.query, "documents": t.documents, "truncate_prompt_tokens": 256}
    for_each(t, pairs(post(t, "/rerank", body)["results"]))


@call(MILVUS["vllm"], "rerank, without a key, to a server that needs one")
def milvus_vllm_no_key(t: Target) -> None:
    answer = post(t, "/rerank", {"query": t.query, "documents": t.documents}, {}, status=401)
    same("API key" in answer["error"]["message"], True, "the reason")


@call(MILVUS["tei"], "rerank, without a model, the path overwritten")
def milvus_tei(t: Target) -> None:
    body = {"query": t.query, "texts": t.documents, "truncate": True, "truncation_direction": "Right"}
    for_each(t, pairs(post(t, "/rerank", body), "score"))


@call(MILVUS["tei"], "rerank, truncation_direction Left")
def milvus_tei_left(t: Target) -> None:
    body = {"query": t.query, "texts": t.documents, "truncate": True, "truncation_direction": "Left"}
    for_each(t, pairs(post(t, "/rerank", body), "score"))


@call(MILVUS["cohere"], "rerank, the scheme in lower case")
def milvus_cohere(t: Target) -> None:
    body = {"model": t.reranker, "query": t.query, "documents": t.documents}
    for_each(t, pairs(post(t, "/v2/rerank", body, {"Authorization": f"bearer {t.key}"})["results"]))


@call(MILVUS["sglang"], "rerank, the path overwritten")
def milvus_sglang(t: Target) -> None:
    answer = post(t, "/v1/rerank", {"model": t.reranker, "query": t.query, "documents": t.documents})
    if not isinstance(answer, list):
        raise TypeError("the answer is no list, but an object with `results`")
    for_each(t, pairs(answer, "score"))


WEAVIATE = {name: f"Weaviate {name}" for name in ("reranker-cohere", "reranker-transformers")}


@call(WEAVIATE["reranker-cohere"], "rerank")
def weaviate_cohere(t: Target) -> None:
    body = {"documents": t.documents, "query": t.query, "model": t.reranker, "return_documents": False}
    headers = {"Authorization": f"Bearer {t.key}", "Request-Source": "unspecified:weaviate"}
    items = post(t, "/v2/rerank", body, headers)["results"]
    same([item.get("document") for item in items], [None] * len(items), "the documents")
    t.ranking(pairs(items))


@call(WEAVIATE["reranker-cohere"], "rerank, unknown model")
def weaviate_cohere_unknown(t: Target) -> None:
    body = {"documents": ["a"], "query": "b", "model": "nobody/nothing", "return_documents": False}
    answer = post(t, "/cohere/v2/rerank", body, status=404)
    same(type(answer["message"]), str, "the type of `message`")


@call(WEAVIATE["reranker-transformers"], "rerank, without a model, to a server without keys")
def weaviate_transformers(t: Target) -> None:
    answer = post(t, "/rerank", {"query": t.query, "documents": t.documents, "property": ""})
    exactly(answer["scores"], {"document", "score"})
    scores = {item["document"]: item["score"] for item in answer["scores"]}
    t.ranking([(n, scores[text]) for n, text in enumerate(t.documents)], order="sent")


@call(WEAVIATE["reranker-transformers"], "rerank, an error")
def weaviate_transformers_error(t: Target) -> None:
    answer = post(t, "/rerank", {"query": "", "documents": t.documents, "property": ""}, status=422)
    same(type(answer["error"]), str, "the type of `error`")
