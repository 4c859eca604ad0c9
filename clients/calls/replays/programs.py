"""The requests of Open WebUI, Dify, RAGFlow, LangChain4j, and of servers that pass requests on."""

import httpx2
from harness import Target, call, same
from replays.wire import pairs, post, texts

WEBUI = "Open WebUI"


def every(t: Target, items: list[dict[str, object]]) -> None:
    """Open WebUI needs a score for every document, else it goes on unranked and says nothing."""
    scored = {item["index"]: item["relevance_score"] for item in items}
    t.ranking([(n, scored[n]) for n in range(len(t.documents))], order="sent")


@call(WEBUI, "external reranker")
def webui(t: Target) -> None:
    body = {"model": t.reranker, "query": t.query, "documents": t.documents, "top_n": len(t.documents)}
    headers = {"Authorization": f"Bearer {t.key}", "X-OpenWebUI-User-Name": "a", "X-OpenWebUI-User-Id": "1"}
    every(t, post(t, "/v1/rerank", body, headers)["results"])


@call(WEBUI, "external reranker, the URL of /jina/v1/rerank")
def webui_jina(t: Target) -> None:
    body = {"model": t.reranker, "query": t.query, "documents": t.documents, "top_n": len(t.documents)}
    every(t, post(t, "/jina/v1/rerank", body)["results"])


@call(WEBUI, "embeddings of an API compatible with OpenAI's")
def webui_embeddings(t: Target) -> None:
    answer = post(t, "/v1/embeddings", {"input": t.documents, "model": t.embedder})
    t.embeddings([item["embedding"] for item in answer["data"]])


DIFY = {name: f"Dify {name}" for name in ("openai_api_compatible", "localai", "gpustack", "siliconflow", "TEI")}


def dify(t: Target, path: str, **fields: object) -> list[dict[str, object]]:
    body = {"model": t.reranker, "query": t.query, "documents": t.documents, **fields}
    items = post(t, path, body)["results"]
    t.ranking(pairs(items), top=fields.get("top_n"))
    return items


@call(DIFY["openai_api_compatible"], "rerank")
def dify_openai(t: Target) -> None:
    items = dify(t, "/v1/rerank", top_n=3, return_documents=True)
    texts(t, items, [item["document"]["text"] for item in items])


@call(DIFY["openai_api_compatible"], "rerank, unknown model")
def dify_openai_unknown(t: Target) -> None:
    answer = post(t, "/v1/rerank", {"model": "nobody/nothing", "query": "a", "documents": ["b"]}, status=404)
    same("nobody/nothing" in answer["detail"], True, "the model's name in `detail`")


@call(DIFY["localai"], "rerank")
def dify_localai(t: Target) -> None:
    items = dify(t, "/rerank", top_n=3)
    same([item["index"] for item in items], [item["index"] for item in dify(t, "/v1/rerank", top_n=3)], "the order")


@call(DIFY["gpustack"], "rerank")
def dify_gpustack(t: Target) -> None:
    dify(t, "/v1/rerank", top_n=3)


@call(DIFY["siliconflow"], "rerank, return_documents")
def dify_siliconflow(t: Target) -> None:
    items = dify(t, "/v1/rerank", top_n=3, return_documents=True, max_chunks_per_doc=1024, overlap_tokens=80)
    texts(t, items, [item["document"]["text"] for item in items])


@call(DIFY["TEI"], "GET /info, then rerank with return_text")
def dify_tei(t: Target) -> None:
    headers = {"Authorization": f"Bearer {t.key}"}
    info = httpx2.get(t.url + "/info", headers=headers, trust_env=False).json()
    same("reranker" in info["model_type"], True, "the type of the model")
    same(type(info["max_client_batch_size"]), int, "the type of max_client_batch_size")
    items = post(t, "/rerank", {"query": t.query, "texts": t.documents, "return_text": True})
    t.ranking(pairs(items, "score"))
    texts(t, items, [item["text"] for item in items])


RAGFLOW = "RAGFlow (Xinference)"


@call(RAGFLOW, "rerank, booleans as strings")
def ragflow(t: Target) -> None:
    body = {"model": t.reranker, "query": t.query, "return_documents": "true", "return_len": "true"}
    answer = post(t, "/v1/rerank", {**body, "documents": t.documents})
    t.ranking(pairs(answer["results"]))
    same(answer["usage"]["total_tokens"], t.tokens, "total_tokens")


LANGCHAIN4J = "LangChain4j Cohere"


@call(LANGCHAIN4J, "rerank")
def langchain4j(t: Target) -> None:
    answer = post(t, "/v1/rerank", {"model": t.reranker, "query": t.query, "documents": t.documents})
    t.ranking(pairs(answer["results"]))


VLLM = "vLLM's own requests"


@call(VLLM, "POST /score, one text and several")
def vllm_score(t: Target) -> None:
    answer = post(t, "/score", {"model": t.reranker, "text_1": t.query, "text_2": t.documents})
    same({item["object"] for item in answer["data"]}, {"score"}, "the objects")
    t.ranking(pairs(answer["data"], "score"), order="sent")
    same(answer["usage"]["total_tokens"], t.tokens, "total_tokens")


@call(VLLM, "POST /v1/score, pairs of queries and documents")
def vllm_pairs(t: Target) -> None:
    body = {"model": t.reranker, "queries": [t.query] * len(t.documents), "documents": t.documents}
    t.ranking(pairs(post(t, "/v1/score", body)["data"], "score"), order="sent")


@call(VLLM, "POST /vllm/v1/rerank, top_n 0, truncate_prompt_tokens -1")
def vllm_rerank(t: Target) -> None:
    fields = {"top_n": 0, "truncate_prompt_tokens": -1, "priority": 0, "user": "someone"}
    answer = post(t, "/vllm/v1/rerank", {"model": t.reranker, "query": t.query, "documents": t.documents, **fields})
    t.ranking(pairs(answer["results"]))
    texts(t, answer["results"], [item["document"]["text"] for item in answer["results"]])


LLAMA = "llama.cpp's own requests"


@call(LLAMA, "POST /v1/reranking, documents")
def llama_documents(t: Target) -> None:
    answer = post(t, "/v1/reranking", {"model": t.reranker, "query": t.query, "documents": t.documents, "top_n": 3})
    t.ranking(pairs(answer["results"]), top=3)


@call(LLAMA, "POST /reranking, texts")
def llama_texts(t: Target) -> None:
    t.ranking(pairs(post(t, "/reranking", {"query": t.query, "texts": t.documents}), "score"))


SGLANG = "SGLang's own requests"


@call(SGLANG, "POST /sglang/v1/rerank")
def sglang(t: Target) -> None:
    items = post(t, "/sglang/v1/rerank", {"model": t.reranker, "query": t.query, "documents": t.documents})
    t.ranking(pairs(items, "score"))
    texts(t, items, [item["document"] for item in items])
