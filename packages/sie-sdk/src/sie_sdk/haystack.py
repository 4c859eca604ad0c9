"""Reranking and embeddings for Haystack: `pip install './packages/sie-sdk[haystack]'` in a checkout.

A saved pipeline contains the arguments of its components, but no API key, which the environment variable SIE_API_KEY
provides. To load one, pass `allowed_modules=["sie_sdk.haystack"]`.
"""

from dataclasses import replace
from typing import Any, ClassVar, Self

from haystack import Document, component, default_from_dict, default_to_dict

from sie_sdk import _frameworks
from sie_sdk.client import SIEAsyncClient, SIEClient

__all__ = ["SIEDocumentEmbedder", "SIERanker", "SIETextEmbedder"]


class _Component:
    """A model of a server. `base_url` is by default the environment variable SIE_BASE_URL."""

    _arguments: ClassVar[tuple[str, ...]] = ("model", "base_url", "instruction", "options", "timeout_s")

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        instruction: str | None = None,
        options: dict[str, Any] | None = None,
        timeout_s: float | None = None,
    ) -> None:
        self.model = model
        self.base_url = base_url
        self.instruction = instruction
        self.options = options
        self.timeout_s = timeout_s
        self.client: SIEClient | None = None
        self.async_client: SIEAsyncClient | None = None  # each asynchronous run has a client of its own

    def to_dict(self) -> dict[str, Any]:
        return default_to_dict(self, **{name: getattr(self, name) for name in self._arguments})

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        return default_from_dict(cls, data)

    def close(self) -> None:
        """Closes the connections; `Pipeline.close` calls it for each of its components."""
        if self.client is not None:
            self.client.close()
            self.client = None


@component
class SIERanker(_Component):
    """Reranks documents by their relevance to the query; returns all of them, or the `top_k` best."""

    _arguments: ClassVar[tuple[str, ...]] = (*_Component._arguments, "top_k")

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        top_k: int | None = None,
        instruction: str | None = None,
        options: dict[str, Any] | None = None,
        timeout_s: float | None = None,
    ) -> None:
        # Not super(): Haystack replaces the class, and super() would refer to the old one.
        _Component.__init__(
            self,
            model,
            base_url=base_url,
            instruction=instruction,
            options=options,
            timeout_s=timeout_s,
        )
        self.top_k = top_k

    @component.output_types(documents=list[Document])
    def run(self, query: str, documents: list[Document], top_k: int | None = None) -> dict[str, list[Document]]:
        """Returns copies of the documents with their scores, best first; `top_k` overrides the component's."""
        ranking = _frameworks.rank(self, query, _contents(documents), self.top_k if top_k is None else top_k)
        return {"documents": [replace(documents[i], score=score) for i, score in ranking]}

    @component.output_types(documents=list[Document])
    async def run_async(
        self, query: str, documents: list[Document], top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """The asyncio version of `run`."""
        ranking = await _frameworks.arank(self, query, _contents(documents), self.top_k if top_k is None else top_k)
        return {"documents": [replace(documents[i], score=score) for i, score in ranking]}


@component
class SIETextEmbedder(_Component):
    """Computes the dense vector of a query."""

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, list[float]]:
        return {"embedding": _frameworks.embed(self, [text], is_query=True)[0]}

    @component.output_types(embedding=list[float])
    async def run_async(self, text: str) -> dict[str, list[float]]:
        return {"embedding": (await _frameworks.aembed(self, [text], is_query=True))[0]}


@component
class SIEDocumentEmbedder(_Component):
    """Computes dense vectors of documents and returns copies with them."""

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, list[Document]]:
        return _embedded(documents, _frameworks.embed(self, _contents(documents), is_query=False))

    @component.output_types(documents=list[Document])
    async def run_async(self, documents: list[Document]) -> dict[str, list[Document]]:
        return _embedded(documents, await _frameworks.aembed(self, _contents(documents), is_query=False))


def _contents(documents: list[Document]) -> list[str]:
    for i, document in enumerate(documents):
        if document.content is None:
            raise ValueError(f"documents[{i}] has no text")
    return [document.content or "" for document in documents]


def _embedded(documents: list[Document], vectors: list[list[float]]) -> dict[str, list[Document]]:
    pairs = zip(documents, vectors, strict=True)
    return {"documents": [replace(document, embedding=vector) for document, vector in pairs]}
