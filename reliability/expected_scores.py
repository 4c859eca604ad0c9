"""Expected scores of pairs, and checks of answers against them."""

import http.client
import math
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

import msgspec
from workload import Request, Workload


class _Entry(msgspec.Struct):
    item_id: str
    score: float
    rank: int


class _Usage(msgspec.Struct):
    input_tokens: int


class Answer(msgspec.Struct):
    """The checked fields of a score response."""

    model: str
    query_id: str | None
    scores: list[_Entry]
    usage: _Usage


class ExpectedScores:
    """Scores of pairs, from requests with one document, sent one at a time to an idle server.

    scores: scores known beforehand, by model, query and document.
    """

    def __init__(self, scores: Mapping[tuple[str, str, str], float] = {}) -> None:
        self._scores = dict(scores)

    def __len__(self) -> int:
        return len(self._scores)

    def learn(self, url: str, workloads: Iterable[Workload]) -> None:
        """Score every pair of these workloads alone.

        Raises:
            RuntimeError: the server answered with an error.
        """
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=120)
        for workload in workloads:
            for request in workload.alone():
                [score] = scores(connection, request)
                self._scores[request.model, request.query, request.documents[0]] = score
        connection.close()

    def fault(self, request: Request, body: bytes) -> str | None:
        """Find the fault in an answer with status 200: request, items, scores (bit for bit) or ranks; None: correct."""
        try:
            answer = msgspec.json.decode(body, type=Answer)
        except msgspec.DecodeError as error:
            return f"not an answer: {error}"
        if (answer.model, answer.query_id) != (request.model, request.query[:20]):
            return f"an answer to another request: {answer.model}, {answer.query_id!r}"
        if sorted(entry.item_id for entry in answer.scores) != sorted(f"item-{i}" for i in range(len(request.numbers))):
            return "items are missing or duplicated"
        for entry in answer.scores:
            document = request.documents[int(entry.item_id.removeprefix("item-"))]
            alone = self._scores[request.model, request.query, document]
            if entry.score != alone:
                return f"{entry.item_id} has {entry.score!r}, alone {alone!r}"
        order = [entry.score for entry in sorted(answer.scores, key=lambda entry: entry.rank)]
        if order != sorted(order, reverse=True) or {entry.rank for entry in answer.scores} != set(range(len(order))):
            return "the ranks do not match the scores"
        return None


def tokens(body: bytes) -> int:
    """Input tokens of an answer with status 200."""
    return msgspec.json.decode(body, type=Answer).usage.input_tokens


def scores(connection: http.client.HTTPConnection, request: Request) -> list[float]:
    """Send a request; returns its scores, which are finite, in the order of the documents.

    Raises:
        RuntimeError: the server answered with an error.
    """
    connection.request("POST", request.path, request.body, {"Accept": "application/json"})
    response = connection.getresponse()
    read = response.read()
    if response.status != 200:
        raise RuntimeError(f"{request.model}, {len(request.numbers)} documents: {response.status} {read[:500]!r}")
    found = {entry.item_id: entry.score for entry in msgspec.json.decode(read, type=Answer).scores}
    in_order = [found[f"item-{number}"] for number in range(len(request.numbers))]
    assert all(map(math.isfinite, in_order))
    return in_order
