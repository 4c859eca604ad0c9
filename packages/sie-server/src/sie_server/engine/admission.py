"""Admission: limits on the tokens that wait, and when a refused client should retry."""

import math
import time
from collections import Counter
from collections.abc import Iterator
from collections.abc import Sequence as Items
from contextlib import contextmanager
from dataclasses import dataclass

from sie_server.engine.backlog import Backlog, Sender
from sie_server.engine.fair_queue import WEIGHTS
from sie_server.engine.scheduler import Scheduler
from sie_server.engine.scheduling_params import SchedulingParams
from sie_server.errors import Code, SIEError

_MAX_RETRY_AFTER_S = 60
# Weight of the past in a rate when a batch is added.
_DECAY = 0.9
_CHARACTERS_PER_TOKEN = 4
# Up to one part in this many of its limit, a queue counts as nearly empty and admits a request of any size.
_NEARLY_EMPTY = 8


@dataclass(slots=True)
class _Rate:
    """Exponentially decaying sums of the tokens of a model that were computed, and of the seconds this took."""

    tokens: float = 0.0
    seconds: float = 0.0

    def of(self, tokens: int) -> float:
        """Estimate the seconds of this many tokens; zero if nothing was computed."""
        return tokens / self.tokens * self.seconds if self.tokens else 0.0


def estimate(texts: Items[str] | Items[list[int]], repeated: str = "") -> int:
    """Estimate the tokens of texts, each with `repeated` in front: one per four characters, and one per text.

    For scripts with one token per character this is a quarter of the tokens. Lists of token ids count exactly.
    """
    characters = sum(map(len, texts)) if isinstance(texts[0], str) else sum(map(len, texts)) * _CHARACTERS_PER_TOKEN
    return (characters + len(texts) * len(repeated)) // _CHARACTERS_PER_TOKEN + len(texts)


class Admission:
    """Limits on the tokens that wait in a scheduler, or to be tokenized. Lives on the event loop.

    device_tokens, model_tokens: maximum number of tokens that wait for the device, and for one model. A sender (a
    client in a priority class) may always use an equal share of both, however much others use; in total, more tokens
    than the limit may therefore wait, about three times as many with ten senders. Beyond its share, a sender may use
    what is free. If the queue is nearly empty, a request of any size is admitted from a sender without others in it. An
    admitted request is not refused later, when its number of tokens is known.
    """

    def __init__(self, scheduler: Scheduler, device_tokens: int, model_tokens: int) -> None:
        self._scheduler = scheduler
        self._device_tokens = device_tokens
        self._model_tokens = model_tokens
        # Estimated tokens of requests that are being tokenized.
        self._estimated = Backlog()
        self._rates: dict[str, _Rate] = {}

    @contextmanager
    def tokenizing(self, model_id: str, params: SchedulingParams, tokens: int) -> Iterator[None]:
        """Reserves an estimate of `tokens` tokens while the request is being tokenized.

        Raises:
            SIEError: QUEUE_FULL; GATEWAY_TIMEOUT, the request would complete after its deadline.
        """
        self._check_limits(model_id, params, tokens)
        # The request's own tokens are known later: texts may be truncated.
        self.check_deadline(model_id, params, 1)
        self._estimated.count(model_id, params, tokens)
        try:
            yield
        finally:
            self._estimated.count(model_id, params, -tokens)

    def check_deadline(self, model_id: str, params: SchedulingParams, tokens: int) -> None:
        """Refuse a request of `tokens` tokens that would complete after its deadline, at the rates measured so far.

        Raises:
            SIEError: GATEWAY_TIMEOUT.
        """
        if params.deadline is None:
            return
        waiting = self._waiting()
        ahead = self._scheduler.ahead(params.client, params.priority, tokens) - tokens
        per_token_s = self._seconds(waiting) / waiting.total() if waiting else 0.0
        needed_s = ahead * per_token_s + self._seconds(Counter({model_id: tokens}))
        left_s = params.deadline - time.perf_counter()
        if needed_s > left_s:
            raise SIEError(
                Code.GATEWAY_TIMEOUT,
                f"this request would finish in about {needed_s:.2f} s, after its deadline in {max(left_s, 0):.2f} s",
                retry_after=_retry_after(needed_s - left_s),
            )

    def observe(self, model_id: str, tokens: int, seconds: float) -> None:
        """Update a model's rate: one worker took `seconds` for a batch of `tokens` tokens."""
        rate = self._rates.setdefault(model_id, _Rate())
        rate.tokens = rate.tokens * _DECAY + tokens
        rate.seconds = rate.seconds * _DECAY + seconds

    def queue_seconds(self) -> dict[str, float]:
        """Estimate the seconds of device time that wait, by model, at the rates measured so far.

        Tokens that are being tokenized count. A model of which nothing was computed yet has the rate of the others, or
        zero seconds if there are none.
        """
        measured = _Rate(sum(r.tokens for r in self._rates.values()), sum(r.seconds for r in self._rates.values()))
        return {
            model_id: self._rates.get(model_id, measured).of(tokens) / self._scheduler.workers
            for model_id, tokens in self._waiting().items()
        }

    def _check_limits(self, model_id: str, params: SchedulingParams, tokens: int) -> None:
        waiting_tokens = self._scheduler.tokens + self._estimated.tokens
        if waiting_tokens + tokens <= min(self._device_tokens, self._model_tokens):
            return
        for scope, limit, scope_name in (
            (None, self._device_tokens, "for all models"),
            (model_id, self._model_tokens, f"for model '{model_id}'"),
        ):
            held = self._scheduler.tokens_by_sender(scope) + self._estimated.by_sender(scope)
            if surplus := _surplus(held, (params.client, params.priority), tokens, limit):
                waiting = self._waiting()
                total = held.total()
                raise SIEError(
                    Code.QUEUE_FULL,
                    f"{total} tokens are waiting and this request has about {tokens}; "
                    f"the limit {scope_name} is {limit}",
                    # The tokens of one model decrease at the same rate as all.
                    retry_after=_retry_after(self._seconds(waiting) * surplus / total),
                )

    def _waiting(self) -> Counter[str]:
        """Waiting tokens by model, those being tokenized included."""
        return self._scheduler.tokens_by_model() + self._estimated.by_model()

    def _seconds(self, tokens: Counter[str]) -> float:
        """Estimate the seconds that the device takes for these tokens by model; zero for models not yet measured."""
        spent = sum(self._rates[model_id].of(count) for model_id, count in tokens.items() if model_id in self._rates)
        return spent / self._scheduler.workers


def _surplus(held: Counter[Sender], sender: Sender, tokens: int, limit: int) -> int:
    """Estimate how many of the waiting tokens must be computed before `sender` may add `tokens` more; 0: none."""
    others = [(priority, count) for (client, priority), count in held.items() if (client, priority) != sender]
    sender_tokens = held[sender]
    share = limit // (len(others) + 1)
    total = held.total()
    if (
        sender_tokens + tokens <= share
        or total + tokens <= limit
        or (not sender_tokens and total <= limit // _NEARLY_EMPTY)
    ):
        return 0
    if tokens > limit:
        return max(total - limit // _NEARLY_EMPTY, sender_tokens)
    if tokens > share:
        return total + tokens - limit
    # The sender's own surplus, and what is computed meanwhile: all of higher classes, the same of each other sender.
    surplus = sender_tokens + tokens - share
    higher = {priority for priority in WEIGHTS if WEIGHTS[priority] > WEIGHTS[sender[1]]}
    ahead = [count if priority in higher else min(count, surplus) for priority, count in others]
    return min(surplus + sum(ahead), total + tokens - limit)


def _retry_after(seconds: float) -> int:
    return min(max(math.ceil(seconds), 1), _MAX_RETRY_AFTER_S)
