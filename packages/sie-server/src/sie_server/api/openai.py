"""`POST /v1/embeddings`: OpenAI's embeddings API over the same models. Bodies and errors are OpenAI's, in JSON."""

import math
import time
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from msgspec import Raw
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from sie_server import codec, wire
from sie_server.api.answer_size import AnswerSizes, EmbeddingChecks
from sie_server.api.disconnect import until_disconnect
from sie_server.api.embedding_fields import Wanted, wanted
from sie_server.api.request_options import check_repeated, length_limits, scheduling_params, with_profile
from sie_server.api.responses import check_finite, is_large, quantize
from sie_server.api.timing import observe
from sie_server.api.token_ids import TokenIdReader
from sie_server.catalog.catalog import Entry
from sie_server.engine.calls import EncodeCall
from sie_server.engine.engine import Engine
from sie_server.errors import Code, FieldError, SIEError
from sie_server.http.answer_writer import AnswerWriter
from sie_server.http.body import BodyReader
from sie_server.http.body_memory import BodyHold, Texts
from sie_server.http.ignored_fields import ignored_fields
from sie_server.large_bodies.outline import Body, ListField
from sie_server.large_bodies.reader import Reader
from sie_server.metrics import Metrics
from sie_server.request_context import current_request
from sie_server.residency.capabilities import unsupported
from sie_server.settings import Settings

# Token ids in one text: more than any model reads.
_MAX_IDS = 262_144
_Vector = NDArray[np.float32]
_Texts = list[str] | list[list[int]]


@dataclass(frozen=True, slots=True)
class _Read:
    """A request that was read: its body, its texts, and the names of the fields that nothing reads."""

    body: wire.EmbeddingsRequest
    texts: _Texts
    ignored: list[str]


class OpenAIAPI:
    """Handler of OpenAI's route."""

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        bodies: BodyReader,
        answers: AnswerWriter,
        sizes: AnswerSizes,
        metrics: Metrics,
    ) -> None:
        """Raises ValueError: the token ids that the settings allow cannot be read."""
        self._engine = engine
        self._bodies = bodies
        self._answers = answers
        self._sizes = sizes
        self._metrics = metrics
        self._max_body_bytes = settings.max_request_body_bytes
        self._token_ids = TokenIdReader(settings.token_ids)

    async def embeddings(self, request: Request, hold: BodyHold) -> Response:
        """Answer `POST /v1/embeddings`."""
        scheduling = scheduling_params(request.headers)
        listed = ListField("input", "texts", wire.EmbeddingsElement, self._bodies.max_items, _MAX_IDS, _MAX_IDS)
        read = await self._bodies.decoded(request, hold, self._whole, self._pieces, listed, invalid=Code.UNPROCESSABLE)
        body, texts = read.body, read.texts
        current_request().model, current_request().ignored = body.model, read.ignored
        want = wanted(body)
        check_repeated({"instruction": body.instruction}, len(texts), self._max_body_bytes)
        self._bodies.leave(hold, texts)
        address = self._engine.residency.names.resolve(body.model)
        if "dense" not in (address.profile.output_types or ("dense",)):
            raise unsupported(address.entry, ["dense"])
        asked = wire.EncodeOptions(
            max_seq_length=want.limit,
            overflow_policy=None if want.cut else "error",
            instruction=body.instruction,
            normalize=want.normalize,
        )
        options = with_profile(asked, address.profile)
        queries = want.is_query is True
        call = EncodeCall(
            model_id=address.slot.entry.id,
            texts=cast(_Texts, Texts(texts, hold)),
            is_query=queries,
            template=options.query_template if queries else options.doc_template,
            instruction=options.instruction,
            default_instruction=options.default_instruction,
            limits=length_limits(options),
            pooling=options.pooling,
            normalize=options.normalize is not False,
            scheduling=scheduling,
            checks=_Checks(
                self._sizes,
                hold,
                texts,
                ["dense"],
                field="input",
                msgpack=False,
                dtype=want.dtype,
                base64=want.base64,
                dims=want.dims,
                dims_field="" if want.width is None else want.width[0],
            ),
        )
        try:
            encoding = await until_disconnect(request, self._engine.encode(call))
        except FieldError as error:
            raise error.renamed("input", range(len(texts))) from None
        done = time.perf_counter()
        large = is_large(encoding.vectors) or hold.is_large
        data = _data(encoding.vectors, want)
        response = wire.EmbeddingsResponse(
            model=address.id,
            data=[] if large else list(data),
            usage=wire.EmbeddingsUsage(encoding.tokens, encoding.tokens),
        )
        headers = observe(self._metrics, encoding.entry.id, done, encoding.timing, encoding.tokens)
        return await self._answers.write(response, "data", headers, hold, data, large=large, msgpack=False)

    def _whole(self, raw: Body) -> _Read:
        body = codec.decode(raw, wire.EmbeddingsRequest, msgpack=False, invalid=Code.UNPROCESSABLE)
        names = codec.decode(raw, dict[str, Raw], msgpack=False)
        return _Read(body, self._inputs(body.input), ignored_fields(names, wire.EmbeddingsRequest))

    def _pieces(self, reader: Reader) -> _Read:
        body = reader.beside(wire.EmbeddingsRequest)
        if reader.has_list:
            body.input = list(reader.elements())
        names = reader.beside(dict[str, Raw])
        return _Read(body, self._inputs(body.input), ignored_fields(names, wire.EmbeddingsRequest))

    def _inputs(self, value: wire.EmbeddingsInput) -> _Texts:
        """One input per embedding, none empty."""
        kinds = {str} if isinstance(value, str) else {type(text) for text in value}
        if len(kinds) > 1:
            raise SIEError(
                Code.INVALID_INPUT,
                "Field 'input' must be a text, a list of texts, a list of token ids, or a list of such lists",
                param="input",
            )
        alone = isinstance(value, str) or kinds == {int}
        texts: list[Any] = [value] if alone else cast(list[Any], value)
        self._bodies.check_count(len(texts), "input", "texts")
        for index, text in enumerate(texts):
            field = "input" if alone else f"input[{index}]"
            if not text:
                raise SIEError(Code.INVALID_INPUT, f"Field '{field}' must not be empty", param="input")
            if isinstance(text, list):
                texts[index] = text = self._token_ids.read(text, field)
            if isinstance(text, str):
                self._bodies.check_size(text, field)
        return texts


@dataclass
class _Checks(EmbeddingChecks):
    """Checks of embeddings whose width the request may choose, in the field `dims_field`."""

    dims_field: str = ""

    def model(self, entry: Entry) -> None:
        if self.dims is not None:
            _check_dimensions(self.dims, entry, self.dims_field)
        super().model(entry)


def _check_dimensions(dimensions: int, entry: Entry, field: str) -> None:
    """Raises SIEError: UNSUPPORTED_FIELD, the model was not trained for this width."""
    assert entry.dims is not None
    widths = range(1, entry.dims) if entry.matryoshka is True else entry.matryoshka or ()
    if dimensions == entry.dims or dimensions in widths:
        return
    supported = f"1 to {entry.dims}" if entry.matryoshka is True else ", ".join(map(str, (*widths, entry.dims)))
    raise SIEError(
        Code.UNSUPPORTED_FIELD,
        f"Model '{entry.id}' does not support {dimensions} dimensions. Supported: {supported}",
        param=field,
    )


def _data(vectors: list[dict[str, Any]], want: Wanted) -> Iterator[wire.Embedding]:
    """The embeddings of an answer. Each text's vectors are freed once its embedding has been made."""
    for index, outputs in enumerate(vectors):
        yield wire.Embedding(index, _values(_cut(outputs["dense"], want.dims), f"input[{index}]", want))
        vectors[index] = {}


def _cut(vector: _Vector, dimensions: int | None) -> _Vector:
    """The first `dimensions` values, scaled to length 1 again (Kusupati et al. 2022, Matryoshka representations)."""
    if dimensions in (None, len(vector)):
        return vector
    front = vector[:dimensions]
    # Exact squares, and their sum rounded once: NumPy's own length may depend on where in a batch the vector lies.
    length = math.sqrt(math.fsum(np.square(front, dtype=np.float64).tolist()))
    unit: _Vector = front / np.float32(max(length, 1e-12))
    return unit


def _values(vector: _Vector, field: str, want: Wanted) -> list[float] | str:
    check_finite(vector, field)
    numbers = quantize(vector, want.dtype)
    if want.dtype == "binary":
        # These APIs have the bits as int8, and those of "ubinary" as they are.
        numbers = (numbers.astype(np.int16) - 128).astype(np.int8)
    if want.base64:
        return b64encode(numbers.astype(numbers.dtype.newbyteorder("<")).tobytes()).decode()
    values: list[float] = numbers.tolist()
    return values
