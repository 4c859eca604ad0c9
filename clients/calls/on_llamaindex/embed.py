"""The calls of LlamaIndex's embeddings."""

import os
from unittest.mock import patch

from harness import Target, call, refused
from llama_index.embeddings.cohere import CohereEmbedding
from llama_index.embeddings.jinaai import JinaEmbedding
from llama_index.embeddings.mixedbreadai import MixedbreadAIEmbedding
from llama_index.embeddings.nvidia import NVIDIAEmbedding
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference
from llama_index.embeddings.voyageai import VoyageEmbedding
from llama_index.embeddings.xinference import XinferenceEmbedding

COHERE, JINA, VOYAGE, NVIDIA = (f"LlamaIndex {name}" for name in ("Cohere", "Jina", "Voyage", "NVIDIA"))
TEI, XINFERENCE, MIXEDBREAD, OPENAI = (f"LlamaIndex {name}" for name in ("TEI", "Xinference", "Mixedbread", "OpenAI"))


def check(t: Target, model: object, documents: str = "document", queries: str = "query") -> None:
    t.embeddings(model.get_text_embedding_batch(t.documents), documents)
    t.embeddings([model.get_query_embedding(text) for text in t.documents], queries)


@call(OPENAI, "OpenAIEmbedding, the vendor's name of the model")
def openai(t: Target) -> None:
    check(t, OpenAIEmbedding(api_key=t.key, api_base=t.url + "/v1", model="text-embedding-3-small"), queries="document")


@call(OPENAI, "OpenAILikeEmbedding, dimensions")
def openai_like(t: Target) -> None:
    model = OpenAILikeEmbedding(model_name=t.embedder, api_key=t.key, api_base=t.url + "/v1", dimensions=t.half)
    t.front_embeddings(model.get_text_embedding_batch(t.documents))


@call(OPENAI, "OpenAILikeEmbedding.aget_text_embedding_batch")
async def openai_async(t: Target) -> None:
    model = OpenAILikeEmbedding(model_name=t.embedder, api_key=t.key, api_base=t.url + "/v1")
    t.embeddings(await model.aget_text_embedding_batch(t.documents))


@call(OPENAI, "OpenAILikeEmbedding, wrong key")
def openai_wrong_key(t: Target) -> None:
    model = OpenAILikeEmbedding(model_name=t.embedder, api_key="wrong", api_base=t.url + "/v1", max_retries=0)
    refused(lambda: model.get_text_embedding("a"), "API key")


@call(NVIDIA, "NVIDIAEmbedding")
def nvidia(t: Target) -> None:
    # It calls a query a passage, unless it is asynchronous.
    check(t, NVIDIAEmbedding(model=t.embedder, base_url=t.url + "/v1", api_key=t.key), queries="document")


@call(NVIDIA, "NVIDIAEmbedding.aget_query_embedding")
async def nvidia_async(t: Target) -> None:
    model = NVIDIAEmbedding(model=t.embedder, base_url=t.url + "/nim/v1", api_key=t.key)
    t.embeddings([await model.aget_query_embedding(text) for text in t.documents], "query")


@call(JINA, "JinaEmbedding")
def jina(t: Target) -> None:
    model = JinaEmbedding(api_key=t.key, model=t.embedder, task="retrieval.passage")
    model._api.api_url = t.url + "/jina/v1/embeddings"
    check(t, model, queries="document")


@call(JINA, "JinaEmbedding.aget_text_embedding_batch, task retrieval.query")
async def jina_async(t: Target) -> None:
    model = JinaEmbedding(api_key=t.key, model=t.embedder, task="retrieval.query")
    model._api.api_url = t.url + "/v1/embeddings"
    t.embeddings(await model.aget_text_embedding_batch(t.documents), "query")


@call(MIXEDBREAD, "MixedbreadAIEmbedding, with MIXEDBREAD_BASE_URL")
def mixedbread(t: Target) -> None:
    with patch.dict(os.environ, {"MIXEDBREAD_BASE_URL": t.url + "/mixedbread"}):
        check(t, MixedbreadAIEmbedding(api_key=t.key, model_name=t.embedder), queries="document")


@call(VOYAGE, "VoyageEmbedding")
def voyage(t: Target) -> None:
    model = VoyageEmbedding(model_name="voyage-3.5", voyage_api_key=t.key, embed_batch_size=4)
    for client in (model._client, model._aclient):
        client._params["base_url"] = t.url + "/voyage/v1"
    check(t, model)


@call(XINFERENCE, "XinferenceEmbedding")
def xinference(t: Target) -> None:
    check(t, XinferenceEmbedding(model_uid=t.embedder, base_url=t.open_url + "/xinference"), queries="document")


@call(COHERE, "CohereEmbedding")
def cohere(t: Target) -> None:
    model = CohereEmbedding(model_name="embed-v4.0", api_key=t.key, base_url=t.url, input_type="search_document")
    t.embeddings(model.get_text_embedding_batch(t.documents))


@call(TEI, "TextEmbeddingsInference")
def tei(t: Target) -> None:
    check(t, TextEmbeddingsInference(model_name=t.embedder, base_url=t.open_url), queries="document")


@call(TEI, "TextEmbeddingsInference, base URL with the prefix /tei, a key")
def tei_prefix(t: Target) -> None:
    model = TextEmbeddingsInference(model_name=t.embedder, base_url=t.open_url + "/tei", auth_token=t.key)
    t.embeddings(model.get_text_embedding_batch(t.documents))
