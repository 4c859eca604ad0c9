"""The whole life of a request between the wire and the device."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Items
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from typing import Any, ParamSpec, TypeVar, cast

from sie_server.catalog.catalog import Entry
from sie_server.checkpoints.description import inspect
from sie_server.checkpoints.load import Encoders, Loader, Weighed, load, weigh
from sie_server.engine.admission import Admission, estimate
from sie_server.engine.calls import EncodeCall, ScoreCall
from sie_server.engine.deadline import TIMER_SLACK_S, check_deadline, expired, until_deadline
from sie_server.engine.documents import Documents, tokenize
from sie_server.engine.gauges import Gauges
from sie_server.engine.highlights import Traced
from sie_server.engine.input_texts import texts_to_encode, texts_to_score, work_on
from sie_server.engine.request import Batch, Request, Weigh
from sie_server.engine.results import DocumentScore, Encoding, Ranking, Timing, rank, score_texts
from sie_server.engine.runner import Runner
from sie_server.engine.scheduler import Scheduler
from sie_server.engine.scheduling_params import SchedulingParams
from sie_server.engine.score_cache import score_cache
from sie_server.engine.watchdog import Watchdog
from sie_server.engine.worker_pool import WorkerPool
from sie_server.errors import Code, SIEError
from sie_server.machine.cores import usable_cores
from sie_server.machine.malloc import trim_and_tune
from sie_server.machine.memory import machine_budget
from sie_server.machine.numa import pinned_cores, usable_nodes
from sie_server.metrics import Metrics
from sie_server.models.loaded_model import LoadedModel, NoMatchesError
from sie_server.nn.device import resolve_device
from sie_server.nn.heads import Head, HeadGroup
from sie_server.nn.linear_backends import RowCountTrials
from sie_server.nn.precision import choose_precision
from sie_server.options import LongDocuments
from sie_server.request_context import record, timed
from sie_server.residency.capabilities import unsupported
from sie_server.residency.housekeeping import Housekeeper
from sie_server.residency.memory_budget import MemoryBudget
from sie_server.residency.residency import Residency
from sie_server.settings import Settings
from sie_server.stepwise import Steps, clear_one_by_one, one_step
from sie_server.tokenization.config import LengthLimits
from sie_server.tokenization.prompt import instructed
from sie_server.tokenization.sequence import Sequence
from sie_server.tokenization.tokenizer import TextTokenizer

_LOG = logging.getLogger(__name__)
_CPU_BATCH_TOKENS = 512
_GPU_BATCH_TOKENS = 16384
_JOIN_S = 10.0

T = TypeVar("T")
P = ParamSpec("P")
# Sequences, or documents of a ranking, that take the event loop no more than a few milliseconds.
FEW = 1024
_SCORE = ("score",)


class Engine:
    """Scores and embeds text with the models of one device. One per process; lives on the event loop."""

    def __init__(
        self,
        settings: Settings,
        entries: Mapping[str, Entry],
        metrics: Metrics,
        loader: Loader | None = None,
        fetch: Callable[[Entry], None] = lambda _: None,
        on_lost: Callable[[], None] | None = None,
    ) -> None:
        """loader: of weights, `load` if none is given; fetch: of files, ahead of it, as `Residency` has them.

        `on_lost` is called, on another thread, when the device can't be worked with any more.

        Raises:
            ValueError: the device or the precision is not available here, the models folder is not a folder, or the
                score cache is too large, or separate by API key without API keys.
        """
        self.device = resolve_device(settings.device)
        self.precision = choose_precision(settings.precision, self.device)  # refused now, not at the first load
        _LOG.info("%s", self.precision.described())
        self._settings = settings
        self._metrics = metrics
        self._cache = score_cache(settings, metrics)
        on_cpu = self.device.type == "cpu"
        workers = settings.workers or (usable_cores() if on_cpu else 1)
        budget = settings.batch_tokens or (_CPU_BATCH_TOKENS if on_cpu else _GPU_BATCH_TOKENS)
        cached = settings.score_cache if on_cpu else 0
        self.scheduler = Scheduler(budget, workers)
        self._trials, self._encoders = RowCountTrials(), Encoders()
        self.residency = Residency(
            (),
            partial(self._load, loader or load),
            MemoryBudget(settings.memory_budget or machine_budget(self.device) - cached, workers),
            metrics,
            batch_tokens=budget,
            load_wait_s=settings.load_wait,
            load_timeout_s=settings.load_timeout,
            pinned=settings.pinned,
            aliases=settings.aliases,
            fetch=fetch,
            weigh=lambda entry: weigh(entry, self.device, settings.precision, self._encoders),
        )
        for entry, fault in map(inspect, entries.values()):
            self.residency.put(entry, fault)
        self._housekeeper = Housekeeper(self.residency, settings, metrics, lambda: self.busy_seconds)
        per_model = settings.model_queue_tokens or settings.queue_tokens
        self._admission = Admission(self.scheduler, settings.queue_tokens, per_model)
        self._tokenizers = WorkerPool(settings.tokenizer_threads, "tokenize")
        self._runner: Runner | None = None
        self._watchdog: Watchdog | None = None
        self._on_lost = on_lost
        self._lost: str | None = None
        self.busy_seconds = 0.0
        self.computed_tokens = 0
        self._device_busy = metrics.device_busy.labels(str(self.device))
        metrics.queue_limit.set(settings.queue_tokens)
        metrics.refreshing.append(Gauges(metrics, self.scheduler, self._admission, self.residency, self.device).refresh)

    def start(self) -> None:
        """Start the device threads, and what looks after them, on the running event loop."""
        self._runner = Runner(
            self.scheduler,
            self.device,
            self._metrics,
            self._observe,
            self._lose,
            pinned_cores(self.scheduler.workers, self._settings.pin_workers, usable_nodes()),
        )
        self._runner.start()
        self._housekeeper.start()
        if self._settings.wedged_after:
            self._watchdog = Watchdog(self._runner, self._settings.wedged_after, self._lose)
            self._watchdog.start()

    async def close(self) -> None:
        """Finish what is queued, then stop every thread."""
        self._housekeeper.close()
        self.scheduler.close()
        if self._watchdog is not None:
            self._watchdog.stop()
        if self._runner is not None and self._lost is None:
            await asyncio.to_thread(self._runner.join, _JOIN_S)
        self._tokenizers.close()
        await self.residency.close()

    @property
    def trouble(self) -> str | None:
        """Why nothing can be computed, if so."""
        if self._lost is None and (self._runner is None or not self._runner.alive):
            return "device thread died"
        return self._lost

    def queue_seconds(self) -> dict[str, float]:
        """Estimate the seconds of device time that wait, by model."""
        return self._admission.queue_seconds()

    async def score(self, call: ScoreCall) -> Ranking:
        """Rank documents by their relevance to a query; the model says what its scores mean (`LoadedModel.score`).

        Raises:
            SIEError: MODEL_NOT_FOUND, MODEL_LOADING or MODEL_LOAD_FAILED; INVALID_INPUT, the model does not score, not
                by this comparison or not these texts; INPUT_TOO_LONG; QUEUE_FULL; GATEWAY_TIMEOUT; RESOURCE_EXHAUSTED;
                INFERENCE_ERROR.
        """
        async with until_deadline(call.scheduling.deadline), self.residency.serving(call.model_id, _SCORE) as model:
            return await self.score_with(model, call)

    async def encode(self, call: EncodeCall) -> Encoding:
        """Embed texts, or lists of token ids.

        Raises:
            SIEError: as `score`; INVALID_INPUT, a token id is unknown, or a template is faulty.
        """
        async with (
            until_deadline(call.scheduling.deadline),
            self.residency.serving(call.model_id, call.required) as model,
        ):
            return await self._encode(model, call)

    async def with_tokenizer(
        self, model_id: str, params: SchedulingParams, tokens: int, work: Callable[[TextTokenizer], Steps[T]]
    ) -> T:
        """Do work with a model's tokenizer, on up to `tokens` tokens. Raises SIEError, as `score`."""
        async with until_deadline(params.deadline), self.residency.serving(model_id) as model:
            with self._admission.tokenizing(model_id, params, tokens):
                return await self._tokenizers.run(params, work(model.tokenizer))

    async def score_with(self, model: LoadedModel, call: ScoreCall) -> Ranking:
        """`score` with a model that the caller keeps in memory."""
        timing, params, traced = Timing(), call.scheduling, call.encode_highlights is not None
        head: Head | None = model.encoder.head
        if head is not None and traced:
            raise NoMatchesError(model.entry)
        query, texts, instruction = texts_to_score(model, call, self._settings.max_rendered_bytes)
        limits = self._limited(call.limits, call.long_documents or model.entry.long_documents)
        size = work_on(texts)
        documents = await self._aside(size, params, Documents.of, texts)
        if self._cache is not None and not traced:  # which have more than scores
            keys = await self._aside(size, params, self._cache.keys, model, call, limits, query, documents)
            documents = self._cache.look_up(model.id, documents, keys, limits)
        scores: list[DocumentScore] = []
        sequences: list[Sequence] = []
        trace: Traced | None = None
        try:
            if unknown := documents.unknown:
                with self._admission.tokenizing(model.id, params, estimate(unknown, query)):
                    steps = tokenize(model, query, documents, limits, instruction)
                    documents, lead, sequences = await self._tokenize(steps, timing, params, here=True)
                if lead is not None:
                    head = model.similarity(lead, call.comparison, matches=traced)
                    call.checks.token_vectors(lead.token_vectors)
                assert head is not None
                results = await self._run("scoring", model, head, sequences, timing, params)
                scores, best = await self._aside(len(sequences), params, score_texts, model, lead, sequences, results)
                # Tokens of batches are counted there, without what the sequences share.
                if shared := scores[0].prefix + scores[0].lead:
                    self._metrics.tokens.labels(model.id).inc(shared)
                if self._cache is not None:
                    self._cache.put(documents, scores)
                if traced and lead is not None:
                    chosen = [sequences[index] for index in best], [results[index] for index in best]
                    trace = Traced(lead, *map(documents.each, chosen))
            else:
                check_deadline(params.deadline)
            ranked = partial(rank, model, documents.scores(scores), timing, call.comparison, call.top_k)
            ranking = await self._aside(len(texts), params, ranked)
            if documents.repeated:
                self._metrics.repeated_documents.labels(model.id).inc(documents.repeated)
            if trace is not None:
                ranking.highlights = await self._highlights(model, call, query, texts, trace, ranking)
            return ranking
        finally:
            self._let_go(sequences)

    async def _highlights(
        self, model: LoadedModel, call: ScoreCall, query: str, documents: Items[str], trace: Traced, ranking: Ranking
    ) -> list[Any]:
        assert call.encode_highlights is not None
        text = instructed(query, call.instruction)
        steps = trace.highlights.steps(
            model.tokenizer, text, documents, ranking.order, call.encode_highlights, len(text) - len(query)
        )
        try:
            return await self._tokenize(steps, ranking.timing, call.scheduling)
        finally:
            self._let_go(trace.documents)
            self._let_go(trace.matches)

    async def _encode(self, model: LoadedModel, call: EncodeCall) -> Encoding:
        if "score" in call.outputs:  # an output of the model, but none of a text
            raise unsupported(model.entry, ["score"])
        call.checks.model(model.entry)
        texts = await self._rendered(model.entry, call)
        heads = model.embedders(
            call.outputs, call.pooling, normalize=call.normalize, muvera=call.muvera, is_query=call.is_query
        )
        return await self._embed(model, texts, heads, call)

    async def _embed(
        self,
        model: LoadedModel,
        texts: Items[str] | Items[list[int]],
        heads: Mapping[str, Head],
        call: EncodeCall,
    ) -> Encoding:
        timing, params = Timing(), call.scheduling
        limits = self._limited(call.limits, call.limits.long_documents)
        tokenize = model.tokenizer.encode_queries if call.is_query else model.tokenizer.encode_documents
        sequences: list[Sequence] = []
        try:
            with self._admission.tokenizing(model.id, params, estimate(texts)):
                sequences = await self._tokenize(tokenize.steps(texts, limits), timing, params)
            counts = (sequence.token_vectors for sequence in sequences)
            call.checks.token_vectors(await self._aside(len(sequences), params, sum, counts))
            weigh = call.checks.embedding if "sparse" in heads else None
            vectors = await self._run("encoding", model, HeadGroup(heads), sequences, timing, params, weigh)
            return Encoding(vectors, model.entry, sum(map(len, sequences)), timing)
        finally:
            self._let_go(sequences)

    async def _rendered(self, entry: Entry, call: EncodeCall) -> Items[str] | Items[list[int]]:
        """The call's texts in their template; token ids as they are."""
        if isinstance(call.texts[0], list):
            return cast(Items[list[int]], call.texts)
        texts = cast(Items[str | None], call.texts)
        size, most = work_on([text for text in texts if text is not None]), self._settings.max_rendered_bytes
        rendered = await self._aside(size, call.scheduling, texts_to_encode, entry, call, most)
        return call.checks.rendered(rendered)

    async def _aside(
        self, size: int, params: SchedulingParams, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """The result of work on `size` sequences or the like: at once, or off the event loop if there are many."""
        if size <= FEW:
            return work(*args, **kwargs)
        return await self._tokenizers.run(params, one_step(partial(work, *args, **kwargs)))

    def _let_go(self, used: list[Any]) -> None:
        """Free the elements of a list after its last use; many of them are freed off the event loop."""
        if len(used) > FEW:
            self._tokenizers.run_in_background(one_step(lambda: clear_one_by_one(used)))

    async def _tokenize(self, steps: Steps[T], timing: Timing, params: SchedulingParams, *, here: bool = False) -> T:
        """here: what is in front of the first step takes less than handing it over, and is run at once."""
        started = time.perf_counter()
        with timed("tokenize"):
            try:
                size = next(steps) if here else 0
            except StopIteration as stop:
                tokenized: T = stop.value
            else:
                tokenized = await self._tokenizers.run(params, steps, size)
        timing.tokenization += time.perf_counter() - started
        return tokenized

    def _limited(self, limits: LengthLimits, long_documents: LongDocuments) -> LengthLimits:
        """The limits of a call together with the server's."""
        windows, total = self._settings.max_windows, self._settings.max_request_tokens
        return replace(limits, long_documents=long_documents, windows=windows, total=total)

    async def _run(
        self,
        task: str,
        model: LoadedModel,
        head: Head,
        sequences: list[Sequence],
        timing: Timing,
        params: SchedulingParams,
        weigh: Weigh | None = None,
    ) -> list[Any]:
        future = asyncio.get_running_loop().create_future()
        if len(sequences) <= FEW:
            request = Request(model, head, sequences, future, params, weigh)
        else:  # in this context, which says whose request it is
            make = partial(Request, model, head, sequences, future, params, weigh)
            request = await self._tokenizers.run(params, one_step(partial(copy_context().run, make)))
        if params.deadline is not None:
            self._admission.check_deadline(model.id, params, request.tokens)
        assert self._runner is not None
        self._runner.add(request)
        reason = "gone"
        try:
            results = await request.future
        except SIEError:
            reason = "failed"
            raise
        except Exception as error:  # logged where it was raised; a client is told no more than that it happened
            reason = "failed"
            raise SIEError(Code.INFERENCE_ERROR, f"internal error during {task}") from error
        finally:
            if request.pending:  # A caller that has gone, or an error in one batch: that must not reach the device.
                self.scheduler.discard(request)
            if request.batches is not None:
                record(*request.stages())
            if request.dropped:
                reason = "deadline" if expired(params.deadline, time.perf_counter() + TIMER_SLACK_S) else reason
                self._metrics.cancelled.labels(model.id, reason).inc(request.dropped)
        assert request.started is not None
        timing.queue += request.started - request.added
        timing.inference += request.ended - request.started
        return results

    def _lose(self, reason: str) -> None:
        self._lost = reason
        if self._on_lost is not None:
            self._on_lost()

    def _observe(self, batch: Batch, seconds: float) -> None:
        model_id = batch.model.id
        self._admission.observe(model_id, batch.tokens, seconds)
        self.busy_seconds += seconds
        self.computed_tokens += batch.tokens
        self._device_busy.inc(seconds)
        self._metrics.observe_batch(model_id, batch.lengths, seconds)

    def _load(self, loader: Loader, entry: Entry, weighed: Weighed | None) -> LoadedModel:
        started, precision = time.perf_counter(), self._settings.precision
        model = loader(entry, self.device, precision, trials=self._trials, weighed=weighed, encoders=self._encoders)
        self._metrics.load_seconds.labels(model.id).observe(time.perf_counter() - started)
        trim_and_tune()
        return model
