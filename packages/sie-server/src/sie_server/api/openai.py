"""`POST /v1/embeddings`: OpenAI's embeddings API over the same models. Bodies and errors are OpenAI's, in JSON."""

import math
import time
from base64 import b64encode
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from sie_server import codec, wire
from sie_server.api.answer_size import AnswerSizes, EmbeddingChecks
from sie_server.api.disconnect import until_disconnect
from sie_server.api.request_options import scheduling_params, with_profile
from sie_server.api.responses import check_finite, is_large
from sie_server.api.timing import observe
from sie_server.catalog.catalog import Entry
from sie_server.engine.calls import EncodeCall
from sie_server.engine.engine import Engine
from sie_server.errors import Code, SIEError
from sie_server.http.answer_writer import AnswerWriter
from sie_server.http.body import BodyReader
from sie_server.http.body_memory import BodyHold, Texts
from sie_server.large_bodies.outline import Body, ListField
from sie_server.large_bodies.reader import Reader
from sie_server.metrics import Metrics
from sie_server.request_context import current_request
from sie_server.residency.capabilities import unsupported
from sie_server.tokenization.config import LengthLimits

# Token ids in one text: more than any model reads.
_MAX_IDS = 262_144
_Vector = NDArray[np.float32]
_Texts = list[str] | list[list[int]]
_Read = tuple[wire.EmbeddingsRequest, _Texts]


class OpenAIAPI:
    """Handler of OpenAI's route."""

    def __init__(
        self, engine: Engine, bodies: BodyReader, answers: AnswerWriter, sizes: AnswerSizes, metrics: Metrics
    ) -> None:
        self._engine = engine
        self._bodies = bodies
        self._answers = answers
        self._sizes = sizes
        self._metrics = metrics

    async def embeddings(self, request: Request, hold: BodyHold) -> Response:
        """Answer `POST /v1/embeddings`."""
        scheduling = scheduling_params(request.headers)
        listed = ListField("input", "texts", wire.EmbeddingsElement, self._bodies.max_items, _MAX_IDS, _MAX_IDS)
        body, texts = await self._bodies.decoded(
            request, hold, self._whole, self._pieces, listed, invalid=Code.UNPROCESSABLE
        )
        current_request().model = body.model
        self._bodies.leave(hold, texts)
        address = self._engine.residency.names.resolve(body.model)
        if "dense" not in (address.profile.output_types or ("dense",)):
            raise unsupported(address.entry, ["dense"])
        options = with_profile(wire.EncodeOptions(), address.profile)
        call = EncodeCall(
            model_id=address.slot.entry.id,
            texts=cast(_Texts, Texts(texts, hold)),
            template=options.doc_template,
            instruction=options.instruction,
            default_instruction=options.default_instruction,
            limits=LengthLimits(options.max_seq_length),
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
                base64=body.encoding_format == "base64",
                dims=body.dimensions,
            ),
        )
        encoding = await until_disconnect(request, self._engine.encode(call))
        done = time.perf_counter()
        large = is_large(encoding.vectors) or hold.is_large
        data = _data(encoding.vectors, body)
        response = wire.EmbeddingsResponse(
            model=address.id,
            data=[] if large else list(data),
            usage=wire.EmbeddingsUsage(encoding.tokens, encoding.tokens),
        )
        headers = observe(self._metrics, encoding.entry.id, done, encoding.timing, encoding.tokens)
        return await self._answers.write(response, "data", headers, hold, data, large=large, msgpack=False)

    def _whole(self, raw: Body) -> _Read:
        body = codec.decode(raw, wire.EmbeddingsRequest, msgpack=False, invalid=Code.UNPROCESSABLE)
        return body, self._inputs(body.input)

    def _pieces(self, reader: Reader) -> _Read:
        body = reader.beside(wire.EmbeddingsRequest)
        if reader.has_list:
            body.input = list(reader.elements())
        return body, self._inputs(body.input)

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
        texts = cast(_Texts, [value] if alone else value)
        self._bodies.check_count(len(texts), "input", "texts")
        for index, text in enumerate(texts):
            field = "input" if alone else f"input[{index}]"
            if not text:
                raise SIEError(Code.INVALID_INPUT, f"Field '{field}' must not be empty", param="input")
            if isinstance(text, str):
                self._bodies.check_size(text, field)
        return texts


class _Checks(EmbeddingChecks):
    """Checks of embeddings whose width the request may choose."""

    def model(self, entry: Entry) -> None:
        if self.dims is not None:
            _check_dimensions(self.dims, entry)
        super().model(entry)


def _check_dimensions(dimensions: int, entry: Entry) -> None:
    """Raises SIEError: UNSUPPORTED_FIELD, the model was not trained for this width."""
    assert entry.dims is not None
    widths = range(1, entry.dims) if entry.matryoshka is True else entry.matryoshka or ()
    if dimensions == entry.dims or dimensions in widths:
        return
    supported = f"1 to {entry.dims}" if entry.matryoshka is True else ", ".join(map(str, (*widths, entry.dims)))
    raise SIEError(
        Code.UNSUPPORTED_FIELD,
        f"Model '{entry.id}' does not support {dimensions} dimensions. Supported: {supported}",
        param="dimensions",
    )


def _data(vectors: list[dict[str, Any]], body: wire.EmbeddingsRequest) -> Iterator[wire.Embedding]:
    """The embeddings of an answer. Each text's vectors are freed once its embedding has been made."""
    for index, outputs in enumerate(vectors):
        yield wire.Embedding(index, _values(_cut(outputs["dense"], body.dimensions), f"input[{index}]", body))
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


def _values(vector: _Vector, field: str, body: wire.EmbeddingsRequest) -> list[float] | str:
    check_finite(vector, field)
    if body.encoding_format == "base64":
        return b64encode(vector.astype("<f4").tobytes()).decode()
    values: list[float] = vector.tolist()
    return values
