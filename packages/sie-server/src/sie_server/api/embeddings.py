"""The handler of all embedding routes but SIE's own `/v1/encode/{model}`: any body in, a dialect's answer out."""

import re
import time
from collections.abc import Sequence as Items
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import Response

from sie_server import wire
from sie_server.api.answer_size import AnswerSizes, EmbeddingChecks, of_vectors
from sie_server.api.default_model import DefaultModel
from sie_server.api.disconnect import until_disconnect
from sie_server.api.embed_dialects.dialect import Embedded, EmbedDialect
from sie_server.api.embed_dialects.fields import TEXTS, EmbeddingsElement, EmbedText
from sie_server.api.embed_dialects.openai import OPENAI
from sie_server.api.embed_dialects.request import EmbedReader, EmbedRequest, OpenAIReader
from sie_server.api.embed_dialects.table import EMBED_ROUTES
from sie_server.api.embed_dialects.token_ids import TokenIdReader
from sie_server.api.embed_dialects.wanted import Numbers
from sie_server.api.request_options import check_repeated, encode_call, scheduling_params, with_profile
from sie_server.api.responses import is_large
from sie_server.api.timing import observe
from sie_server.catalog.catalog import Entry
from sie_server.engine.calls import EncodeCall
from sie_server.engine.engine import Engine
from sie_server.engine.results import Encoding
from sie_server.errors import Code, FieldError, SIEError
from sie_server.http.answer_writer import AnswerWriter
from sie_server.http.body import BodyReader
from sie_server.http.body_memory import BodyHold, Texts
from sie_server.http.body_threads import BodyThreads
from sie_server.http.error_responses import foreign_response
from sie_server.large_bodies.outline import ListField
from sie_server.metrics import Metrics
from sie_server.request_context import current_request
from sie_server.residency.address import ModelAddress
from sie_server.residency.capabilities import unsupported
from sie_server.settings import Settings

# Token ids in one text: more than any model reads.
_MAX_IDS = 262_144
# Bytes of a large body in which the name of its list is looked for.
_HEAD = 64 * 2**10
_LISTED = re.compile(rb'(?<!\\)"(%s)"\s*:\s*\[' % "|".join(TEXTS).encode())


class EmbeddingsAPI:
    """Handler of the embedding routes of every API in the table."""

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        bodies: BodyReader,
        answers: AnswerWriter,
        sizes: AnswerSizes,
        threads: BodyThreads,
        default: DefaultModel,
        metrics: Metrics,
    ) -> None:
        """Raises ValueError: the token ids that the settings allow cannot be read."""
        self._engine = engine
        self._bodies = bodies
        self._answers = answers
        self._sizes = sizes
        self._threads = threads
        self._metrics = metrics
        self._max_body_bytes = settings.max_request_body_bytes
        self._token_ids = TokenIdReader(settings.token_ids)
        self._default = default

    async def embed(self, request: Request, hold: BodyHold) -> Response:
        """Answer a request in the API of its path, errors included."""
        dialect = EMBED_ROUTES[request.scope["path"]]
        try:
            return await self.embedded(request, hold, dialect, await self._read(request, hold, dialect))
        except SIEError as error:
            if dialect is OPENAI:  # whose errors have the form of the server's own
                raise
            return foreign_response(error, plain=dialect.plain_errors, busy=dialect.busy)

    def reader(self, dialect: EmbedDialect) -> EmbedReader:
        """Reads bodies of this API."""
        return EmbedReader(dialect, self._bodies, self._token_ids)

    async def embedded(self, request: Request, hold: BodyHold, dialect: EmbedDialect, asked: EmbedRequest) -> Response:
        """Answer a request that was read, in this API.

        Raises:
            SIEError: as `Engine.encode`; INVALID_INPUT, there is no default model, or the answer would be too large.
        """
        context = current_request()
        context.ignored = asked.ignored
        context.model = asked.model or self._default.able(asked.want.output)
        check_repeated({"instruction": asked.instruction}, len(asked.texts), self._max_body_bytes)
        self._bodies.leave(hold, asked.texts)
        address = self._engine.residency.names.resolve(context.model)
        call = self._call(request, hold, asked, address)
        try:
            encoding = await until_disconnect(request, self._engine.encode(call))
        except FieldError as error:
            raise error.renamed(asked.field, range(len(asked.texts))) from None
        done = time.perf_counter()
        return await self._written(hold, dialect, asked, address, encoding, done)

    async def _read(self, request: Request, hold: BodyHold, dialect: EmbedDialect) -> EmbedRequest:
        most = self._bodies.max_items
        if dialect is OPENAI:
            listed = ListField("input", "texts", EmbeddingsElement, most, _MAX_IDS, _MAX_IDS)
            own = OpenAIReader(dialect, self._bodies, self._token_ids)
            return await self._bodies.decoded(request, hold, own.whole, own.pieces, listed, invalid=Code.UNPROCESSABLE)

        def found(raw: bytes) -> ListField:
            name = _LISTED.search(raw, 0, _HEAD)
            field = dialect.texts if name is None else name[1].decode()
            return ListField(field, "texts", EmbedText, most, _MAX_IDS, _MAX_IDS)

        reader = self.reader(dialect)
        return await self._bodies.decoded(request, hold, reader.whole, reader.pieces, found)

    def _call(self, request: Request, hold: BodyHold, asked: EmbedRequest, address: ModelAddress) -> EncodeCall:
        """The call of the engine.

        Raises:
            SIEError: INVALID_INPUT for a header, or if the profile of the model leaves out the output.
        """
        want = asked.want
        if want.output not in (address.profile.output_types or (want.output,)):
            raise unsupported(address.entry, [want.output])
        options = with_profile(
            wire.EncodeOptions(
                max_seq_length=want.limit,
                overflow_policy=None if want.cut else "error",
                truncation_side=want.side,
                instruction=asked.instruction,
                normalize=want.normalize,
            ),
            address.profile,
        )
        first, *others = want.forms
        return encode_call(
            address.slot.entry.id,
            cast(Any, Texts(asked.texts, hold)),
            (want.output,),
            options,
            is_query=want.is_query is True,
            scheduling=scheduling_params(request.headers, waits=asked.waits),
            checks=_Checks(
                self._sizes,
                hold,
                asked.texts,
                [want.output],
                field=asked.field,
                msgpack=False,
                dtype=first.dtype,
                base64=first.base64,
                dims=want.dims,
                dims_field="" if want.width is None else want.width[0],
                others=others,
            ),
        )

    async def _written(
        self,
        hold: BodyHold,
        dialect: EmbedDialect,
        asked: EmbedRequest,
        address: ModelAddress,
        encoding: Encoding,
        done: float,
    ) -> Response:
        large = is_large(encoding.vectors) or hold.is_large
        embedded = Embedded(
            want=asked.want,
            field=asked.field,
            texts=asked.texts,
            model=address.id,
            vectors=encoding.vectors,
            tokens=encoding.tokens,
            id=current_request().request_id,
            created=int(time.time()),
            warnings=[f"field '{name}' is ignored" for name in asked.ignored],
        )
        # Some writers need all vectors at once.
        write = partial(dialect.write, embedded)
        written = await self._threads.run(hold.client, write) if large else write()
        if not large:
            setattr(written.body, written.field, list(written.elements))
        headers = observe(self._metrics, encoding.entry.id, done, encoding.timing, encoding.tokens)
        return await self._answers.write(
            written.body, written.field, headers, hold, written.elements, large=large, msgpack=False, bare=dialect.bare
        )


@dataclass
class _Checks(EmbeddingChecks):
    """Checks of embeddings whose width the request may choose, in the field `dims_field`.

    others: forms in which the answer has each vector once more.
    """

    dims_field: str = ""
    others: Items[Numbers] = ()

    def model(self, entry: Entry) -> None:
        if self.dims is not None:
            check_dimensions(self.dims, entry, self.dims_field, dense="dense" in self.outputs)
        dims = self.dims or entry.dims or 0
        self.more = [
            of_vectors(len(self.texts), dims, form.dtype, msgpack=False, base64=form.base64) for form in self.others
        ]
        super().model(entry)


def check_dimensions(dimensions: int, entry: Entry, field: str, *, dense: bool) -> None:
    """Raises SIEError: UNSUPPORTED_FIELD, the model was not trained for this width, or only its dense vectors."""
    assert entry.dims is not None
    if not dense and dimensions != entry.dims:
        message = f"Only dense vectors can be cut to {dimensions} dimensions"
        raise SIEError(Code.UNSUPPORTED_FIELD, message, param=field)
    widths = range(1, entry.dims) if entry.matryoshka is True else entry.matryoshka or ()
    if dimensions == entry.dims or dimensions in widths:
        return
    supported = f"1 to {entry.dims}" if entry.matryoshka is True else ", ".join(map(str, (*widths, entry.dims)))
    raise SIEError(
        Code.UNSUPPORTED_FIELD,
        f"Model '{entry.id}' does not support {dimensions} dimensions. Supported: {supported}",
        param=field,
    )
