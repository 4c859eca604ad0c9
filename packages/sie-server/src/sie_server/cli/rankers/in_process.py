"""A ranker that computes in this process, by the engine of the server."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from sie_server import wire
from sie_server.api.request_options import ScoreParams, merged_score_params
from sie_server.catalog.catalog import did_you_mean, shipped
from sie_server.cli.rankers.local_engine import engine_error, local_address, local_engine, local_entry
from sie_server.cli.rankers.ranker import NO_DOCUMENTS, Ranked, UnavailableError
from sie_server.engine.calls import ScoreCall
from sie_server.engine.engine import Engine
from sie_server.engine.scheduling_params import SchedulingParams
from sie_server.errors import SIEError
from sie_server.options import LongDocuments, Precision


class EngineRanker:
    """Scores with the model of an engine."""

    def __init__(self, engine: Engine, name: str, model_id: str, params: ScoreParams) -> None:
        self.name = name
        self._engine = engine
        self._model_id = model_id
        self._params = params

    async def rank(self, query: str, documents: Sequence[str]) -> Ranked:
        if not documents:
            return NO_DOCUMENTS
        params = self._params
        call = ScoreCall(
            self._model_id,
            query,
            documents,
            instruction=params.instruction,
            limits=params.limits,
            long_documents=params.long_documents,
            comparison=params.comparison,
        )
        started = time.perf_counter()
        try:
            ranking = await self._engine.score(call)
        except SIEError as error:
            raise engine_error(self._engine, error) from error
        seconds = time.perf_counter() - started
        return Ranked(ranking.scores, seconds, ranking.tokens, sum(ranking.truncated))


@asynccontextmanager
async def engine_ranker(
    model: str, instruction: str | None, long_documents: LongDocuments | None, device: str, precision: Precision
) -> AsyncIterator[EngineRanker]:
    """A ranker with a model that is loaded. model: as `local_entry` reads it.

    Raises:
        ValueError: there is no such folder, profile, device or precision.
        UnavailableError: the model can't be loaded, or does not score.
    """
    entry = local_entry(model)
    async with local_engine(entry, device, precision) as engine:
        address = local_address(engine, entry, model)
        options = wire.ScoreOptions(long_documents=long_documents)
        params = merged_score_params(SchedulingParams(), options, address.profile, instruction)
        try:
            async with engine.residency.serving(entry.id, ["score"]):
                pass
        except SIEError as error:
            known = shipped()
            hint = "" if entry.id in known or entry.folder is not None else did_you_mean(entry.id, known)
            raise UnavailableError(error.message + hint) from error
        yield EngineRanker(engine, address.id, entry.id, params)
