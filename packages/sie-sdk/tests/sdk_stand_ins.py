"""Stand-ins for what is outside the SDK: a server (in process, or on a real socket) and time."""

import asyncio
import inspect
from dataclasses import dataclass, field

import httpx2
import msgpack
import msgpack_numpy

from sie_sdk._exchange import Clock

BASE_URL = "http://sie.test:8080"
SCORED = {
    "model": "m",
    "query_id": None,
    "scores": [{"item_id": "item-1", "score": 0.75, "rank": 0}, {"item_id": "item-0", "score": 0.1, "rank": 1}],
}


def packed(body, **headers):
    """A 200 as the server packs it, by an implementation of the format that is not ours."""
    content = msgpack.packb(body, default=msgpack_numpy.encode)
    return httpx2.Response(200, content=content, headers={"content-type": "application/msgpack", **headers})


def refused(status, code=None, message="no", headers=None, **extras):
    detail = {"message": message, **extras} | ({"code": code} if code else {})
    return httpx2.Response(status, json={"detail": detail}, headers=headers)


@dataclass
class FakeTime:
    """A clock that only pauses move."""

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
        """The body of the last request, read by an implementation of the format that is not ours."""
        return msgpack.unpackb(self.requests[-1].content, object_hook=msgpack_numpy.decode)


class Driven:
    """One of the two clients, driven from blocking code."""

    def __init__(self, client):
        self.client = client

    def __getattr__(self, name):
        member = getattr(self.client, name)
        if not inspect.iscoroutinefunction(member):
            return member
        return lambda *args, **kwargs: asyncio.run(member(*args, **kwargs))
