"""The calls of LlamaIndex's rerankers."""

import os
from unittest.mock import patch

from harness import Target, call, refused, same
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.postprocessor.cohere_rerank import CohereRerank
from llama_index.postprocessor.jinaai_rerank import JinaRerank
from llama_index.postprocessor.mixedbreadai_rerank import MixedbreadAIRerank
from llama_index.postprocessor.nvidia_rerank import NVIDIARerank
from llama_index.postprocessor.pinecone_native_rerank import PineconeNativeRerank
from llama_index.postprocessor.siliconflow_rerank import SiliconFlowRerank
from llama_index.postprocessor.tei_rerank import TextEmbeddingInference
from llama_index.postprocessor.voyageai_rerank import VoyageAIRerank
from llama_index.postprocessor.xinference_rerank import XinferenceRerank

COHERE, JINA, VOYAGE, NVIDIA = (f"LlamaIndex {name}" for name in ("Cohere", "Jina", "Voyage", "NVIDIA"))
TEI, XINFERENCE, MIXEDBREAD = (f"LlamaIndex {name}" for name in ("TEI", "Xinference", "Mixedbread"))
SILICONFLOW, PINECONE = (f"LlamaIndex {name}" for name in ("SiliconFlow", "Pinecone"))


def given(t: Target) -> list[NodeWithScore]:
    return [NodeWithScore(node=TextNode(text=text, id_=str(n)), score=0.5) for n, text in enumerate(t.documents)]


def check(t: Target, ranker: object, top: int | None = None, scale: str = "unit") -> None:
    found = ranker.postprocess_nodes(given(t), query_str=t.query)
    ranked(t, found, top, scale)


def ranked(t: Target, found: list[NodeWithScore], top: int | None = None, scale: str = "unit") -> None:
    t.ranking(((node.node.node_id, node.score) for node in found), top=top, scale=scale)
    same([n.node.get_content() for n in found], [t.documents[int(n.node.node_id)] for n in found], "the texts")


@call(TEI, "TextEmbeddingInference.postprocess_nodes, with the bare key")
def tei(t: Target) -> None:
    check(t, TextEmbeddingInference(base_url=t.url, auth_token=t.key, top_n=10))


@call(TEI, "TextEmbeddingInference, base URL with the prefix /tei, top_n")
def tei_prefix(t: Target) -> None:
    check(t, TextEmbeddingInference(base_url=t.url + "/tei", auth_token=f"Bearer {t.key}", top_n=2), top=2)


@call(TEI, "TextEmbeddingInference.apostprocess_nodes")
async def tei_async(t: Target) -> None:
    ranker = TextEmbeddingInference(base_url=t.url, auth_token=t.key, top_n=10)
    ranked(t, await ranker.apostprocess_nodes(given(t), query_str=t.query))


@call(COHERE, "CohereRerank.postprocess_nodes")
def cohere(t: Target) -> None:
    check(t, CohereRerank(model=t.reranker, api_key=t.key, base_url=t.url, top_n=3), top=3)


@call(COHERE, "CohereRerank.apostprocess_nodes, base URL with the prefix /cohere")
async def cohere_async(t: Target) -> None:
    ranker = CohereRerank(model=t.reranker, api_key=t.key, base_url=t.url + "/cohere", top_n=10)
    ranked(t, await ranker.apostprocess_nodes(given(t), query_str=t.query))


@call(COHERE, "CohereRerank, unknown model")
def cohere_unknown(t: Target) -> None:
    ranker = CohereRerank(model="nobody/nothing", api_key=t.key, base_url=t.url, max_retries=0)
    refused(lambda: ranker.postprocess_nodes(given(t), query_str=t.query), "nobody/nothing")


@call(JINA, "JinaRerank.postprocess_nodes")
def jina(t: Target) -> None:
    check(t, JinaRerank(model=t.reranker, api_key=t.key, base_url=t.url + "/v1", top_n=3), top=3)


@call(JINA, "JinaRerank, base URL with the prefix /jina")
def jina_prefix(t: Target) -> None:
    check(t, JinaRerank(model=t.reranker, api_key=t.key, base_url=t.url + "/jina/v1", top_n=10))


@call(JINA, "JinaRerank, wrong key")
def jina_wrong_key(t: Target) -> None:
    ranker = JinaRerank(model=t.reranker, api_key="wrong", base_url=t.url + "/jina/v1", top_n=10)
    refused(lambda: ranker.postprocess_nodes(given(t), query_str=t.query), "API key", RuntimeError)


@call(VOYAGE, "VoyageAIRerank.postprocess_nodes")
def voyage(t: Target) -> None:
    ranker = VoyageAIRerank(model=t.reranker, api_key=t.key, top_n=3)
    ranker._client._params["base_url"] = t.url + "/voyage/v1"
    check(t, ranker, top=3)


@call(NVIDIA, "NVIDIARerank.postprocess_nodes")
def nvidia(t: Target) -> None:
    ranker = NVIDIARerank(model=t.reranker, base_url=t.url + "/v1", api_key=t.key, top_n=10)
    check(t, ranker, scale="raw")


@call(NVIDIA, "NVIDIARerank, base URL with the prefix /nim, top_n, truncate")
def nvidia_prefix(t: Target) -> None:
    ranker = NVIDIARerank(model=t.reranker, base_url=t.url + "/nim/v1", api_key=t.key, top_n=2, truncate="END")
    check(t, ranker, top=2, scale="raw")


@call(XINFERENCE, "XinferenceRerank.postprocess_nodes")
def xinference(t: Target) -> None:
    check(t, XinferenceRerank(model=t.reranker, base_url=t.open_url + "/xinference", top_n=3), top=3)


@call(XINFERENCE, "XinferenceRerank, unknown model")
def xinference_unknown(t: Target) -> None:
    ranker = XinferenceRerank(model="nobody/nothing", base_url=t.open_url, top_n=3)
    refused(lambda: ranker.postprocess_nodes(given(t), query_str=t.query), "nobody/nothing")


@call(MIXEDBREAD, "MixedbreadAIRerank.postprocess_nodes, with MIXEDBREAD_BASE_URL")
def mixedbread(t: Target) -> None:
    with patch.dict(os.environ, {"MIXEDBREAD_BASE_URL": t.url + "/mixedbread"}):
        check(t, MixedbreadAIRerank(model=t.reranker, api_key=t.key, top_n=3), top=3)


@call(MIXEDBREAD, "MixedbreadAIRerank.apostprocess_nodes")
async def mixedbread_async(t: Target) -> None:
    with patch.dict(os.environ, {"MIXEDBREAD_BASE_URL": t.url}):
        ranker = MixedbreadAIRerank(model=t.reranker, api_key=t.key, top_n=10)
    ranked(t, await ranker.apostprocess_nodes(given(t), query_str=t.query))


@call(SILICONFLOW, "SiliconFlowRerank.postprocess_nodes")
def siliconflow(t: Target) -> None:
    ranker = SiliconFlowRerank(model=t.reranker, base_url=t.url + "/v1/rerank", api_key=t.key, top_n=3)
    check(t, ranker, top=3)


@call(PINECONE, "PineconeNativeRerank.postprocess_nodes, with PINECONE_CONTROLLER_HOST")
def pinecone(t: Target) -> None:
    with patch.dict(os.environ, {"PINECONE_CONTROLLER_HOST": t.url + "/pinecone"}):
        ranker = PineconeNativeRerank(model="bge-reranker-v2-m3", api_key=t.key, top_n=3)
        check(t, ranker, top=3)
