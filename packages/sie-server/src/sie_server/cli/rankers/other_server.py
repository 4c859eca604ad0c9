"""A ranker that asks a server of another make, in the wire format of its API."""

import asyncio
import math
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import httpx2
import msgspec

from sie_sdk.retry import FailureKind, Reason, RetryOptions, after_failure, after_response
from sie_server.cli.rankers.dialects import Dialect
from sie_server.cli.rankers.public_url import public_url
from sie_server.cli.rankers.ranker import NO_DOCUMENTS, Ranked, RankerError, UnavailableError

_TIMEOUT = httpx2.Timeout(150.0, connect=10.0)
# Hosted APIs limit the rate, and answer 429 beyond it.
_CONCURRENT = 4
# Seconds of all waits for a server that is busy, and for one that can't be reached.
_BUSY_S, _UNREACHED_S = 300.0, 5.0
_RETRIES = RetryOptions()
_REFUSED = (401, 403)
_MOST_CHARACTERS = 500


class OtherRanker:
    """Scores with the server at `url`, the whole URL of its route. fields: of every body."""

    def __init__(self, client: httpx2.AsyncClient, url: str, name: str, dialect: Dialect, fields: Mapping[str, Any]):
        self.name = name
        self._client = client
        self._url = url
        self._dialect = dialect
        self._fields = fields
        self._slots = asyncio.Semaphore(_CONCURRENT)

    async def rank(self, query: str, documents: Sequence[str]) -> Ranked:
        if not documents:
            return NO_DOCUMENTS
        most, started = self._dialect.most, time.perf_counter()
        parts = [documents[first : first + most] for first in range(0, len(documents), most)]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._outcome(query, part)) for part in parts]
        outcomes = [task.result() for task in tasks]
        for outcome in outcomes:
            if isinstance(outcome, RankerError):
                raise outcome
        answers = [outcome for outcome in outcomes if not isinstance(outcome, RankerError)]
        scores = [score for found, _ in answers for score in found]
        counts = [count for _, count in answers if count is not None]
        tokens = sum(counts) if len(counts) == len(answers) else None
        return Ranked(scores, time.perf_counter() - started, tokens, None)

    async def _outcome(self, query: str, documents: Sequence[str]) -> tuple[list[float], int | None] | RankerError:
        """Scores and tokens of a request, or its error: a group of tasks would wrap it."""
        try:
            async with self._slots:
                answer = await self._answer(
                    msgspec.json.encode({**self._fields, **self._dialect.body(query, documents)})
                )
            return self._scores(answer, len(documents)), self._tokens(answer)
        except RankerError as error:
            return error

    async def _answer(self, body: bytes) -> Any:
        """The decoded answer to a request, which is sent again as long as the server asks for that."""
        retries: Counter[Reason] = Counter()
        started = time.monotonic()
        while True:
            try:
                response = await self._client.post(self._url, content=body)
            except httpx2.TransportError as error:
                kind: FailureKind = "timeout" if isinstance(error, httpx2.ReadTimeout) else "connect"
                retry = after_failure(kind, retries, _RETRIES, draw=random.random())
                failure: RankerError = UnavailableError(f"{self.name}: {str(error) or type(error).__name__}")
                limit_s = _UNREACHED_S
            else:
                if response.status_code == 200:
                    return self._decoded(response)
                headers, now_s = response.headers, time.time()
                retry = after_response(
                    response.status_code, None, headers, retries, _RETRIES, draw=random.random(), now_s=now_s
                )
                failure, limit_s = self._refusal(response), _BUSY_S
            if retry is None or time.monotonic() - started + retry.delay_s > limit_s:
                raise failure
            retries[retry.reason] += 1
            await asyncio.sleep(retry.delay_s)

    def _decoded(self, response: httpx2.Response) -> Any:
        try:
            return msgspec.json.decode(response.content)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RankerError(f"{self.name} answered with something other than JSON: {error}") from None

    def _refusal(self, response: httpx2.Response) -> RankerError:
        status, said = response.status_code, _message(response)
        sentence = f"{self.name} answered {status}" + (f": {said}" if said else "")
        if status in _REFUSED:
            wanted = " or ".join(self._dialect.keys)
            sentence += f". The key comes from {wanted or 'nowhere'}, or from --api-key"
        # What the client can mend in this request, or the server's own fault in it.
        return (RankerError if status in (400, 413, 422, 424, 500) else UnavailableError)(sentence)

    def _scores(self, answer: Any, count: int) -> list[float]:
        """The scores in an answer, in the order of the documents."""
        field, name = self._dialect.results, self._dialect.score
        results = answer if not field else answer.get(field) if isinstance(answer, dict) else None
        if not isinstance(results, list):
            raise RankerError(f"{self.name} answered without {f'the field {field!r}' if field else 'a list'}")
        try:
            pairs = [(each["index"], each[name]) for each in results] if name else list(enumerate(results))
            scores = {int(index): float(score) for index, score in pairs}
        except (KeyError, TypeError, ValueError):
            raise RankerError(f"{self.name} answered with a result that lacks 'index' or {name!r}") from None
        if len(results) != count or scores.keys() != set(range(count)):
            raise RankerError(f"{self.name} gave {len(scores)} scores for {count} documents")
        if not all(map(math.isfinite, scores.values())):
            raise RankerError(f"{self.name} gave a score that is not a finite number")
        return [scores[index] for index in range(count)]

    def _tokens(self, answer: Any) -> int | None:
        found = answer
        for field in self._dialect.tokens:
            found = found.get(field) if isinstance(found, dict) else None
        return found if isinstance(found, int) else None


@asynccontextmanager
async def other_ranker(
    dialect_name: str, dialect: Dialect, url: str, model: str | None, instruction: str | None, api_key: str | None
) -> AsyncIterator[OtherRanker]:
    """A ranker with the server at the base URL `url`.

    Raises:
        ValueError: `url` is no URL, or the API needs a model, or has no instruction.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"{url!r} is not the URL of a server, such as https://api.example.com")
    if model is None and dialect.model:
        raise ValueError(f"the API {dialect_name} needs a model: choose one with --model, such as {dialect.model}")
    if instruction is not None and not dialect.instruction:
        raise ValueError(f"the API {dialect_name} takes no instruction")
    path = dialect.path.format(model=quote(model or "", safe="/:@"))
    fields = {"model": model} if model is not None and path == dialect.path else {}
    if instruction is not None:
        fields[dialect.instruction] = instruction
    key = api_key or next(filter(None, map(os.environ.get, dialect.keys)), None)
    headers = {"Content-Type": "application/json", "Accept": "application/json", **dialect.headers}
    if key is not None:
        if not (key.isascii() and key.isprintable()):
            raise ValueError("the API key must be printable ASCII")
        headers[dialect.header] = key if dialect.header != "Authorization" else f"Bearer {key}"
    address = urlunsplit(parts._replace(path=joined(parts.path, path)))
    name = f"{dialect_name}{f':{model}' if model else ''} at {public_url(url)}"
    async with httpx2.AsyncClient(timeout=_TIMEOUT, headers=headers) as client:
        yield OtherRanker(client, address, name, dialect, fields)


def joined(base: str, path: str) -> str:
    """The path of a route below a base path, which may end with a first part of it, such as `/v1`, or with all of it.

    >>> joined("/v1", "/v1/rerank"), joined("/prefix/", "/v1/rerank"), joined("/v1/rerank", "/v1/rerank")
    ('/v1/rerank', '/prefix/v1/rerank', '/v1/rerank')
    """
    above, below = base.strip("/").split("/"), path.strip("/").split("/")
    shared = next((count for count in range(len(below), 0, -1) if above[-count:] == below[:count]), 0)
    return "/" + "/".join([*filter(None, above), *below[shared:]])


def _message(response: httpx2.Response) -> str:
    """The text of an error, where the APIs have it."""
    try:
        body = msgspec.json.decode(response.content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return response.text.strip()[:_MOST_CHARACTERS]
    found = body if isinstance(body, dict) else {}
    for field in ("error", "detail", "message"):
        value = found.get(field)
        value = value.get("message") if isinstance(value, dict) else value
        if isinstance(value, str) and value:
            return value[:_MOST_CHARACTERS]
    return response.text.strip()[:_MOST_CHARACTERS]
