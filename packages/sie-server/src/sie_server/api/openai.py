"""`POST /v1/embeddings`: OpenAI's embeddings API over the same models. Bodies and errors are OpenAI's, in JSON."""

import math
import time
from base64 import b64encode
from collections.abc import Iterator
from functools import partial
from typing import cast

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from sie_server import codec, wire
from sie_server.api.answer_size import Answers, of_rendered, of_vectors
from sie_server.api.disconnect import until_disconnect
from sie_server.api.options import written
from sie_server.api.profile import completed
from sie_server.api.responses import MANY, check_finite, is_large
from sie_server.api.scheduling_headers import terms_of
from sie_server.api.timing import observe
from sie_server.catalog.catalog import Entry
from sie_server.engine.capabilities import unsupported
from sie_server.engine.engine import Engine
from sie_server.engine.results import Encoded
from sie_server.engine.scheduling_params import SchedulingParams
from sie_server.errors import Code, SIEError
from sie_server.http.body import BodyReader
from sie_server.large_bodies.outline import Body, Listed
from sie_server.large_bodies.reader import Reader
from sie_server.metrics import Metrics
from sie_server.models.loaded_model import LoadedModel
from sie_server.nn.heads import Vectors
from sie_server.residency.address import ModelAddress
from sie_server.settings import Settings
from sie_server.tokenization.config import LengthLimits

# Token ids in one text: more than any model reads.
_MOST_IDS = 262_144
_Texts = list[str] | list[list[int]]
_Read = tuple[wire.EmbeddingsRequest, _Texts]


class Embeddings:
    """The route's handler. It leaves the model's id in `request.state.model`."""

    def __init__(
        self, engine: Engine, settings: Settings, bodies: BodyReader, answers: Answers, metrics: Metrics
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._answers = answers
        self._bodies = bodies
        self._metrics = metrics

    async def __call__(self, request: Request) -> Response:
        started = time.perf_counter()
        terms = terms_of(request, started)
        listed = Listed("input", "texts", wire.EmbeddingsElement, self._bodies.most_items, _MOST_IDS, _MOST_IDS)
        whole, pieces = self._whole, self._pieces
        body, texts = await self._bodies.decoded(request, whole, pieces, listed, invalid=Code.UNPROCESSABLE)
        request.state.model = body.model
        self._bodies.leave(request, texts)
        address = self._engine.residency.address(body.model)
        if "dense" not in (address.profile.output_types or ("dense",)):
            raise unsupported(address.entry, ["dense"])
        model, encoded = await until_disconnect(request, self._encoded(request, texts, body, address, terms))
        done = time.perf_counter()
        large = is_large(encoded.vectors) or self._bodies.is_large(request)

        def embedded() -> Iterator[wire.Embedding]:
            for index, vectors in enumerate(encoded.vectors):
                values = _values(_cut(vectors["dense"], body.dimensions), f"input[{index}]", body)
                yield wire.Embedding(index, values)
                encoded.vectors[index] = {}

        data = [] if large else list(embedded())
        usage = wire.EmbeddingsUsage(encoded.tokens, encoded.tokens)
        response = wire.EmbeddingsResponse(model=address.id, data=data, usage=usage)
        tokens, timing = encoded.tokens, encoded.timing
        headers = observe(self._metrics, model.id, "embeddings", started, done, timing, tokens)
        return await self._bodies.answer(response, "data", headers, embedded(), large=large, msgpack=False)

    def _whole(self, raw: Body) -> _Read:
        body = codec.decode(raw, wire.EmbeddingsRequest, msgpack=False, invalid=Code.UNPROCESSABLE)
        return body, self._inputs(body.input)

    def _pieces(self, reader: Reader) -> _Read:
        body = reader.beside(wire.EmbeddingsRequest)
        if reader.has_list:
            body.input = list(reader.elements())
        return body, self._inputs(body.input)

    async def _encoded(
        self,
        request: Request,
        texts: _Texts,
        body: wire.EmbeddingsRequest,
        address: ModelAddress,
        terms: SchedulingParams,
    ) -> tuple[LoadedModel, Encoded]:
        options = completed(wire.EncodeOptions(), address.profile)
        model = await self._engine.model(address.slot.entry.id, ["dense"], terms)
        _check_dimensions(body.dimensions, model.entry)
        dims, base64 = body.dimensions or model.entry.dims or 0, body.encoding_format == "base64"
        size = of_vectors(len(texts), dims, "float32", msgpack=False, base64=base64)
        self._answers.hold(request, [size], "input")
        if isinstance(texts[0], str):
            # Token ids are what the client wants read, without the words of a template.
            most = self._settings.max_rendered_bytes
            given = texts
            fill = partial(written, given, model.entry, wire.EncodeParams(), options, most)
            large = self._bodies.is_large(request) or len(given) > MANY
            texts = self._bodies.kept(request, await self._bodies.perhaps_aside(fill, large=large))
            self._answers.hold(request, [of_rendered(given, texts)], "input")
        heads = {"dense": model.embedders(options.pooling, options.normalize is not False)["dense"]}
        return model, await self._engine.encode(model, texts, heads, LengthLimits(options.max_seq_length), False, terms)

    def _inputs(self, given: wire.EmbeddingsInput) -> _Texts:
        """One input per embedding, none empty."""
        kinds = {str} if isinstance(given, str) else {type(text) for text in given}
        if len(kinds) > 1:
            raise SIEError(
                Code.INVALID_INPUT,
                "Field 'input' must be a text, a list of texts, a list of token ids, or a list of such lists",
                param="input",
            )
        alone = isinstance(given, str) or kinds == {int}
        texts = cast(_Texts, [given] if alone else given)
        self._bodies.check_count(len(texts), "input", "texts")
        for index, text in enumerate(texts):
            field = "input" if alone else f"input[{index}]"
            if not text:
                raise SIEError(Code.INVALID_INPUT, f"Field '{field}' must not be empty", param="input")
            if isinstance(text, str):
                self._bodies.check_size(text, field)
        return texts


def _check_dimensions(asked: int | None, entry: Entry) -> None:
    """Raises SIEError: UNSUPPORTED_FIELD, the model was not trained for this width."""
    assert entry.dims is not None
    widths = range(1, entry.dims) if entry.matryoshka is True else entry.matryoshka or ()
    if asked in (None, entry.dims) or asked in widths:
        return
    supported = f"1 to {entry.dims}" if entry.matryoshka is True else ", ".join(map(str, (*widths, entry.dims)))
    raise SIEError(
        Code.UNSUPPORTED_FIELD,
        f"Model '{entry.id}' does not support {asked} dimensions. Supported: {supported}",
        param="dimensions",
    )


def _cut(vector: Vectors, dimensions: int | None) -> Vectors:
    """The first `dimensions` values, scaled to length 1 again (Kusupati et al. 2022, Matryoshka representations)."""
    if dimensions in (None, len(vector)):
        return vector
    front = vector[:dimensions]
    # Exact squares, and their sum rounded once: NumPy's own length may depend on where in a batch the vector lies.
    length = math.sqrt(math.fsum(np.square(front, dtype=np.float64).tolist()))
    unit: Vectors = front / np.float32(max(length, 1e-12))
    return unit


def _values(vector: Vectors, field: str, body: wire.EmbeddingsRequest) -> list[float] | str:
    check_finite(vector, field)
    if body.encoding_format == "base64":
        return b64encode(vector.astype("<f4").tobytes()).decode()
    values: list[float] = vector.tolist()
    return values
