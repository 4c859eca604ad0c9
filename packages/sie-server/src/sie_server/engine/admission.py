"""How much may wait: what is refused at once, and when to ask again."""

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
# What older batches still weigh in a rate when the next one is added.
_KEPT = 0.9
_CHARACTERS_PER_TOKEN = 4
# Where no more than this part of a queue waits, a request of any size comes in.
_NEARLY_EMPTY = 8


@dataclass(slots=True)
class _Rate:
    """Tokens of a model that the device computed, and the seconds it took; older ones fade."""

    tokens: float = 0.0
    seconds: float = 0.0


def estimate(texts: Items[str] | Items[list[int]], repeated: str = "") -> int:
    """About how many tokens these texts have, each with `repeated` in front: one for four characters, and one each.

    Of scripts with a token per character it is a quarter. Lists of token ids count as they are.
    """
    characters = sum(map(len, texts)) if isinstance(texts[0], str) else sum(map(len, texts)) * _CHARACTERS_PER_TOKEN
    return (characters + len(texts) * len(repeated)) // _CHARACTERS_PER_TOKEN + len(texts)


class Admission:
    """Bounds on the tokens that wait in a scheduler, those that are still text included. Lives on the event loop.

    device_tokens, model_tokens: most that may wait for the device, and for one model. Of both a sender, that is a
    client in a class of priority, always has an even share, however much others have; so that more may wait in all,
    about three times as much for ten senders. Beyond its share it may have what is free. Where next to nothing waits,
    a request of any size comes in from a sender that has nothing there. What came in is not turned away later, when its
    tokens are known.
    """

    def __init__(self, scheduler: Scheduler, device_tokens: int, model_tokens: int) -> None:
        self._scheduler = scheduler
        self._device_tokens = device_tokens
        self._model_tokens = model_tokens
        # Estimates, of requests that are being tokenized.
        self._estimated = Backlog()
        self._rates: dict[str, _Rate] = {}

    @contextmanager
    def tokenizing(self, model_id: str, params: SchedulingParams, tokens: int) -> Iterator[None]:
        """Counts about so many tokens while they are being made.

        Raises:
            SIEError: QUEUE_FULL, or GATEWAY_TIMEOUT, the deadline will have passed before they are through.
        """
        self._check_room(model_id, params, tokens)
        # How much it is itself is known later: a text may be cut.
        self.check_deadline(model_id, params, 1)
        self._estimated.count(model_id, params, tokens)
        try:
            yield
        finally:
            self._estimated.count(model_id, params, -tokens)

    def check_deadline(self, model_id: str, params: SchedulingParams, tokens: int) -> None:
        """Raises SIEError: GATEWAY_TIMEOUT, at the rate that was measured so many tokens won't be through in time."""
        if params.deadline is None:
            return
        waiting = self._waiting()
        ahead = self._scheduler.ahead(params.client, params.priority, tokens) - tokens
        each_s = self._seconds(waiting) / waiting.total() if waiting else 0.0
        needed_s = ahead * each_s + self._seconds(Counter({model_id: tokens}))
        left_s = params.deadline - time.perf_counter()
        if needed_s > left_s:
            raise SIEError(
                Code.GATEWAY_TIMEOUT,
                f"this request would finish in about {needed_s:.2f} s, after its deadline in {max(left_s, 0):.2f} s",
                retry_after=_whole(needed_s - left_s),
            )

    def observe(self, model_id: str, tokens: int, seconds: float) -> None:
        """A batch took one worker so long."""
        rate = self._rates.setdefault(model_id, _Rate())
        rate.tokens = rate.tokens * _KEPT + tokens
        rate.seconds = rate.seconds * _KEPT + seconds

    def _check_room(self, model_id: str, params: SchedulingParams, tokens: int) -> None:
        waiting_tokens = self._scheduler.tokens + self._estimated.tokens
        if waiting_tokens + tokens <= min(self._device_tokens, self._model_tokens):
            return
        for scope, most, scope_name in (
            (None, self._device_tokens, "for all models"),
            (model_id, self._model_tokens, f"for model '{model_id}'"),
        ):
            held = self._scheduler.tokens_by_sender(scope) + self._estimated.by_sender(scope)
            if surplus := _surplus(held, (params.client, params.priority), tokens, most):
                waiting = self._waiting()
                total = held.total()
                raise SIEError(
                    Code.QUEUE_FULL,
                    f"{total} tokens are waiting and this request has about {tokens}; the limit {scope_name} is {most}",
                    # Those of one model go at the same pace as all.
                    retry_after=_whole(self._seconds(waiting) * surplus / total),
                )

    def _waiting(self) -> Counter[str]:
        """Tokens by model."""
        return self._scheduler.tokens_by_model() + self._estimated.by_model()

    def _seconds(self, tokens: Counter[str]) -> float:
        """How long the device takes for these tokens of these models; nothing for a model it has not seen yet."""
        rates = ((count, self._rates.get(model_id)) for model_id, count in tokens.items())
        spent = sum(count / rate.tokens * rate.seconds for count, rate in rates if rate is not None)
        return spent / self._scheduler.workers


def _surplus(held: Counter[Sender], sender: Sender, tokens: int, most: int) -> int:
    """About how many of the tokens that are held have to be gone before so many more of this sender may come in."""
    others = [(priority, count) for (client, priority), count in held.items() if (client, priority) != sender]
    own = held[sender]
    share = most // (len(others) + 1)
    total = held.total()
    if own + tokens <= share or total + tokens <= most or (not own and total <= most // _NEARLY_EMPTY):
        return 0
    if tokens > most:
        return max(total - most // _NEARLY_EMPTY, own)
    if tokens > share:
        return total + tokens - most
    # Until enough of its own are gone: those of others go as well, of higher classes all, of its own in turns.
    surplus = own + tokens - share
    higher = {priority for priority in WEIGHTS if WEIGHTS[priority] > WEIGHTS[sender[1]]}
    ahead = [count if priority in higher else min(count, surplus) for priority, count in others]
    return min(surplus + sum(ahead), total + tokens - most)


def _whole(seconds: float) -> int:
    return min(max(math.ceil(seconds), 1), _MAX_RETRY_AFTER_S)
