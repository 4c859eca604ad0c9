"""The calls of LangChain's document compressors."""

from unittest.mock import patch

from harness import Target, call, refused, same
from langchain_cohere import CohereRerank
from langchain_community.document_compressors import JinaRerank, jina_rerank
from langchain_core.documents import Document
from langchain_nvidia_ai_endpoints import NVIDIARerank
from langchain_voyageai import VoyageAIRerank

COHERE, JINA, VOYAGE, NVIDIA = (f"LangChain {name}" for name in ("Cohere", "Jina", "Voyage", "NVIDIA"))


def given(t: Target) -> list[Document]:
    return [Document(page_content=text, metadata={"n": n}) for n, text in enumerate(t.documents)]


def check(t: Target, found: list[Document], top: int | None = None, scale: str = "unit") -> None:
    t.ranking(((d.metadata["n"], d.metadata["relevance_score"]) for d in found), top=top, scale=scale)
    same([d.page_content for d in found], [t.documents[d.metadata["n"]] for d in found], "the documents")


def cohere(t: Target, **fields: object) -> CohereRerank:
    return CohereRerank(**{"model": t.reranker, "cohere_api_key": t.key, "base_url": t.url, "top_n": 3, **fields})


@call(COHERE, "CohereRerank.compress_documents")
def cohere_compress(t: Target) -> None:
    check(t, list(cohere(t).compress_documents(given(t), t.query)), top=3)


@call(COHERE, "CohereRerank.rerank, max_tokens_per_doc")
def cohere_rerank(t: Target) -> None:
    found = cohere(t, top_n=None).rerank(given(t), t.query, max_tokens_per_doc=4096)
    t.ranking((r["index"], r["relevance_score"]) for r in found)


@call(COHERE, "CohereRerank.acompress_documents")
async def cohere_async(t: Target) -> None:
    found = await cohere(t, base_url=t.url + "/cohere").acompress_documents(given(t), t.query)
    check(t, list(found), top=3)


@call(COHERE, "CohereRerank, unknown model")
def cohere_unknown(t: Target) -> None:
    wrong = cohere(t, model="nobody/nothing")
    refused(lambda: wrong.compress_documents(given(t), t.query), "nobody/nothing")


def jina(t: Target, **fields: object) -> JinaRerank:
    return JinaRerank(**{"model": t.reranker, "jina_api_key": t.key, "top_n": 3, **fields})


@call(JINA, "JinaRerank.compress_documents, with another JINA_API_URL in its module")
def jina_compress(t: Target) -> None:
    with patch.object(jina_rerank, "JINA_API_URL", t.url + "/v1/rerank"):
        check(t, list(jina(t).compress_documents(given(t), t.query)), top=3)


@call(JINA, "JinaRerank.acompress_documents")
async def jina_async(t: Target) -> None:
    with patch.object(jina_rerank, "JINA_API_URL", t.url + "/jina/v1/rerank"):
        check(t, list(await jina(t, top_n=None).acompress_documents(given(t), t.query)))


@call(JINA, "JinaRerank, unknown model")
def jina_unknown(t: Target) -> None:
    with patch.object(jina_rerank, "JINA_API_URL", t.url + "/jina/v1/rerank"):
        refused(lambda: jina(t, model="nobody/nothing").compress_documents(given(t), t.query), "nobody/nothing")


def voyage(t: Target, **fields: object) -> VoyageAIRerank:
    base = t.url + "/voyage/v1"
    return VoyageAIRerank(**{"model": t.reranker, "voyage_api_key": t.key, "base_url": base, **fields})


@call(VOYAGE, "VoyageAIRerank.compress_documents")
def voyage_compress(t: Target) -> None:
    check(t, list(voyage(t, top_k=3).compress_documents(given(t), t.query)), top=3)


@call(VOYAGE, "VoyageAIRerank.acompress_documents")
async def voyage_async(t: Target) -> None:
    check(t, list(await voyage(t).acompress_documents(given(t), t.query)))


@call(VOYAGE, "VoyageAIRerank, truncation=False, too long")
def voyage_too_long(t: Target) -> None:
    long = [Document(page_content="python " * 2000)]
    refused(lambda: voyage(t, truncation=False).compress_documents(long, t.query), "tokens")


def nvidia(t: Target, **fields: object) -> NVIDIARerank:
    return NVIDIARerank(**{"model": t.reranker, "base_url": t.url + "/v1", "nvidia_api_key": t.key, **fields})


@call(NVIDIA, "NVIDIARerank.compress_documents")
def nvidia_compress(t: Target) -> None:
    check(t, list(nvidia(t, top_n=3).compress_documents(given(t), t.query)), top=3, scale="raw")


@call(NVIDIA, "NVIDIARerank, base URL with the prefix /nim, truncate")
def nvidia_prefix(t: Target) -> None:
    ranker = nvidia(t, base_url=t.url + "/nim/v1", truncate="END", top_n=10)
    check(t, list(ranker.compress_documents(given(t), t.query)), scale="raw")


@call(NVIDIA, "NVIDIARerank.acompress_documents")
async def nvidia_async(t: Target) -> None:
    check(t, list(await nvidia(t, top_n=2).acompress_documents(given(t), t.query)), top=2, scale="raw")


@call(NVIDIA, "NVIDIARerank, truncate NONE, too long")
def nvidia_too_long(t: Target) -> None:
    long = [Document(page_content="python " * 2000)]
    refused(lambda: nvidia(t, truncate="NONE").compress_documents(long, t.query), "tokens")
