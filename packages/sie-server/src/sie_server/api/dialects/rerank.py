"""The handler of all rerank routes but SIE's own `/v1/score/{model}`: any body in, a dialect's answer out."""

import re
import time
from collections.abc import Awaitable, Callable, Mapping
from collections.abc import Sequence as Items
from contextlib import suppress
from functools import partial

import msgspec
from msgspec import Raw
from starlette.requests import Request
from starlette.responses import Response

from sie_server import codec
from sie_server.api.default_model import DefaultModel
from sie_server.api.dialects.dialect import Dialect, Ranked
from sie_server.api.dialects.fields import MUST, Text
from sie_server.api.dialects.request import LISTS, PAIRS, RankRequest, read
from sie_server.api.dialects.scale import unit_scores
from sie_server.api.dialects.spans import matched, spans_of
from sie_server.api.dialects.table import ROUTES, spoken
from sie_server.api.responses import MANY
from sie_server.api.scoring import Scoring
from sie_server.api.timing import observe
from sie_server.engine.results import Ranking
from sie_server.errors import Code, FieldError, SIEError
from sie_server.http.answer_writer import AnswerWriter
from sie_server.http.body import BodyReader
from sie_server.http.body_memory import BodyHold
from sie_server.http.error_responses import foreign_response
from sie_server.large_bodies.outline import Body, ListField
from sie_server.large_bodies.reader import Reader
from sie_server.metrics import Metrics
from sie_server.models.loaded_model import NoMatchesError
from sie_server.request_context import current_request
from sie_server.residency.address import ModelAddress

# Bytes of a large body in which the name of its list is looked for.
_HEAD = 64 * 2**10
_LISTED = re.compile(rb'(?<!\\)"(%s)"\s*:\s*\[' % b"|".join(name.encode() for name in {*LISTS, *(b for _, b in PAIRS)}))


class RerankAPI:
    """Handler of the rerank routes of every API in the table."""

    def __init__(
        self,
        bodies: BodyReader,
        answers: AnswerWriter,
        scoring: Scoring,
        default: DefaultModel,
        metrics: Metrics,
    ) -> None:
        self._default = default
        self._bodies = bodies
        self._answers = answers
        self._scoring = scoring
        self._metrics = metrics

    async def rerank(self, request: Request, hold: BodyHold) -> Response:
        """Answer a request in the API of its path and body, errors included."""
        path, named = request.scope["path"], request.path_params.get("model")
        if named is not None:
            path = path.removesuffix(named) + "{model:path}"
        dialect = ROUTES[path]

        def listed(raw: bytes) -> ListField:
            nonlocal dialect
            found = self._listed(raw)
            # What is too much is refused before the fields are read.
            dialect = spoken(path, {found.field: Raw(b"[]")})
            return found

        def whole(raw: Body) -> RankRequest:
            return asked_by(codec.decode(raw, dict[str, Raw], msgpack=False), None)

        def pieces(reader: Reader) -> RankRequest:
            return asked_by(reader.beside(dict[str, Raw]), reader)

        def asked_by(fields: dict[str, Raw], reader: Reader | None) -> RankRequest:
            nonlocal dialect
            dialect = spoken(path, fields)
            return self.asked(fields, reader)

        try:
            asked = await self._bodies.decoded(request, hold, whole, pieces, listed)
            asked.model = asked.model if named is None else named
            return await self.ranked(request, hold, dialect, asked)
        except SIEError as error:
            return foreign_response(error, plain=dialect.plain_errors, busy=dialect.busy)

    def asked(self, fields: Mapping[str, Raw], reader: Reader | None) -> RankRequest:
        """Read the fields of a body; of a large one, `reader` has the list and the long texts.

        Raises:
            SIEError: INVALID_INPUT, with the field that is wrong as `param`.
        """
        if reader is None:
            return self.checked(read(fields))
        name = reader.listed.field
        try:
            elements = list(reader.elements()) if reader.has_list else None
        except SIEError as error:
            # An error for a limit names its field already.
            must = f"'{name}' {MUST['documents']}"
            raise error if "param" in error.extras else SIEError(Code.INVALID_INPUT, must, param=name) from None
        return self.checked(read(fields, elements, name, reader.filled))

    async def ranked(self, request: Request, hold: BodyHold, dialect: Dialect, asked: RankRequest) -> Response:
        """Answer a request that was read, in this API.

        Raises:
            SIEError: as `Scoring.rank`; INVALID_INPUT, there is no default model.
        """
        started = time.perf_counter()
        context = current_request()
        model = context.model = asked.model or self._default.able("score")
        context.ignored = asked.ignored
        self._bodies.leave(hold, asked.documents)
        if asked.top == 0 and not dialect.none_is_all:
            raise SIEError(Code.INVALID_INPUT, f"'top_n' {MUST['top_n']}", param="top_n")
        count = len(asked.documents)
        scores: list[float] = [0.0] * count
        order: Items[int] = range(count)
        tokens, cut = 0, 0
        groups, found = _groups(asked), None
        spans = asked.spans if dialect.spans and len(groups) == 1 else None
        for query, indices in groups:
            alone = len(indices) == count
            options = msgspec.structs.replace(asked.options, top_k=(asked.top or None) if alone else None)
            documents = asked.documents if alone else [asked.documents[index] for index in indices]
            rank = partial(self._scoring.rank, request, hold, model, query, documents, options)
            try:
                address, ranking = await _with_spans(
                    partial(rank, instruction=asked.instruction, waits=asked.waits), wanted=spans is not None
                )
            except FieldError as error:
                raise error.renamed(asked.field, indices) from None
            for index, score in zip(indices, _scores(ranking, asked, dialect), strict=True):
                scores[index] = score
            tokens += ranking.tokens
            cut += sum(ranking.truncated)
            if alone and not dialect.in_order:
                order = ranking.order
        if spans is not None:
            found = spans_of(ranking, asked.documents, unit_scores(ranking), spans)
        if dialect.in_order:
            asked.ignored += asked.chosen
        if asked.spans is not None and found is None:
            asked.ignored.append("relevant_spans")
        done = time.perf_counter()
        warnings = [f"field '{name}' is ignored" for name in asked.ignored]
        if cut:
            warnings.append(f"{cut} of {count} documents were truncated to the token limit")
        written = dialect.write(
            Ranked(
                asked,
                address.id,
                scores,
                order,
                tokens,
                context.request_id,
                dialect.give_back if asked.give_back is None else asked.give_back,
                warnings,
                int(time.time()),
                done - started,
                found,
            )
        )
        large = count > MANY or hold.is_large
        if not large:
            setattr(written.body, written.field, list(written.elements))
        headers = observe(self._metrics, address.slot.entry.id, done, ranking.timing, tokens)
        return await self._answers.write(
            written.body, written.field, headers, hold, written.elements, large=large, msgpack=False, bare=dialect.bare
        )

    def _listed(self, raw: bytes) -> ListField:
        found = _LISTED.search(raw, 0, _HEAD)
        name = "documents" if found is None else found[1].decode()
        return ListField(name, "documents", Text, self._bodies.max_items)

    def checked(self, asked: RankRequest) -> RankRequest:
        """The request, which is within the limits on a body.

        Raises:
            SIEError: INVALID_INPUT, it has too many texts, or one that is too large.
        """
        self._bodies.check_count(len(asked.documents), asked.field, "documents")
        for index, document in enumerate(asked.documents):
            self._bodies.check_size(document, f"{asked.field}[{index}]")
        for query in asked.queries:
            self._bodies.check_size(query, "query")
        return asked


async def _with_spans(
    rank: Callable[..., Awaitable[tuple[ModelAddress, Ranking]]], *, wanted: bool
) -> tuple[ModelAddress, Ranking]:
    """The ranking, with the matched tokens of documents if these are wanted and the model compares tokens."""
    if wanted:
        with suppress(NoMatchesError):
            return await rank(highlight=matched)
    return await rank()


def _groups(asked: RankRequest) -> Items[tuple[str, Items[int]]]:
    """The distinct queries, each with the indices of its documents."""
    if len(asked.queries) == 1:
        return [(asked.queries[0], range(len(asked.documents)))]
    groups: dict[str, list[int]] = {}
    for index, query in enumerate(asked.queries):
        groups.setdefault(query, []).append(index)
    return list(groups.items())


def _scores(ranking: Ranking, asked: RankRequest, dialect: Dialect) -> Items[float]:
    if asked.raw or (asked.raw is None and dialect.scores == "raw"):
        return ranking.raw
    if asked.raw is None and dialect.scores == "own":
        return ranking.scores
    return unit_scores(ranking)
