"""A ranker that asks a server of SIE, through its Python SDK."""

import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from sie_sdk import SIEAsyncClient
from sie_sdk.errors import RequestError, ServerError, SIEConnectionError, SIEError
from sie_sdk.types import Item
from sie_server.cli.rankers.ranker import NO_DOCUMENTS, Ranked, RankerError, UnavailableError
from sie_server.options import LongDocuments

# Enough to keep the batches of a server full; its fair queue gives other clients their share all the same.
_CONCURRENT = 16
_KEY = (401, 403)
# The model is unknown, or the server is busy in spite of all retries.
_NOT_NOW = (404, 429)


class ServerRanker:
    """Scores with one model of a server. arguments: of every call of the client's `score`."""

    def __init__(self, client: SIEAsyncClient, model: str, arguments: dict[str, Any]) -> None:
        self.name = f"{model} at {client.base_url}"
        self._client = client
        self._model = model
        self._arguments = arguments

    async def rank(self, query: str, documents: Sequence[str]) -> Ranked:
        if not documents:
            return NO_DOCUMENTS
        items = [Item(id=str(index), text=text) for index, text in enumerate(documents)]
        started = time.perf_counter()
        try:
            result = await self._client.score(self._model, Item(text=query), items, **self._arguments)
        except SIEError as error:
            raise ranker_error(error, self._client.base_url) from error
        seconds = time.perf_counter() - started
        entries = {entry["item_id"]: entry for entry in result["scores"]}
        if len(entries) != len(items):
            raise RankerError(f"{self._client.base_url} gave {len(entries)} scores for {len(items)} documents")
        ordered = [entries[str(index)] for index in range(len(items))]
        cut = sum(entry["truncated"] for entry in ordered) if "truncated" in ordered[0] else None
        tokens = result.get("usage", {}).get("input_tokens")
        return Ranked([entry["score"] for entry in ordered], seconds, tokens, cut)


@asynccontextmanager
async def server_ranker(
    url: str, model: str | None, instruction: str | None, long_documents: LongDocuments | None, api_key: str | None
) -> AsyncIterator[ServerRanker]:
    """A ranker with a model of the server at `url`; None: the only one that it has loaded.

    Raises:
        ValueError: `url` is no URL, or there are several models to choose from.
        UnavailableError: the server can't be reached, needs another key, or does not have the model.
    """
    async with SIEAsyncClient(url, api_key=api_key, max_concurrency=_CONCURRENT) as client:
        chosen = await server_model(client, model, "score")
        options: dict[str, Any] = {"return_tokens": True}
        if long_documents is not None:
            options["long_documents"] = long_documents
        yield ServerRanker(client, chosen, {"instruction": instruction, "options": options})


async def server_model(client: SIEAsyncClient, model: str | None, output: str) -> str:
    """The model, if the server has it with this output; for None, the only one that it has loaded.

    Raises:
        ValueError: there are several, or none.
        UnavailableError: the server can't be reached, needs another key, or does not have the model.
    """
    try:
        if model is not None:
            outputs = (await client.get_model(model))["outputs"]
            if outputs and output not in outputs:
                verb = "score" if output == "score" else f"have the output '{output}'"
                raise UnavailableError(f"{client.base_url}: '{model}' does not {verb}; it has {', '.join(outputs)}")
            return model
        loaded = [each["name"] for each in await client.list_models() if each["loaded"] and output in each["outputs"]]
    except SIEError as error:
        raise ranker_error(error, client.base_url) from error
    # A profile is listed beside its model, and can't be what an unnamed model means.
    if len(names := [name for name in loaded if name.rpartition(":")[0] not in loaded]) == 1:
        return names[0]
    listed = f"several models loaded: {', '.join(names)}" if names else "no model loaded"
    raise ValueError(f"{client.base_url} has {listed}; choose one with --model")


def ranker_error(error: SIEError, base_url: str) -> RankerError:
    """The error of a ranker for one of the SDK."""
    if error.status_code in _KEY:
        return UnavailableError(f"{base_url} requires a key ({error.status_code}): set SIE_API_KEY, or pass --api-key")
    if isinstance(error, SIEConnectionError):
        cause = getattr(error.__cause__, "os_error", None)
        if isinstance(cause, ConnectionRefusedError):
            return UnavailableError(f"no server at {base_url}")
        if isinstance(cause, socket.gaierror):
            return UnavailableError(f"no server at {base_url}: {cause.strerror}")
    refused = isinstance(error, RequestError) and error.status_code not in _NOT_NOW
    failed = isinstance(error, ServerError) and error.status_code == 500
    return (RankerError if refused or failed else UnavailableError)(f"{base_url}: {error}")
