"""The application over an engine that computes nothing: the same answers on every machine, to the byte."""

import asyncio
import threading
import time
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NoReturn, TypeVar
from unittest.mock import patch

import httpx2
import numpy as np
import torch
from starlette.types import ASGIApp

from sie_server.api.app import create_app
from sie_server.catalog.catalog import Entry, Profile
from sie_server.engine.calls import EncodeCall, ScoreCall
from sie_server.engine.engine import Engine
from sie_server.engine.input_texts import texts_to_score
from sie_server.engine.results import Encoding, Ranking, Timing
from sie_server.errors import Code, LoadClass, LoadError, SIEError
from sie_server.metrics import Metrics
from sie_server.models.loaded_model import LoadedModel
from sie_server.options import Precision
from sie_server.settings import Settings

T = TypeVar("T")

RERANKER = Entry(
    id="acme/reranker",
    repository="acme/reranker",
    revision="0123456789abcdef",
    outputs=("score",),
    score="probability",
    max_length=512,
    license="apache-2.0",
    profiles={"short": Profile(max_seq_length=128)},
)
EMBEDDER = Entry(
    id="acme/embedder",
    repository="acme/embedder",
    outputs=("dense", "sparse", "multivector"),
    dims=8,
    sparse_dims=30522,
    max_length=8192,
    license="mit",
)
BROKEN, LOADING = Entry(id="acme/broken", outputs=("score",)), Entry(id="acme/loading", outputs=("score",))

# None is a whole number, so that JSON has the same digits for it in every language; all are exact in float16.
SCORES = (0.25, 0.984375, 0.25)
DENSE = np.array([0.5, -0.25, 0.15625, -0.0625, 0.3125, -0.75, 0.1875, -0.4375], np.float32)
TOKENS = np.stack([DENSE, DENSE[::-1] / 2])
SPARSE = (np.array([7, 2003, 30521], np.int32), np.array([1.5, 0.25, 0.6875], np.float32))
STAGES = {"tokenization": 1 / 1024, "queue": 1 / 512, "inference": 1 / 128}


class Clock:
    """`time.perf_counter`, which stands still but for what a request takes."""

    def __init__(self) -> None:
        self.now = self.next = 0.0

    def __call__(self) -> float:
        self.now, now = self.next, self.now
        return now

    def begin(self) -> None:
        """A request comes in."""
        self.now = self.next = 0.0

    def computed(self) -> None:
        """The engine is through with it; what is left takes 1/1024 s."""
        self.now, self.next = 1 / 64, 1 / 64 + 1 / 1024


class CannedEngine(Engine):
    """Looks models up and loads them as the real one does, and answers with what is written above.

    A query or text that is the name of an error code gets that error.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        entries = {entry.id: entry for entry in (RERANKER, EMBEDDER, BROKEN, LOADING)}
        self.loading, self._forever = threading.Event(), threading.Event()
        self._clock = clock
        super().__init__(settings, entries, Metrics(), self._load_canned)

    async def score_with(self, model: LoadedModel, call: ScoreCall) -> Ranking:
        query, documents, _ = texts_to_score(model, call, 0)
        _raise_if_named(query)
        count = len(documents)
        self._clock.computed()
        scores = [SCORES[i % 3] for i in range(count)]
        return Ranking(
            order=sorted(range(count), key=scores.__getitem__, reverse=True)[: call.top_k],
            scores=scores,
            lengths=[12 + i for i in range(count)],
            truncated=[i == 1 for i in range(count)],
            spans=[(0, len(document)) for document in documents] if query == "in windows" else [None] * count,
            tokens=40,
            timing=Timing(**STAGES),
            highlights=[],
            raw=scores,
            mode=None,
            score=model.score,
            query_tokens=0,
        )

    async def _embed(
        self, model: LoadedModel, texts: Sequence[Any], heads: Mapping[str, Any], call: EncodeCall
    ) -> Encoding:
        _raise_if_named(texts[0])
        vectors = {"dense": DENSE, "sparse": SPARSE, "multivector": TOKENS}
        self._clock.computed()
        return Encoding([{name: vectors[name] for name in heads} for _ in texts], model.entry, 9, Timing(**STAGES))

    async def close(self) -> None:
        self._forever.set()
        await super().close()

    def _load_canned(self, entry: Entry, device: torch.device, precision: Precision, **_: Any) -> LoadedModel:
        if entry is BROKEN:
            raise LoadError(LoadClass.CONFIG, "no such architecture: BrokenModel")
        if entry is LOADING:
            self.loading.set()
            self._forever.wait()
        return CannedModel(entry)  # type: ignore[return-value]


class CannedModel:
    """A loaded model without weights."""

    bytes, token_bytes, device, score = 90_000_000, 9_000, torch.device("cpu"), "probability"
    dtype, modes = torch.float32, ()

    def __init__(self, entry: Entry) -> None:
        self.entry, self.id, self.tokenizer, self.encoder = entry, entry.id, self, self
        self.prompt = self.sparse = None

    def embedders(self, outputs: Sequence[str], *_: Any, **__: Any) -> dict[str, Any]:
        return {output: None for output in self.entry.outputs or () if output in outputs}


def _raise_if_named(text: str) -> None:
    match text:
        case "QUEUE_FULL":
            message = "900 tokens are waiting and this request has about 40; the limit for all models is 900"
            raise SIEError(Code.QUEUE_FULL, message, retry_after=7)
        case "RESOURCE_EXHAUSTED":
            message = "a batch of 512 tokens of model 'acme/reranker' does not fit into memory"
            raise SIEError(Code.RESOURCE_EXHAUSTED, message)
        case "GATEWAY_TIMEOUT":
            message = "this request would finish in about 2.50 s, after its deadline in 1.00 s"
            raise SIEError(Code.GATEWAY_TIMEOUT, message, retry_after=2)
        case "INPUT_TOO_LONG":
            raise SIEError(Code.INPUT_TOO_LONG, "'items[0]' has 700 tokens; the limit is 512", param="items[0].text")
        case "INFERENCE_ERROR":
            raise SIEError(Code.INFERENCE_ERROR, "internal error during scoring")
        case "INTERNAL_ERROR":
            raise RuntimeError("what no client is told")


class Served:
    """Asks the application, without a socket."""

    def __init__(self, app: ASGIApp, clock: Clock) -> None:
        self._app, self._clock = app, clock
        self._loop = asyncio.new_event_loop()

    def __call__(self, method: str, path: str, body: bytes | None, content_type: str, accept: str) -> httpx2.Response:
        return self.run(self._ask(method, path, body, {"content-type": content_type, "accept": accept}))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(work)

    def close(self) -> None:
        self._loop.close()

    async def _ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> httpx2.Response:
        transport = httpx2.ASGITransport(self._app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://sie.test") as client:
            self._clock.begin()
            return await client.request(method, path, content=body, headers=headers)


@contextmanager
def canned() -> Iterator[Served]:
    """The server, with a model that is loaded, one that never will be, and one that loads for ever."""
    clock = Clock()
    settings = Settings(device="cpu", precision="float32", load_wait=0.0, max_request_body_bytes=700, workers=1)
    engine = CannedEngine(settings, clock)
    app = create_app(settings, engine, Metrics(), on_ready=_never, on_failed=_never)
    with patch.object(time, "perf_counter", clock):
        served = Served(app, clock)
        try:
            for entry in (RERANKER, EMBEDDER, BROKEN, LOADING):
                served.run(_loaded(engine, entry))
            yield served
        finally:
            served.run(engine.close())
            served.close()


async def _loaded(engine: CannedEngine, entry: Entry) -> None:
    """Wait until the model is in its state. Loads run one at a time, so the one that never ends is the last."""
    with suppress(SIEError):
        if entry is not LOADING:
            await engine.residency.preload(entry.id)
        async with engine.residency.serving(entry.id):
            pass
    if entry is LOADING:
        # On its way there it looks at the clock, which the first request must have for itself.
        await asyncio.to_thread(engine.loading.wait)


def _never(*_: object) -> NoReturn:
    raise AssertionError("nothing is preloaded")
