"""Load on one address, by clients that compare every answer with the scores that a server alone gives."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Self

from rolling import Ask, raw, sdk

DOCUMENTS = ["w3 w4 w5", "w6", "w7 w8"]
# More than a proxy passes on at once.
LARGE = ["w9 " * 30_000, "w1 " * 10_000]
_WAIT_S = 120.0


@dataclass
class Calls:
    """Calls of one kind of client: sent, failed by what was said, and answered with other scores than those alone."""

    client: str
    sent: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    wrong: int = 0


# Makes a client of an address.
Client = Callable[[str], AbstractContextManager[Ask]]
# Clients that ask once, and the SDK, which asks again.
CLIENTS: Mapping[str, Client] = {
    "small": partial(raw, documents=DOCUMENTS),
    "large": partial(raw, documents=LARGE),
    "SDK": partial(sdk, documents=DOCUMENTS),
}


class SteadyLoad:
    """Clients that call one after the other, with a pause in between, until the context ends.

    alone: the address of a server alone, which is asked for the right scores now. threads: of each kind of client.
    """

    def __init__(
        self,
        url: str,
        alone: str,
        *,
        threads: int = 1,
        pause_s: float = 0.02,
        clients: Mapping[str, Client] = CLIENTS,
    ) -> None:
        self.calls = [Calls(name) for name in clients]
        self._pause_s = pause_s
        self._over = threading.Event()
        self._counting = threading.Lock()
        self._threads = []
        for calls in self.calls:
            client = clients[calls.client]
            with client(alone) as ask:
                right = ask()
            for _ in range(threads):
                self._threads.append(threading.Thread(target=self._call, args=(calls, client(url), right)))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def wait_for_more(self, each: int) -> None:
        """Wait until every kind of client has made `each` more calls."""
        before = [calls.sent for calls in self.calls]
        wait(lambda: all(calls.sent >= sent + each for calls, sent in zip(self.calls, before, strict=True)))

    def _call(self, calls: Calls, client: AbstractContextManager[Ask], right: dict[str, float]) -> None:
        with client as ask:
            while not self._over.wait(self._pause_s):
                self._count(calls, ask, right)

    def _count(self, calls: Calls, ask: Ask, right: dict[str, float]) -> None:
        said, scores = "", {}
        try:
            scores = ask()
        except Exception as error:  # whatever it is, a call was lost
            said = f"{type(error).__name__}: {error}"
        with self._counting:
            calls.sent += 1
            if said:
                calls.failed[said] += 1
            elif scores != right:
                calls.wrong += 1


def wait(condition: Callable[[], bool], seconds: float = _WAIT_S) -> None:
    """Wait until `condition` holds. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"did not come true within {seconds:g} s")
        time.sleep(0.05)
