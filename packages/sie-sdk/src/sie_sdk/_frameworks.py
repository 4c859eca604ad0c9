"""What the integrations with frameworks have in common: texts in, positions, scores and vectors as plain floats out."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

from sie_sdk.client import SIEAsyncClient, SIEClient
from sie_sdk.encoding import dense_embedding
from sie_sdk.types import EncodeResult, Item, ScoreResult


class Asking(Protocol):
    """Who asks: a component of a framework, with the model and the settings that it was given."""

    base_url: str | None
    instruction: str | None
    options: dict[str, Any] | None
    timeout_s: float | None
    client: SIEClient | None
    async_client: SIEAsyncClient | None

    @property
    def model(self) -> str: ...


def rank(asking: Asking, query: str, texts: Sequence[str], top_k: int | None) -> list[tuple[int, float]]:
    """Positions in `texts` with their scores, best first; `top_k` of them if it is given."""
    if not texts:
        return []
    client = _client(asking)
    return _ranking(client.score(asking.model, Item(text=query), _named(texts), **_scoring(asking, top_k)))


async def arank(asking: Asking, query: str, texts: Sequence[str], top_k: int | None) -> list[tuple[int, float]]:
    """`rank`, awaited."""
    if not texts:
        return []
    async with _async_client(asking) as client:
        return _ranking(await client.score(asking.model, Item(text=query), _named(texts), **_scoring(asking, top_k)))


def embed(asking: Asking, texts: Sequence[str], *, is_query: bool) -> list[list[float]]:
    """One vector per text."""
    if not texts:
        return []
    items = [Item(text=text) for text in texts]
    return _vectors(_client(asking).encode(asking.model, items, **_encoding(asking, is_query)))


async def aembed(asking: Asking, texts: Sequence[str], *, is_query: bool) -> list[list[float]]:
    """`embed`, awaited."""
    if not texts:
        return []
    items = [Item(text=text) for text in texts]
    async with _async_client(asking) as client:
        return _vectors(await client.encode(asking.model, items, **_encoding(asking, is_query)))


def _client(asking: Asking) -> SIEClient:
    if asking.client is None:
        asking.client = SIEClient(asking.base_url, timeout_s=asking.timeout_s)
    return asking.client


@asynccontextmanager
async def _async_client(asking: Asking) -> AsyncIterator[SIEAsyncClient]:
    # Frameworks do not say when they are done, and connections can only be closed on the loop that opened them.
    if asking.async_client is not None:
        yield asking.async_client
        return
    async with SIEAsyncClient(asking.base_url, timeout_s=asking.timeout_s) as client:
        yield client


def _scoring(asking: Asking, top_k: int | None) -> dict[str, Any]:
    options: Mapping[str, Any] = {**(asking.options or {}), **({} if top_k is None else {"top_k": top_k})}
    return {"instruction": asking.instruction, "options": options}


def _encoding(asking: Asking, is_query: bool) -> dict[str, Any]:
    return {
        "output_types": ["dense"],
        "is_query": is_query,
        "instruction": asking.instruction,
        "options": asking.options,
    }


def _named(texts: Sequence[str]) -> list[Item]:
    return [Item(id=str(i), text=text) for i, text in enumerate(texts)]


def _ranking(result: ScoreResult) -> list[tuple[int, float]]:
    return [(int(entry["item_id"]), entry["score"]) for entry in result["scores"]]


def _vectors(results: Sequence[EncodeResult]) -> list[list[float]]:
    return [dense_embedding(result).tolist() for result in results]
