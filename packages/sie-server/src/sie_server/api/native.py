"""SIE's own API: score, encode, extract, and the list of models."""

import time

from starlette.requests import Request
from starlette.responses import Response

from sie_server import wire
from sie_server.api.answer_size import AnswerSizes, EmbeddingChecks, of_ids
from sie_server.api.disconnect import until_disconnect
from sie_server.api.model_info import model_info, model_list
from sie_server.api.request_options import (
    around_texts,
    check_muvera,
    check_repeated,
    encode_call,
    is_query,
    scheduling_params,
    with_profile,
)
from sie_server.api.responses import MANY, embeddings, is_large, score_entries
from sie_server.api.scoring import Scoring
from sie_server.api.timing import in_body, observe
from sie_server.engine.engine import Engine
from sie_server.errors import Code, SIEError
from sie_server.http.answer_writer import AnswerWriter
from sie_server.http.body import BodyReader
from sie_server.http.body_memory import BodyHold, Texts
from sie_server.http.negotiation import json
from sie_server.metrics import Metrics
from sie_server.settings import Settings


class NativeAPI:
    """Handlers of SIE's own routes."""

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        bodies: BodyReader,
        answers: AnswerWriter,
        sizes: AnswerSizes,
        scoring: Scoring,
        metrics: Metrics,
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._bodies = bodies
        self._answers = answers
        self._sizes = sizes
        self._scoring = scoring
        self._metrics = metrics

    async def score(self, request: Request, hold: BodyHold) -> Response:
        """Answer `POST /v1/score/{model}`."""
        body, msgpack = await self._bodies.items(request, hold, wire.ScoreRequest)
        options = body.options or wire.ScoreOptions()
        address, ranking = await self._scoring.rank(
            request,
            hold,
            request.path_params["model"],
            body.query.text,
            [item.text for item in body.items],
            options,
            instruction=body.instruction,
            ids=(body.query, *body.items),
            msgpack=msgpack,
        )
        done = time.perf_counter()
        large = len(body.items) > MANY or options.return_highlights or hold.is_large
        entries = score_entries(body.items, ranking, return_tokens=options.return_tokens)
        response = wire.ScoreResponse(
            model=address.id,
            query_id=body.query.id,
            scores=[] if large else list(entries),
            usage=wire.Usage(ranking.tokens),
        )
        headers = observe(self._metrics, address.slot.entry.id, done, ranking.timing, ranking.tokens)
        return await self._answers.write(response, "scores", headers, hold, entries, large=large, msgpack=msgpack)

    async def encode(self, request: Request, hold: BodyHold) -> Response:
        """Answer `POST /v1/encode/{model}`."""
        scheduling = scheduling_params(request.headers)
        body, msgpack = await self._bodies.items(request, hold, wire.EncodeRequest)
        params = body.params or wire.EncodeParams()
        requested = params.options or wire.EncodeOptions()
        check_repeated(around_texts(params), len(body.items), self._settings.max_request_body_bytes)
        address = self._engine.residency.names.resolve(request.path_params["model"], requested.profile)
        options = with_profile(requested, address.profile)
        check_muvera(options.muvera)
        dtype = params.output_dtype or options.output_dtype or "float32"
        outputs = options.output_types or params.output_types or ["dense"]
        if options.muvera is not None:
            outputs = [*outputs, "dense"]
        texts = Texts((item.text for item in body.items), hold)
        large = hold.is_large
        call = encode_call(
            address.slot.entry.id,
            texts,
            outputs,
            options,
            is_query=is_query(params, options),
            instruction=params.instruction,
            muvera=options.muvera,
            scheduling=scheduling,
            checks=EmbeddingChecks(
                self._sizes,
                hold,
                texts,
                outputs,
                field="params.output_types" if options.muvera is None else "params.options.muvera",
                msgpack=msgpack,
                dtype=dtype,
                dims=None if options.muvera is None else options.muvera.dims,
                more=[of_ids(body.items, msgpack=msgpack)] if large or len(texts) > MANY else (),
            ),
        )
        encoding = await until_disconnect(request, self._engine.encode(call))
        done = time.perf_counter()
        large = large or is_large(encoding.vectors)
        entry, timing = encoding.entry, encoding.timing
        items = embeddings(body.items, encoding.vectors, dtype, entry.sparse_dims)
        response = wire.EncodeResponse(
            model=address.id,
            items=[] if large else list(items),
            timing=in_body(done, timing),
            usage=wire.Usage(encoding.tokens),
        )
        headers = observe(self._metrics, entry.id, done, timing, encoding.tokens)
        return await self._answers.write(response, "items", headers, hold, items, large=large, msgpack=msgpack)

    async def extract(self, request: Request, hold: BodyHold) -> Response:
        """Answer `POST /v1/extract/{model}`: no model of this server extracts."""
        await self._bodies.items(request, hold, wire.ExtractRequest)
        address = self._engine.residency.names.resolve(request.path_params["model"])
        raise SIEError(
            Code.INVALID_INPUT,
            f"Model '{address.id}' does not support extraction. Use an extraction model like GLiNER, GLiClass, or "
            "Florence-2.",
        )

    async def models(self, request: Request) -> Response:
        """Answer `GET /v1/models`."""
        return json(model_list(self._engine))

    async def model(self, request: Request) -> Response:
        """Answer `GET /v1/models/{model}`."""
        return json(model_info(self._engine.residency.names.resolve(request.path_params["model"])))
