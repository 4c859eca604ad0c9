"""Score requests in any API's shape, from their texts and options to the ranking."""

from collections.abc import Iterable
from collections.abc import Sequence as Items
from functools import partial

from starlette.requests import Request

from sie_server import wire
from sie_server.api.answer_size import AnswerSizes, HighlightChecks, of_ids
from sie_server.api.disconnect import until_disconnect
from sie_server.api.options import comparison, length_limits, overflow, scheduling_params, with_profile
from sie_server.api.responses import encoded_highlights
from sie_server.engine.calls import Checks, ScoreCall
from sie_server.engine.engine import Engine
from sie_server.engine.results import Ranking
from sie_server.http.body import BodyReader
from sie_server.residency.address import ModelAddress


class Scoring:
    """Scores with one engine."""

    def __init__(self, engine: Engine, bodies: BodyReader, sizes: AnswerSizes) -> None:
        self._engine = engine
        self._bodies = bodies
        self._sizes = sizes

    async def rank(
        self,
        request: Request,
        model_id: str,
        query: str | None,
        documents: Items[str | None],
        options: wire.ScoreOptions,
        *,
        instruction: str | None = None,
        ids: Iterable[wire.Item] = (),
        msgpack: bool = False,
    ) -> tuple[ModelAddress, Ranking]:
        """The addressed model, and its ranking of documents that are known to be within the limits of a body.

        instruction: wins over the one in the options. ids: items whose ids a large answer repeats. msgpack: encoding of
        the answer.

        Raises:
            SIEError: as `Engine.score`; INVALID_INPUT for an option.
            starlette.requests.ClientDisconnect: the client has disconnected.
        """
        scheduling = scheduling_params(request)
        # However many items there are, an instruction is read with the query alone.
        self._bodies.check_repeated({"instruction": instruction, "options.instruction": options.instruction}, 1)
        address = self._engine.residency.names.resolve(model_id, options.profile)
        merged = with_profile(options, address.profile)
        if self._bodies.is_large(request):
            self._sizes.hold(request, [of_ids(ids, msgpack=msgpack)], "items")
        checks, encode = Checks(), None
        if options.return_highlights:
            checks = HighlightChecks(self._sizes, request, min(options.top_k or len(documents), len(documents)))
            encode = partial(encoded_highlights, msgpack=msgpack)
        call = ScoreCall(
            model_id=address.slot.entry.id,
            query=query,
            documents=self._bodies.kept(request, documents),
            instruction=instruction or merged.instruction,
            limits=length_limits(merged),
            long_documents=options.long_documents or overflow(options) or address.profile.long_documents,
            comparison=comparison(merged),
            top_k=options.top_k,
            encode_highlights=encode,
            scheduling=scheduling,
            checks=checks,
        )
        return address, await until_disconnect(request, self._engine.score(call))
