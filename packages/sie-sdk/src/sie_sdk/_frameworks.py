"""The common part of the framework integrations: texts in; positions, scores and vectors as plain floats out."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

from sie_sdk.client import SIEAsyncClient, SIEClient
from sie_sdk.encoding import dense_embedding
from sie_sdk.types import EncodeResult, Item, ScoreResult


class Component(Protocol):
    """A component of a framework, with its model and settings."""

    base_url: str | None
    instruction: str | None
    options: dict[str, Any] | None
    timeout_s: float | None
    client: SIEClient | None
    async_client: SIEAsyncClient | None

    @property
    def model(self) -> str: ...


def rank(component: Component, query: str, texts: Sequence[str], top_k: int | None) -> list[tuple[int, float]]:
    """Ranks texts; returns positions in `texts` with their scores, best first, at most `top_k` if given."""
    if not texts:
        return []
    client = _client(component)
    return _ranking(client.score(component.model, Item(text=query), _named(texts), **_scoring(component, top_k)))


async def arank(component: Component, query: str, texts: Sequence[str], top_k: int | None) -> list[tuple[int, float]]:
    """The asyncio version of `rank`."""
    if not texts:
        return []
    async with _async_client(component) as client:
        return _ranking(
            await client.score(component.model, Item(text=query), _named(texts), **_scoring(component, top_k))
        )


def embed(component: Component, texts: Sequence[str], *, is_query: bool) -> list[list[float]]:
    """Computes one vector per text."""
    if not texts:
        return []
    items = [Item(text=text) for text in texts]
    return _vectors(_client(component).encode(component.model, items, **_encoding(component, is_query)))


async def aembed(component: Component, texts: Sequence[str], *, is_query: bool) -> list[list[float]]:
    """The asyncio version of `embed`."""
    if not texts:
        return []
    items = [Item(text=text) for text in texts]
    async with _async_client(component) as client:
        return _vectors(await client.encode(component.model, items, **_encoding(component, is_query)))


def _client(component: Component) -> SIEClient:
    if component.client is None:
        component.client = SIEClient(component.base_url, timeout_s=component.timeout_s)
    return component.client


@asynccontextmanager
async def _async_client(component: Component) -> AsyncIterator[SIEAsyncClient]:
    # Frameworks do not say when they are done, and only the loop that opened a connection can close it.
    if component.async_client is not None:
        yield component.async_client
        return
    async with SIEAsyncClient(component.base_url, timeout_s=component.timeout_s) as client:
        yield client


def _scoring(component: Component, top_k: int | None) -> dict[str, Any]:
    return {"instruction": component.instruction, "options": component.options, "top_k": top_k}


def _encoding(component: Component, is_query: bool) -> dict[str, Any]:
    return {
        "output_types": ["dense"],
        "is_query": is_query,
        "instruction": component.instruction,
        "options": component.options,
    }


def _named(texts: Sequence[str]) -> list[Item]:
    return [Item(id=str(i), text=text) for i, text in enumerate(texts)]


def _ranking(result: ScoreResult) -> list[tuple[int, float]]:
    return [(int(entry["item_id"]), entry["score"]) for entry in result["scores"]]


def _vectors(results: Sequence[EncodeResult]) -> list[list[float]]:
    return [dense_embedding(result).tolist() for result in results]
