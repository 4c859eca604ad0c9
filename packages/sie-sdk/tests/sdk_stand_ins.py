"""Stand-ins for a server (in process, or on a real socket) and for time."""

import asyncio
import inspect
from dataclasses import dataclass, field

import httpx2
import msgpack
import msgpack_numpy
import numpy as np

from sie_sdk._core.exchange import Clock

really_sleep = asyncio.sleep
BASE_URL = "http://sie.test:8080"
SCORED = {
    "model": "m",
    "query_id": None,
    "scores": [{"item_id": "item-1", "score": 0.75, "rank": 0}, {"item_id": "item-0", "score": 0.1, "rank": 1}],
}


def packed(body, **headers):
    """Returns a 200 as the server encodes it, by an independent implementation of the format."""
    content = msgpack.packb(body, default=msgpack_numpy.encode)
    return httpx2.Response(200, content=content, headers={"content-type": "application/msgpack", **headers})


def refused(status, code=None, message="no", headers=None, **extras):
    detail = {"message": message, **extras} | ({"code": code} if code else {})
    return httpx2.Response(status, json={"detail": detail}, headers=headers)


@dataclass
class FakeTime:
    """A clock that only sleeps advance."""

    now: float = 1000.0
    pauses: list[float] = field(default_factory=list)
    draw: float = 0.0

    def clock(self):
        return Clock(monotonic=lambda: self.now, wall=lambda: self.now, draw=lambda: self.draw)

    def sleep(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds

    async def sleep_async(self, seconds):
        self.sleep(seconds)
        await really_sleep(0)  # others on the event loop get their turn, and may be cancelled


class Server:
    """Answers each request with the next of `answers`: a response, or an exception to raise; the last one repeats."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.requests: list[httpx2.Request] = []

    def __call__(self, request):
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return httpx2.Response(answer.status_code, content=answer.content, headers=answer.headers)

    @property
    def sent(self):
        """The body of the last request, decoded by an independent implementation of the format."""
        return msgpack.unpackb(self.requests[-1].content, object_hook=msgpack_numpy.decode)


class Engine:
    """Answers score, encode and extract like a server, each request by itself.

    A text is a number: its score, and the only component of its embedding. `refuse` may answer first.
    """

    def __init__(self, refuse=lambda _: None):
        self.bodies = []
        self.refuse = refuse

    def __call__(self, request):
        body = msgpack.unpackb(request.content)
        self.bodies.append(body)
        return self.refuse(body) or getattr(self, request.url.path.split("/")[2])(body)

    @property
    def sizes(self):
        return sorted((len(body["items"]) for body in self.bodies), reverse=True)

    def score(self, body):
        scores = [float(item["text"]) for item in body["items"]]
        order = sorted(range(len(scores)), key=lambda i: -scores[i])[: body.get("options", {}).get("top_k")]
        entries = [{"item_id": name(body, i), "score": scores[i], "rank": rank} for rank, i in enumerate(order)]
        usage = {"input_tokens": 2 * len(scores), "input_tokens_details": {"content_tokens": len(scores)}}
        return packed({"model": "m", "query_id": body["query"].get("id"), "scores": entries, "usage": usage})

    def encode(self, body):
        values = [np.array([item["text"]], "<f4") for item in body["items"]]
        return packed({"model": "m", "items": [{"dense": {"dims": 1, "values": value}} for value in values]})

    def extract(self, body):
        return packed({"model": "m", "items": [{"id": name(body, i)} for i in range(len(body["items"]))]})


def name(body, i):
    given = body["items"][i].get("id")
    return f"item-{i}" if given is None else given


class Driven:
    """One of the two clients, called from blocking code."""

    def __init__(self, client):
        self.client = client

    def encode_stream(self, *args, **kwargs):
        stream = self.client.encode_stream(*args, **kwargs)
        return _blocking(stream) if inspect.isasyncgen(stream) else stream

    def __getattr__(self, name):
        member = getattr(self.client, name)
        if not inspect.iscoroutinefunction(member):
            return member
        return lambda *args, **kwargs: asyncio.run(member(*args, **kwargs))


def _blocking(stream):
    with asyncio.Runner() as runner:

        async def pull():
            return await anext(stream, None)

        try:
            while (result := runner.run(pull())) is not None:
                yield result
        finally:
            runner.run(stream.aclose())
