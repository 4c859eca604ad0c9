"""Everything that clients do to a server, all at once: rank, embed, watch, send nonsense, and go in the middle."""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence

import aiohttp
import msgspec
from mixture import Mixture
from tally import Tally
from traffic import send, session
from truth import Truth

NONSENSE: Sequence[tuple[str, bytes, int]] = (
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


class Bustle:
    """All of it against one server for a while. What models are asked for changes every `turn` seconds.

    large: documents of the largest requests. encoders: of the models in `mixtures`, those that `/v1/encode` takes, with
    the outputs to ask for. vectors: the answer for each of their texts alone, which `learn` has asked for.
    """

    def __init__(
        self,
        url: str,
        mixtures: Sequence[Mixture],
        truth: Truth,
        encoders: Mapping[str, Sequence[str]],
        turn: float,
        large: int,
    ) -> None:
        self._url = url
        self._mixtures = mixtures
        self._truth = truth
        self._encoders = encoders
        self._turn = turn
        self._large_documents = large
        self._vectors: dict[tuple[str, str], bytes] = {}
        self.tally = Tally()
        self.done: Counter[str] = Counter()
        self.wrong: list[str] = []

    async def learn(self) -> None:
        """The vectors of every text, each alone."""
        async with session() as client:
            for mixture in self._mixtures:
                for text in mixture.documents if mixture.model in self._encoders else ():
                    status, [vector] = await self._encode(client, mixture.model, [text])
                    assert status == 200
                    self._vectors[mixture.model, text] = vector

    async def run(self, seconds: float, seed: int = 0) -> None:
        """All of it for so long. The tally has the score requests, `done` and `wrong` the rest."""
        until = time.monotonic() + seconds
        kinds: dict[str, tuple[int, Callable[[aiohttp.ClientSession, random.Random], Awaitable[None]]]] = {
            "score": (4, self._score),
            "large": (1, self._large),
            "encode": (2, self._encodes),
            "embeddings": (1, self._embeddings),
            "nonsense": (1, self._nonsense),
            "gone": (2, self._gone),
            "watch": (1, self._watch),
            "look": (1, self._look),
        }

        async def loop(name: str, number: int, once: Callable[..., Awaitable[None]]) -> None:
            rng = random.Random(f"{seed}{name}{number}")
            while time.monotonic() < until:
                # Now and then on a connection of its own, as most clients do.
                async with session() as client:
                    for _ in range(rng.randint(1, 20)):
                        if time.monotonic() < until:
                            await once(client, rng)
                            self.done[name] += 1

        async with asyncio.TaskGroup() as group:
            for name, (many, once) in kinds.items():
                for number in range(many):
                    group.create_task(loop(name, number, once))

    def _now(self, among: Sequence[Mixture]) -> Mixture:
        """The model of this turn: two neighbours are asked for by turns, so that each stays for two."""
        turn = int(time.monotonic() / self._turn)
        return among[(turn + random.getrandbits(1)) % len(among)]

    async def _score(self, client: aiohttp.ClientSession, rng: random.Random) -> None:
        request = self._now(self._mixtures).draw(rng)
        outcome = await send(client, self._url, request, f"s{rng.getrandbits(60)}", time.monotonic())
        self.tally.count([outcome], self._truth)
        await asyncio.sleep(min(outcome.retry_after or 0.0, 1.0))

    async def _large(self, client: aiohttp.ClientSession, rng: random.Random) -> None:
        mixture = self._now(self._mixtures)
        numbers = rng.choices(range(len(mixture.documents)), k=self._large_documents)
        request = mixture.request(rng.choice(mixture.queries), numbers)
        outcome = await send(client, self._url, request, f"l{rng.getrandbits(60)}", time.monotonic())
        self.tally.count([outcome], self._truth)
        await asyncio.sleep(2)

    async def _encodes(self, client: aiohttp.ClientSession, rng: random.Random) -> None:
        mixture = self._now([one for one in self._mixtures if one.model in self._encoders])
        texts = rng.choices(mixture.documents, k=rng.choice((1, 5, 20)))
        status, vectors = await self._encode(client, mixture.model, texts)
        if status == 200 and vectors != [self._vectors[mixture.model, text] for text in texts]:
            self.wrong.append(f"vectors of {mixture.model} differ from those alone")
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
        mixture = self._now([one for one in self._mixtures if one.model in self._encoders])
        body = {"model": mixture.model, "input": rng.choices(mixture.documents, k=5), "encoding_format": "base64"}
        async with client.post(f"{self._url}/v1/embeddings", json=body) as answer:
            if answer.status not in (200, 503):
                self.wrong.append(f"embeddings: {answer.status} {await answer.text()}")
            await answer.read()

    async def _nonsense(self, client: aiohttp.ClientSession, rng: random.Random) -> None:
        path, body, status = rng.choice(NONSENSE)
        model = self._mixtures[0].model
        sent = body.replace(b"{model}", model.encode())
        async with client.post(self._url + path.replace("{model}", model), data=sent) as answer:
            await answer.read()
            if answer.status != status:
                self.wrong.append(f"{path} {body[:60]!r}: {answer.status}, not {status}")
        await asyncio.sleep(0.05)

    async def _gone(self, client: aiohttp.ClientSession, rng: random.Random) -> None:
        """Begin a large request and close its connection before the answer, or in the middle of it."""
        mixture = self._now(self._mixtures)
        numbers = rng.choices(range(len(mixture.documents)), k=100)
        request = mixture.request(rng.choice(mixture.queries), numbers)
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

    async def _look(self, client: aiohttp.ClientSession, rng: random.Random) -> None:
        for path in ("/v1/models", "/metrics", "/healthz", "/readyz", "/livez"):
            async with client.get(self._url + path) as answer:
                await answer.read()
                if answer.status != 200:
                    self.wrong.append(f"{path}: {answer.status}")
        await asyncio.sleep(1)
