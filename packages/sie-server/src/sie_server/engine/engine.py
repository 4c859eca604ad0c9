"""The whole life of a request between the wire and the device."""

import asyncio
import time
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Items
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import torch

from sie_server.catalog.catalog import Entry
from sie_server.checkpoints.load import inspect, load, weight_bytes
from sie_server.cooperative import Steps, emptied, finished, one_step
from sie_server.engine.admission import Admission, estimate
from sie_server.engine.capabilities import require
from sie_server.engine.gauges import Gauges
from sie_server.engine.highlights import Highlight
from sie_server.engine.in_use import in_use
from sie_server.engine.request import Batch, Request, Weigh
from sie_server.engine.results import Encoded, Scored, Timing, scored
from sie_server.engine.runner import Runner
from sie_server.engine.scheduler import Scheduler
from sie_server.engine.scheduling_params import TIMER_SLACK_S, SchedulingParams
from sie_server.engine.watchdog import Watchdog
from sie_server.engine.worker_pool import WorkerPool
from sie_server.errors import Code, SIEError
from sie_server.machine.cores import usable_cores
from sie_server.machine.malloc import trim_and_tune
from sie_server.machine.memory import machine_budget
from sie_server.metrics import Metrics
from sie_server.models.loaded_model import Comparison, LoadedModel, no_matches
from sie_server.nn.device import resolve_device, resolve_precision
from sie_server.nn.heads import Head, HeadGroup
from sie_server.nn.linear_backends import RowCountTrials
from sie_server.options import Precision
from sie_server.request_context import record, timed
from sie_server.residency.housekeeping import Housekeeper
from sie_server.residency.memory_budget import MemoryBudget
from sie_server.residency.residency import Residency
from sie_server.settings import Settings
from sie_server.tokenization.config import LengthLimits
from sie_server.tokenization.prompt import instructed
from sie_server.tokenization.sequence import Sequence

_CPU_BATCH_TOKENS = 512
_GPU_BATCH_TOKENS = 16384
_JOIN_S = 10.0

T = TypeVar("T")
Loader = Callable[[Entry, torch.device, Precision], LoadedModel]
Check = Callable[[int], None]
# Sequences, or entries of an answer, that take the event loop a few milliseconds.
FEW = 1024


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
            ValueError: a device or precision that is not to be had here, or a models folder that is none.
        """
        self.device = resolve_device(settings.device)
        resolve_precision(settings.precision, self.device)  # refused now, not at the first load
        self._settings = settings
        self._metrics = metrics
        on_cpu = self.device.type == "cpu"
        workers = settings.workers or (usable_cores() if on_cpu else 1)
        budget = settings.batch_tokens or (_CPU_BATCH_TOKENS if on_cpu else _GPU_BATCH_TOKENS)
        self.scheduler = Scheduler(budget, workers)
        self.residency = Residency(
            (),
            partial(self._load, loader or partial(load, trials=RowCountTrials())),
            MemoryBudget(settings.memory_budget or machine_budget(self.device), workers),
            metrics,
            batch_tokens=budget,
            load_wait_s=settings.load_wait,
            load_timeout_s=settings.load_timeout,
            pinned=settings.pinned,
            fetch=fetch,
            weigh=lambda entry: weight_bytes(entry, self.device, settings.precision),
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
        # Tasks of requests that wait for a load.
        self._held: set[asyncio.Task[Any]] = set()
        self.busy_seconds = 0.0
        metrics.queue_limit.set(settings.queue_tokens)
        metrics.refreshing.append(Gauges(metrics, self.scheduler, self.residency, self.device).refresh)

    def start(self) -> None:
        """Start the device threads, and what looks after them, on the running event loop."""
        self._runner = Runner(self.scheduler, self.device, self._metrics, self._observe, self._lose)
        self._runner.start()
        self._housekeeper.start()
        if self._settings.wedged_after:
            self._watchdog = Watchdog(self._runner, self._settings.wedged_after, self._lose)
            self._watchdog.start()

    def release(self) -> None:
        """Cancel the requests that wait for a load: the server shuts down."""
        for task in self._held:
            task.cancel()

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

    async def model(
        self, model_id: str, outputs: Items[str], terms: SchedulingParams = SchedulingParams()
    ) -> LoadedModel:
        """The loaded model that gives these outputs ("score", "dense", "sparse", "multivector").

        Raises:
            SIEError: MODEL_NOT_FOUND; INVALID_INPUT for a task or output it does not have; MODEL_LOADING;
                MODEL_LOAD_FAILED; GATEWAY_TIMEOUT.
        """
        entry = self.residency.slot(model_id).entry
        if entry.outputs is not None:
            require(entry, outputs)
        task = asyncio.current_task()
        assert task is not None
        self._held.add(task)
        try:
            with timed("load"):
                async with terms.until_deadline():
                    model = await self.residency.model(model_id)
        finally:
            self._held.discard(task)
        require(model.entry, outputs)
        return model

    @in_use
    async def score(
        self,
        model: LoadedModel,
        query: str,
        documents: Items[str],
        limits: LengthLimits,
        instruction: str | None = None,
        comparison: Comparison = Comparison(),
        terms: SchedulingParams = SchedulingParams(),
        check: Check = lambda _: None,
    ) -> Scored:
        """Relevance of each document to the query; what the number means is `model.score`.

        comparison: of embeddings, where that is how the model scores. check: told how many tokens of the query have
        vectors, before anything is computed; raises what the request is refused with.

        Raises:
            SIEError: INVALID_INPUT, the comparison is none for this model; INPUT_TOO_LONG; QUEUE_FULL;
                GATEWAY_TIMEOUT; RESOURCE_EXHAUSTED; INFERENCE_ERROR.
        """
        timing = Timing()
        head: Head | None = model.encoder.head
        lead: Sequence | None = None
        if head is not None and comparison.matches:
            raise no_matches(model.entry)
        quick = model.tokenizer.is_cheap(documents, query, instruction)
        limits = self._limited(limits)
        sequences: list[Sequence] = []
        try:
            async with terms.until_deadline():
                with self._admission.tokenizing(model.id, terms, estimate(documents, query)):
                    if head is not None:
                        pairs = model.tokenizer.encode_pairs.steps(query, documents, limits, instruction)
                        sequences = await self._tokenize(pairs, timing, terms, quick)
                    else:
                        apart = model.tokenizer.encode_apart.steps(query, documents, limits, instruction)
                        read, sequences = await self._tokenize(apart, timing, terms, quick)
                        head, lead = model.similarity(read, comparison), read
                if lead is not None:
                    check(_vectors(lead))
                results = await self._run("scoring", model, head, sequences, timing, terms)
            answer = await self.aside(
                one_step(lambda: scored(model, lead, sequences, results, timing, traced=comparison.matches)),
                terms,
                quick=len(sequences) <= FEW,
            )
            # Those of the batches are counted there, without what the sequences share.
            self._metrics.tokens.labels(model.id).inc(answer.tokens - sum(map(len, sequences)))
            return answer
        finally:
            self._let_go(sequences)

    async def highlights(
        self,
        model: LoadedModel,
        ranked: Scored,
        query: str,
        instruction: str | None,
        documents: Items[str],
        chosen: Items[int],
        write: Callable[[list[Highlight]], T],
        terms: SchedulingParams = SchedulingParams(),
    ) -> list[T]:
        """Why the chosen documents of a traced score got it, in their order; what is written of each document's.

        Raises:
            SIEError: GATEWAY_TIMEOUT.
        """
        assert ranked.traced is not None
        read = instructed(query, instruction)
        given = len(read) - len(query)
        trace = ranked.traced.highlights.steps(model.tokenizer, read, documents, chosen, write, given)
        try:
            async with terms.until_deadline():
                return await self._tokenize(trace, ranked.timing, terms)
        finally:
            self._let_go(ranked.traced.documents)
            self._let_go(ranked.traced.matches)

    @in_use
    async def encode(
        self,
        model: LoadedModel,
        texts: Items[str] | Items[list[int]],
        heads: Mapping[str, Head],
        limits: LengthLimits,
        is_query: bool = False,
        terms: SchedulingParams = SchedulingParams(),
        check: Check = lambda _: None,
        weigh: Weigh | None = None,
    ) -> Encoded:
        """What each head reads off each text, or off each list of token ids.

        is_query: the texts are queries, which late interaction reads in another way. check: told how many tokens of all
        texts have vectors, before anything is computed; raises what the request is refused with. weigh: the same, shown
        what each text gave as it comes.

        Raises:
            SIEError: INVALID_INPUT, an id that the tokenizer does not have, or no room for a query; INPUT_TOO_LONG;
                QUEUE_FULL; GATEWAY_TIMEOUT; RESOURCE_EXHAUSTED; INFERENCE_ERROR.
        """
        timing = Timing()
        tokenize = model.tokenizer.encode_queries if is_query else model.tokenizer.encode_documents
        sequences: list[Sequence] = []
        try:
            async with terms.until_deadline():
                with self._admission.tokenizing(model.id, terms, estimate(texts)):
                    sequences = await self._tokenize(tokenize.steps(texts, self._limited(limits)), timing, terms)
                counted = one_step(lambda: sum(map(_vectors, sequences)))
                check(await self.aside(counted, terms, quick=len(sequences) <= FEW))
                vectors = await self._run("encoding", model, HeadGroup(heads), sequences, timing, terms, weigh)
            return Encoded(vectors, sum(map(len, sequences)), timing)
        finally:
            self._let_go(sequences)

    async def aside(self, steps: Steps[T], terms: SchedulingParams, *, quick: bool = False) -> T:
        """What comes of the steps, which others have their turns between; at once where that is quick."""
        return finished(steps) if quick else await self._tokenizers.run(terms, steps)

    def _let_go(self, used: list[Any]) -> None:
        """Free what nobody needs any more; many sequences and the like not on the event loop."""
        if len(used) > FEW:
            self._tokenizers.later(one_step(lambda: emptied(used)))

    async def _tokenize(self, steps: Steps[T], timing: Timing, terms: SchedulingParams, quick: bool = False) -> T:
        """quick: the first step takes less than handing it over, and is taken at once."""
        started = time.perf_counter()
        with timed("tokenize"):
            try:
                size = next(steps) if quick else 0
            except StopIteration as stop:
                tokenized: T = stop.value
            else:
                tokenized = await self._tokenizers.run(terms, steps, size)
        timing.tokenization += time.perf_counter() - started
        return tokenized

    def _limited(self, limits: LengthLimits) -> LengthLimits:
        """With those of the server."""
        return replace(limits, windows=self._settings.max_windows, total=self._settings.max_request_tokens)

    async def _run(
        self,
        task: str,
        model: LoadedModel,
        head: Head,
        sequences: list[Sequence],
        timing: Timing,
        terms: SchedulingParams,
        weigh: Weigh | None = None,
    ) -> list[Any]:
        future = asyncio.get_running_loop().create_future()

        def make() -> Request:
            return Request(model, head, sequences, future, terms, weigh)

        # In this context, which says whose request it is.
        made = one_step(partial(copy_context().run, make))
        request = await self.aside(made, terms) if len(sequences) > FEW else make()
        self._admission.check_deadline(model.id, terms, request.tokens)
        self.scheduler.add(request)
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
            # A caller that has gone, or an error in one batch: what still waits must not reach the device.
            self.scheduler.discard(request)
            record(*request.stages())
            if request.dropped:
                reason = "deadline" if terms.expired(time.perf_counter() + TIMER_SLACK_S) else reason
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
        self._metrics.device_busy.labels(str(self.device)).inc(seconds)
        self._metrics.observe_batch(model_id, list(map(len, batch.sequences)), seconds)

    def _load(self, loader: Loader, entry: Entry) -> LoadedModel:
        started = time.perf_counter()
        model = loader(entry, self.device, self._settings.precision)
        self._metrics.load_seconds.labels(model.id).observe(time.perf_counter() - started)
        trim_and_tune()
        return model


def _vectors(sequence: Sequence) -> int:
    """How many of its tokens have vectors."""
    return len(sequence) if sequence.keep is None else int(sequence.keep.sum())
