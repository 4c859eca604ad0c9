"""The calls of Haystack's rankers and embedders."""

from harness import Target, call, refused, refused_async, same
from haystack import Document
from haystack.components.embedders import OpenAIDocumentEmbedder, OpenAITextEmbedder
from haystack.utils import Secret
from haystack_integrations.components.embedders.cohere import CohereDocumentEmbedder, CohereTextEmbedder
from haystack_integrations.components.embedders.huggingface_api import (
    HuggingFaceAPIDocumentEmbedder,
    HuggingFaceAPITextEmbedder,
)
from haystack_integrations.components.embedders.jina import JinaDocumentEmbedder, JinaTextEmbedder
from haystack_integrations.components.embedders.nvidia import NvidiaDocumentEmbedder, NvidiaTextEmbedder
from haystack_integrations.components.rankers.cohere import CohereRanker
from haystack_integrations.components.rankers.huggingface_api import HuggingFaceTEIRanker, TruncationDirection
from haystack_integrations.components.rankers.jina import JinaRanker
from haystack_integrations.components.rankers.nvidia import NvidiaRanker

COHERE, JINA, NVIDIA, TEI, OPENAI = (f"Haystack {name}" for name in ("Cohere", "Jina", "NVIDIA", "TEI", "OpenAI"))


def key(t: Target) -> Secret:
    return Secret.from_token(t.key)


def given(t: Target) -> list[Document]:
    return [Document(id=str(n), content=text) for n, text in enumerate(t.documents)]


def ranked(t: Target, answer: dict[str, list[Document]], top: int | None = None, scale: str = "unit") -> None:
    found = answer["documents"]
    t.ranking(((int(d.id), d.score) for d in found), top=top, scale=scale)
    same([d.content for d in found], [t.documents[int(d.id)] for d in found], "the documents")


def embeds(t: Target, texts: object, documents: object, queries: str = "query") -> None:
    t.embeddings([texts.run(text=text)["embedding"] for text in t.documents], queries)
    t.embeddings([d.embedding for d in documents.run(documents=given(t))["documents"]])


@call(TEI, "HuggingFaceTEIRanker, a base URL with a path")
def tei(t: Target) -> None:
    ranker = HuggingFaceTEIRanker(url=t.url + "/some/path", token=key(t), top_k=10)
    ranked(t, ranker.run(query=t.query, documents=given(t)))


@call(TEI, "HuggingFaceTEIRanker, top_k, truncation_direction, raw_scores")
def tei_raw(t: Target) -> None:
    ranker = HuggingFaceTEIRanker(url=t.url, token=key(t), top_k=2, raw_scores=True)
    answer = ranker.run(query=t.query, documents=given(t), truncation_direction=TruncationDirection.RIGHT)
    ranked(t, answer, top=2, scale="raw")


@call(TEI, "HuggingFaceTEIRanker.run_async")
async def tei_async(t: Target) -> None:
    ranker = HuggingFaceTEIRanker(url=t.url, token=key(t), top_k=10)
    ranked(t, await ranker.run_async(query=t.query, documents=given(t)))


@call(TEI, "HuggingFaceTEIRanker, wrong key")
def tei_wrong_key(t: Target) -> None:
    ranker = HuggingFaceTEIRanker(url=t.url, token=Secret.from_token("wrong"), max_retries=0)
    refused(lambda: ranker.run(query=t.query, documents=given(t)), "401")


@call(TEI, "HuggingFaceAPITextEmbedder and HuggingFaceAPIDocumentEmbedder")
def tei_embed(t: Target) -> None:
    fields = {"api_type": "text_embeddings_inference", "api_params": {"url": t.open_url}, "token": key(t)}
    embeds(t, HuggingFaceAPITextEmbedder(**fields), HuggingFaceAPIDocumentEmbedder(**fields), "document")


@call(COHERE, "CohereRanker")
def cohere(t: Target) -> None:
    ranker = CohereRanker(model=t.reranker, api_key=key(t), api_base_url=t.url, top_k=3)
    ranked(t, ranker.run(query=t.query, documents=given(t)), top=3)


@call(COHERE, "CohereRanker, unknown model")
def cohere_unknown(t: Target) -> None:
    ranker = CohereRanker(model="nobody/nothing", api_key=key(t), api_base_url=t.url + "/cohere")
    refused(lambda: ranker.run(query=t.query, documents=given(t)), "nobody/nothing")


@call(COHERE, "CohereTextEmbedder and CohereDocumentEmbedder")
def cohere_embed(t: Target) -> None:
    fields = {"api_key": key(t), "model": t.embedder, "api_base_url": t.url}
    embeds(t, CohereTextEmbedder(**fields), CohereDocumentEmbedder(**fields))


@call(JINA, "JinaRanker")
def jina(t: Target) -> None:
    ranker = JinaRanker(model=t.reranker, api_key=key(t), base_url=t.url + "/v1/rerank", top_k=3)
    ranked(t, ranker.run(query=t.query, documents=given(t)), top=3)


@call(JINA, "JinaRanker, base URL with the prefix /jina, score_threshold")
def jina_prefix(t: Target) -> None:
    third = sorted(t.scores["unit"])[-3]
    ranker = JinaRanker(
        model=t.reranker, api_key=key(t), base_url=t.url + "/jina/v1/rerank", score_threshold=third - 1e-6
    )
    ranked(t, ranker.run(query=t.query, documents=given(t)), top=3)


@call(JINA, "JinaRanker, unknown model")
def jina_unknown(t: Target) -> None:
    ranker = JinaRanker(model="nobody/nothing", api_key=key(t), base_url=t.url + "/v1/rerank")
    refused(lambda: ranker.run(query=t.query, documents=given(t)), "nobody/nothing")


@call(JINA, "JinaTextEmbedder and JinaDocumentEmbedder, task")
def jina_embed(t: Target) -> None:
    fields = {"api_key": key(t), "model": t.embedder, "base_url": t.url + "/jina/v1/embeddings"}
    embeds(t, JinaTextEmbedder(task="retrieval.query", **fields), JinaDocumentEmbedder(**fields))


@call(JINA, "JinaTextEmbedder, late_chunking")
def jina_late(t: Target) -> None:
    embedder = JinaTextEmbedder(
        api_key=key(t), model=t.embedder, base_url=t.url + "/jina/v1/embeddings", late_chunking=True
    )
    refused(lambda: embedder.run(text="a"), "late_chunking")


@call(NVIDIA, "NvidiaRanker")
def nvidia(t: Target) -> None:
    ranker = NvidiaRanker(model=t.reranker, api_url=t.url + "/v1", api_key=key(t), top_k=3)
    ranked(t, ranker.run(query=t.query, documents=given(t)), top=3, scale="raw")


@call(NVIDIA, "NvidiaTextEmbedder and NvidiaDocumentEmbedder")
def nvidia_embed(t: Target) -> None:
    fields = {"api_key": key(t), "model": t.embedder, "api_url": t.url + "/nim/v1"}
    embeds(t, NvidiaTextEmbedder(**fields), NvidiaDocumentEmbedder(**fields))


@call(OPENAI, "OpenAITextEmbedder and OpenAIDocumentEmbedder")
def openai(t: Target) -> None:
    fields = {"api_key": key(t), "model": t.embedder, "api_base_url": t.url + "/v1"}
    embeds(t, OpenAITextEmbedder(**fields), OpenAIDocumentEmbedder(**fields), "document")


@call(OPENAI, "OpenAITextEmbedder.run_async, wrong key")
async def openai_wrong_key(t: Target) -> None:
    embedder = OpenAITextEmbedder(
        api_key=Secret.from_token("wrong"), model=t.embedder, api_base_url=t.url + "/v1", max_retries=0
    )
    await refused_async(embedder.run_async(text="a"), "API key")
