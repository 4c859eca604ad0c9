"""An engine on an event loop of its own thread, driven from ordinary tests."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from sie_server.catalog.catalog import Entry
from sie_server.engine.calls import ScoreCall
from sie_server.engine.engine import Engine
from sie_server.engine.results import Ranking
from sie_server.metrics import Metrics
from sie_server.models.loaded_model import LoadedModel
from sie_server.settings import Settings

T = TypeVar("T")


class Running:
    """`engine` and the loop it lives on."""

    def __init__(self, engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        self.engine = engine
        self._loop = loop

    def run(self, work: Coroutine[Any, Any, T], timeout: float = 60.0) -> T:
        """Run a coroutine on the engine's loop and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout)

    def model(self, model_id: str, timeout: float = 60.0) -> LoadedModel:
        """The model, loaded."""

        async def loaded() -> LoadedModel:
            async with self.engine.residency.serving(model_id) as model:
                return model

        return self.run(loaded(), timeout)

    def score(self, model_id: str, query: str, documents: Sequence[str]) -> Ranking:
        """The model's ranking of the documents."""
        return self.run(self.engine.score(ScoreCall(model_id, query, documents)))


@contextmanager
def running(entries: Mapping[str, Entry], **settings: Any) -> Iterator[Running]:
    """An engine over these entries; its threads are gone afterwards."""
    engine = Engine(Settings(**settings), entries, Metrics())
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> None:
        engine.start()

    handle = Running(engine, loop)
    try:
        handle.run(start())
        yield handle
        handle.run(engine.close())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
