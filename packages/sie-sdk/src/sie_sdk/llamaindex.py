"""Reranking and embeddings for LlamaIndex: `pip install './packages/sie-sdk[llamaindex]'` in a checkout."""

from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding, Embedding
from llama_index.core.bridge.pydantic import ConfigDict, Field
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle

from sie_sdk import _frameworks
from sie_sdk.client import SIEAsyncClient, SIEClient

__all__ = ["SIEEmbedding", "SIENodePostprocessor"]


class SIENodePostprocessor(BaseNodePostprocessor):
    """Reranks nodes by their relevance to the query; returns all of them, or the `top_n` best, with their scores.

    The text of a node includes the metadata that is embedded with it. `base_url` is by default the environment variable
    SIE_BASE_URL. Clients passed as `client` and `async_client` are used as they are and stay open; without an
    `async_client`, each asynchronous call opens its own connection. Raises ValueError without a query.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    model: str
    base_url: str | None = None
    top_n: int | None = None
    instruction: str | None = None
    options: dict[str, Any] | None = None
    timeout_s: float | None = None
    client: SIEClient | None = Field(default=None, exclude=True, repr=False)
    async_client: SIEAsyncClient | None = Field(default=None, exclude=True, repr=False)

    @classmethod
    def class_name(cls) -> str:
        return "SIENodePostprocessor"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        ranking = _frameworks.rank(self, _query(query_bundle), _contents(nodes), self.top_n)
        return [NodeWithScore(node=nodes[i].node, score=score) for i, score in ranking]

    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        ranking = await _frameworks.arank(self, _query(query_bundle), _contents(nodes), self.top_n)
        return [NodeWithScore(node=nodes[i].node, score=score) for i, score in ranking]


class SIEEmbedding(BaseEmbedding):
    """Computes dense vectors of queries and texts. Arguments are as for `SIENodePostprocessor`.

    The default batch is large because the client splits it into requests and sends four of them at a time.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", protected_namespaces=())

    embed_batch_size: int = Field(default=1024, gt=0, le=2048)
    base_url: str | None = None
    instruction: str | None = None
    options: dict[str, Any] | None = None
    timeout_s: float | None = None
    client: SIEClient | None = Field(default=None, exclude=True, repr=False)
    async_client: SIEAsyncClient | None = Field(default=None, exclude=True, repr=False)

    @classmethod
    def class_name(cls) -> str:
        return "SIEEmbedding"

    @property
    def model(self) -> str:
        return self.model_name

    def _get_query_embedding(self, query: str) -> Embedding:
        return _frameworks.embed(self, [query], is_query=True)[0]

    async def _aget_query_embedding(self, query: str) -> Embedding:
        return (await _frameworks.aembed(self, [query], is_query=True))[0]

    def _get_text_embedding(self, text: str) -> Embedding:
        return _frameworks.embed(self, [text], is_query=False)[0]

    async def _aget_text_embedding(self, text: str) -> Embedding:
        return (await _frameworks.aembed(self, [text], is_query=False))[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[Embedding]:
        return _frameworks.embed(self, texts, is_query=False)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[Embedding]:
        return await _frameworks.aembed(self, texts, is_query=False)


def _query(query_bundle: QueryBundle | None) -> str:
    if query_bundle is None:
        raise ValueError("no query given: pass query_bundle or query_str")
    return query_bundle.query_str


def _contents(nodes: list[NodeWithScore]) -> list[str]:
    return [node.node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes]
