"""Reranking and embeddings for LangChain: `pip install './packages/sie-sdk[langchain]'` in a checkout."""

from collections.abc import Sequence
from typing import Any

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.embeddings import Embeddings
from pydantic import ConfigDict, Field

from sie_sdk import _frameworks
from sie_sdk.client import SIEAsyncClient, SIEClient

__all__ = ["SIEEmbeddings", "SIEReranker"]


class SIEReranker(BaseDocumentCompressor):
    """Reranks documents by their relevance to the query; returns all of them, or the `top_k` best.

    It returns copies with their score as `relevance_score` in the metadata. `base_url` is by default the environment
    variable SIE_BASE_URL. Clients passed as `client` and `async_client` are used as they are and stay open; without an
    `async_client`, each asynchronous call opens its own connection.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    model: str
    base_url: str | None = None
    top_k: int | None = None
    instruction: str | None = None
    options: dict[str, Any] | None = None
    timeout_s: float | None = None
    client: SIEClient | None = Field(default=None, exclude=True, repr=False)
    async_client: SIEAsyncClient | None = Field(default=None, exclude=True, repr=False)

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        ranking = _frameworks.rank(self, query, [document.page_content for document in documents], self.top_k)
        return [_scored(documents[i], score) for i, score in ranking]

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        ranking = await _frameworks.arank(self, query, [document.page_content for document in documents], self.top_k)
        return [_scored(documents[i], score) for i, score in ranking]


class SIEEmbeddings(Embeddings):
    """Computes dense vectors of queries and documents. Arguments are as for `SIEReranker`."""

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        instruction: str | None = None,
        options: dict[str, Any] | None = None,
        timeout_s: float | None = None,
        client: SIEClient | None = None,
        async_client: SIEAsyncClient | None = None,
    ) -> None:
        self.model = model
        self.base_url = base_url
        self.instruction = instruction
        self.options = options
        self.timeout_s = timeout_s
        self.client = client
        self.async_client = async_client

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return _frameworks.embed(self, texts, is_query=False)

    def embed_query(self, text: str) -> list[float]:
        return _frameworks.embed(self, [text], is_query=True)[0]

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        return await _frameworks.aembed(self, texts, is_query=False)

    async def aembed_query(self, text: str) -> list[float]:
        return (await _frameworks.aembed(self, [text], is_query=True))[0]


def _scored(document: Document, score: float) -> Document:
    return document.model_copy(update={"metadata": {**document.metadata, "relevance_score": score}})
