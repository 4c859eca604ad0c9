"""Score requests in any API's shape, from their texts and options to the ranking."""

from collections.abc import Callable, Iterable
from collections.abc import Sequence as Items
from functools import partial
from typing import Any

from starlette.requests import Request

from sie_server import wire
from sie_server.api.answer_size import AnswerSizes, HighlightChecks, of_ids
from sie_server.api.disconnect import until_disconnect
from sie_server.api.request_options import score_params
from sie_server.api.responses import encoded_highlights
from sie_server.engine.calls import Checks, ScoreCall
from sie_server.engine.engine import Engine
from sie_server.engine.highlights import Highlight
from sie_server.engine.results import Ranking
from sie_server.http.body_memory import BodyHold, Texts
from sie_server.request_context import current_request
from sie_server.residency.address import ModelAddress
from sie_server.settings import Settings


class Scoring:
    """Scores with one engine."""

    def __init__(self, engine: Engine, settings: Settings, sizes: AnswerSizes) -> None:
        self._engine = engine
        self._settings = settings
        self._sizes = sizes

    async def rank(
        self,
        request: Request,
        hold: BodyHold,
        model_id: str,
        query: str | None,
        documents: Items[str | None],
        options: wire.ScoreOptions,
        *,
        instruction: str | None = None,
        ids: Iterable[wire.Item] = (),
        msgpack: bool = False,
        waits: bool = False,
        highlight: Callable[[list[Highlight]], Any] | None = None,
    ) -> tuple[ModelAddress, Ranking]:
        """The addressed model, and its ranking of documents that are known to be within the limits of a body.

        instruction: wins over the one in the options. ids: items whose ids a large answer repeats. msgpack: encoding of
        the answer. waits: the priority is that of a batch unless a header has another.
        highlight: makes what the ranking has of each document's highlights; None: they are encoded if an option asks.

        Raises:
            SIEError: as `Engine.score`; INVALID_INPUT for an option.
            starlette.requests.ClientDisconnect: the client has disconnected.
        """
        address = self._engine.residency.names.resolve(model_id, options.profile)
        params = score_params(
            request.headers, options, address.profile, instruction, self._settings.max_request_body_bytes, waits=waits
        )
        if hold.is_large:
            self._sizes.hold(hold, [of_ids(ids, msgpack=msgpack)], "items")
        checks, encode = Checks(), None
        if options.return_highlights or highlight is not None:
            checks = HighlightChecks(self._sizes, hold, min(options.top_k or len(documents), len(documents)))
            encode = highlight or partial(encoded_highlights, msgpack=msgpack)
        call = ScoreCall(
            model_id=address.slot.entry.id,
            query=query,
            documents=Texts(documents, hold),
            instruction=params.instruction,
            limits=params.limits,
            long_documents=params.long_documents,
            comparison=params.comparison,
            top_k=options.top_k,
            encode_highlights=encode,
            scheduling=params.scheduling,
            checks=checks,
        )
        ranking = await until_disconnect(request, self._engine.score(call))
        chosen = [name for name in ("score_mode", "score_weights") if getattr(options, name) is not None]
        if chosen and ranking.mode is None:  # a cross-encoder has nothing to choose
            context = current_request()
            context.ignored = [*context.ignored, *(f"options.{name}" for name in chosen)]
        return address, ranking
