"""The calls of LangChain's embeddings."""

from unittest.mock import patch

from harness import Target, call, refused, refused_async
from langchain_cohere import CohereEmbeddings
from langchain_community.embeddings import (
    InfinityEmbeddings,
    JinaEmbeddings,
    XinferenceEmbeddings,
    jina,
)
from langchain_huggingface import HuggingFaceEndpointEmbeddings
from langchain_nvidia_ai_endpoints import NVIDIAEmbeddings
from langchain_openai import OpenAIEmbeddings
from langchain_voyageai import VoyageAIEmbeddings

COHERE, JINA, VOYAGE, NVIDIA = (f"LangChain {name}" for name in ("Cohere", "Jina", "Voyage", "NVIDIA"))
OPENAI, TEI = "LangChain OpenAIEmbeddings", "LangChain TEI"
INFINITY, XINFERENCE = "LangChain InfinityEmbeddings", "LangChain XinferenceEmbeddings"


def check(t: Target, model: object, queries: str = "query") -> None:
    """Documents are read as documents, and queries as `queries`."""
    t.embeddings(model.embed_documents(t.documents))
    t.embeddings([model.embed_query(text) for text in t.documents], queries)


def openai(t: Target, **fields: object) -> OpenAIEmbeddings:
    fields = {"check_embedding_ctx_length": False, "base_url": t.url + "/v1", "api_key": t.key, **fields}
    return OpenAIEmbeddings(**{"model": t.embedder, **fields})


@call(OPENAI, "embed_documents, embed_query")
def openai_embed(t: Target) -> None:
    check(t, openai(t), "document")


@call(OPENAI, "aembed_documents, dimensions")
async def openai_async(t: Target) -> None:
    t.front_embeddings(await openai(t, dimensions=t.half).aembed_documents(t.documents))


@call(OPENAI, "embed_documents in its default setting, which sends token ids of cl100k")
def openai_token_ids(t: Target) -> None:
    sends = openai(t, check_embedding_ctx_length=True)
    refused(lambda: sends.embed_documents(t.documents), "check_embedding_ctx_length=False")


@call(OPENAI, "aembed_query in its default setting, to a server with --token-ids cl100k")
async def openai_cl100k(t: Target) -> None:
    sends = openai(t, check_embedding_ctx_length=True, base_url=t.open_url + "/v1")
    t.embeddings([await sends.aembed_query(text) for text in t.documents])
    t.embeddings(await sends.aembed_documents(t.documents))


@call(OPENAI, "embed_query, wrong key")
def openai_wrong_key(t: Target) -> None:
    refused(lambda: openai(t, api_key="wrong").embed_query("a"), "API key")


@call(VOYAGE, "VoyageAIEmbeddings.embed_documents, embed_query")
def voyage(t: Target) -> None:
    base = t.url + "/voyage/v1"
    check(t, VoyageAIEmbeddings(model="voyage-3.5", voyage_api_key=t.key, base_url=base, batch_size=4))


@call(VOYAGE, "VoyageAIEmbeddings.aembed_documents, aembed_query")
async def voyage_async(t: Target) -> None:
    model = VoyageAIEmbeddings(model="voyage-3.5", voyage_api_key=t.key, base_url=t.url + "/voyage/v1", batch_size=4)
    t.embeddings(await model.aembed_documents(t.documents))
    t.embeddings([await model.aembed_query(text) for text in t.documents], "query")


def nvidia(t: Target, **fields: object) -> NVIDIAEmbeddings:
    return NVIDIAEmbeddings(**{"model": t.embedder, "base_url": t.url + "/v1", "nvidia_api_key": t.key, **fields})


@call(NVIDIA, "NVIDIAEmbeddings.embed_documents, embed_query")
def nvidia_embed(t: Target) -> None:
    check(t, nvidia(t))


@call(NVIDIA, "NVIDIAEmbeddings, truncate NONE, too long")
def nvidia_too_long(t: Target) -> None:
    refused(lambda: nvidia(t, truncate="NONE").embed_documents(["python " * 2000]), "tokens")


@call(NVIDIA, "NVIDIAEmbeddings.aembed_query, base URL with the prefix /nim")
async def nvidia_async(t: Target) -> None:
    model = nvidia(t, base_url=t.url + "/nim/v1")
    t.embeddings([await model.aembed_query(text) for text in t.documents], "query")


@call(JINA, "JinaEmbeddings.embed_documents, with another JINA_API_URL in its module")
def jina_embed(t: Target) -> None:
    with patch.object(jina, "JINA_API_URL", t.url + "/v1/embeddings"):
        check(t, JinaEmbeddings(model_name=t.embedder, jina_api_key=t.key), "document")


@call(COHERE, "CohereEmbeddings.embed_documents, embed_query")
def cohere(t: Target) -> None:
    check(t, CohereEmbeddings(model=t.embedder, cohere_api_key=t.key, base_url=t.url))


@call(COHERE, "CohereEmbeddings.aembed_documents, unknown model")
async def cohere_unknown(t: Target) -> None:
    model = CohereEmbeddings(model="nobody/nothing", cohere_api_key=t.key, base_url=t.url)
    await refused_async(model.aembed_documents(["a"]), "nobody/nothing")


@call(TEI, "HuggingFaceEndpointEmbeddings.embed_documents")
def tei_endpoint(t: Target) -> None:
    HuggingFaceEndpointEmbeddings(model=t.open_url, huggingfacehub_api_token=t.key).embed_documents(t.documents)


@call(INFINITY, "embed_documents, embed_query")
def infinity(t: Target) -> None:
    model = InfinityEmbeddings(model=t.embedder, infinity_api_url=t.open_url + "/infinity")
    check(t, model, "document")


@call(XINFERENCE, "embed_documents, embed_query")
def xinference(t: Target) -> None:
    check(t, XinferenceEmbeddings(server_url=t.open_url, model_uid=t.embedder), "document")
