"""Mixed traffic of many clients: scoring, embedding, status streams, malformed requests and disconnects."""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence

import aiohttp
import msgspec
from expected_scores import ExpectedScores
from outcome_counts import OutcomeCounts
from traffic import send, session
from workload import Workload

MALFORMED: Sequence[tuple[str, bytes, int]] = (
    ("/v1/score/{model}", b"", 400),
    ("/v1/score/{model}", b"{", 400),
    ("/v1/score/{model}", b'{"query": {"text": "x"}, "items": []}', 400),
    ("/v1/score/{model}", b'{"query": {"text": 1}, "items": [{"text": "x"}]}', 400),
    ("/v1/score/{model}", b'{"query": {"text": "x"}, "items": [' + b"[" * 50_000, 400),
    ("/v1/score/nobody/knows", b'{"query": {"text": "x"}, "items": [{"text": "x"}]}', 404),
    ("/v1/encode/{model}", b'{"items": [{"text": "x"}], "params": {"output_types": ["nothing"]}}', 400),
    ("/v1/embeddings", b'{"input": 1, "model": "{model}"}', 422),
    ("/v2/nothing", b"{}", 404),
)


class _Encoded(msgspec.Struct):
    items: list[msgspec.Raw]


class MixedTraffic:
    """Mixed traffic against one server.

    turn: seconds after which the traffic moves on to other models.
    large: documents of the largest requests.
    encoders: models of `workloads` to send to `/v1/encode`, with the outputs to ask for.

    counts has the score requests; `done` the number of operations by kind, and `wrong` the faults of all others.
    """

    def __init__(
        self,
        url: str,
        workloads: Sequence[Workload],
        expected: ExpectedScores,
        encoders: Mapping[str, Sequence[str]],
        turn: float,
        large: int,
    ) -> None:
        self._url = url
        self._workloads = workloads
        self._expected = expected
        self._encoders = encoders
        self._turn = turn
        self._large_documents = large
        self._vectors: dict[tuple[str, str], bytes] = {}
        self.counts = OutcomeCounts()
        self.done: Counter[str] = Counter()
        self.wrong: list[str] = []

    async def learn(self) -> None:
        """Encode every text alone, for later comparison."""
        async with session() as client:
            for workload in self._workloads:
                for text in workload.documents if workload.model in self._encoders else ():
                    status, [vector] = await self._encode(client, workload.model, [text])
                    assert status == 200
                    self._vectors[workload.model, text] = vector

    async def run(self, seconds: float, seed: int = 0) -> None:
        """Generate traffic for `seconds`."""
        until = time.monotonic() + seconds
        kinds: dict[str, tuple[int, Callable[[aiohttp.ClientSession, random.Random], Awaitable[None]]]] = {
            "score": (4, self._score),
            "large": (1, self._large),
            "encode": (2, self._encode_texts),
            "embeddings": (1, self._embeddings),
            "malformed": (1, self._malformed),
            "disconnect": (2, self._disconnect),
            "watch": (1, self._watch),
            "monitor": (1, self._monitor),
        }

        async def loop(name: str, number: int, once: Callable[..., Awaitable[None]]) -> None:
            rng = random.Random(f"{seed}{name}{number}")
            while time.monotonic() < until:
                # Reconnect from time to time, as most clients do.
                async with session() as client:
                    for _ in range(rng.randint(1, 20)):
                        if time.monotonic() < until:
                            await once(client, rng)
                            self.done[name] += 1

        async with asyncio.TaskGroup() as group:
            for name, (clients, once) in kinds.items():
                for number in range(clients):
                    group.create_task(loop(name, number, once))

    def _current(self, workloads: Sequence[Workload]) -> Workload:
        """Choose one of two neighbouring models; the pair moves on by one every turn."""
        turn = int(time.monotonic() / self._turn)
        return workloads[(turn + random.getrandbits(1)) % len(workloads)]

    async def _score(self, client: aiohttp.ClientSession, rng: random.Random) -> None:
        request = self._current(self._workloads).draw(rng)
        outcome = await send(client, self._url, request, f"s{rng.getrandbits(60)}", time.monotonic())
        self.counts.count([outcome], self._expected)
        await asyncio.sleep(min(outcome.retry_after or 0.0, 1.0))

    async def _large(self, client: aiohttp.ClientSession, rng: random.Random) -> None:
        workload = self._current(self._workloads)
        numbers = rng.choices(range(len(workload.documents)), k=self._large_documents)
        request = workload.request(rng.choice(workload.queries), numbers)
        outcome = await send(client, self._url, request, f"l{rng.getrandbits(60)}", time.monotonic())
        self.counts.count([outcome], self._expected)
        await asyncio.sleep(2)

    async def _encode_texts(self, client: aiohttp.ClientSession, rng: random.Random) -> None:
        workload = self._current([workload for workload in self._workloads if workload.model in self._encoders])
        texts = rng.choices(workload.documents, k=rng.choice((1, 5, 20)))
        status, vectors = await self._encode(client, workload.model, texts)
        if status == 200 and vectors != [self._vectors[workload.model, text] for text in texts]:
            self.wrong.append(f"vectors of {workload.model} differ from those alone")
        elif status not in (200, 503):
            self.wrong.append(f"encode: {status}")

    async def _encode(self, client: aiohttp.ClientSession, model: str, texts: Sequence[str]) -> tuple[int, list[bytes]]:
        body = {"items": [{"text": text} for text in texts], "params": {"output_types": self._encoders[model]}}
        path, headers = f"{self._url}/v1/encode/{model}", {"Accept": "application/json"}
        async with client.post(path, json=body, headers=headers) as answer:
            read = await answer.read()
        items = msgspec.json.decode(read, type=_Encoded).items if answer.status == 200 else []
        return answer.status, [bytes(item) for item in items]

    async def _embeddings(self, client: aiohttp.ClientSession, rng: random.Random) -> None:
        workload = self._current([workload for workload in self._workloads if workload.model in self._encoders])
        body = {"model": workload.model, "input": rng.choices(workload.documents, k=5), "encoding_format": "base64"}
        async with client.post(f"{self._url}/v1/embeddings", json=body) as answer:
            if answer.status not in (200, 503):
                self.wrong.append(f"embeddings: {answer.status} {await answer.text()}")
            await answer.read()

    async def _malformed(self, client: aiohttp.ClientSession, rng: random.Random) -> None:
        path, body, status = rng.choice(MALFORMED)
        model = self._workloads[0].model
        sent = body.replace(b"{model}", model.encode())
        async with client.post(self._url + path.replace("{model}", model), data=sent) as answer:
            await answer.read()
            if answer.status != status:
                self.wrong.append(f"{path} {body[:60]!r}: {answer.status}, not {status}")
        await asyncio.sleep(0.05)

    async def _disconnect(self, client: aiohttp.ClientSession, rng: random.Random) -> None:
        """Send a large request and disconnect before the answer or in the middle of it."""
        workload = self._current(self._workloads)
        numbers = rng.choices(range(len(workload.documents)), k=100)
        request = workload.request(rng.choice(workload.queries), numbers)
        timeout = aiohttp.ClientTimeout(total=rng.uniform(0.001, 0.3))
        try:
            async with client.post(self._url + request.path, data=request.body, timeout=timeout) as answer:
                await answer.content.read(10)
                answer.close()
        except (TimeoutError, aiohttp.ClientError):
            pass
        await asyncio.sleep(0.1)

    async def _watch(self, client: aiohttp.ClientSession, rng: random.Random) -> None:
        async with client.ws_connect(f"{self._url}/ws/status") as socket:
            for _ in range(3):
                json.loads((await socket.receive(timeout=60)).data)
        await asyncio.sleep(0.5)

    async def _monitor(self, client: aiohttp.ClientSession, rng: random.Random) -> None:
        for path in ("/v1/models", "/metrics", "/healthz", "/readyz", "/livez"):
            async with client.get(self._url + path) as answer:
                await answer.read()
                if answer.status != 200:
                    self.wrong.append(f"{path}: {answer.status}")
        await asyncio.sleep(1)
