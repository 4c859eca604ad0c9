"""Which connections may be closed so that others have a place: those that wait for a request, the oldest first."""

from typing import Protocol

# In a request's scope: a function that says that whoever sends it was let in.
ADMITTED = "sie.admitted"
_LEAST_EXTRA = 16


class Closable(Protocol):
    """A connection that may be closed between two requests."""

    def give_way(self) -> None:
        """Close it: another one needs the place."""
        ...


class Crowd:
    """The connections of a server that wait for a request.

    most: connections of all kinds. A quarter of them may be strangers, on which no request was let in yet; of one more
    the oldest goes. extra: connections above `most`, to be told so, and for probes, which always have an answer.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.extra = max(most // 4, _LEAST_EXTRA)
        self._most_strangers = max(most // 4, _LEAST_EXTRA)
        self._strangers: dict[Closable, None] = {}
        self._resting: dict[Closable, None] = {}

    def waits(self, connection: Closable, *, stranger: bool) -> None:
        """It has no request now."""
        (self._strangers if stranger else self._resting)[connection] = None
        if len(self._strangers) > self._most_strangers:
            self._close_first(self._strangers)

    def busy(self, connection: Closable) -> None:
        """It has one, or is gone."""
        self._strangers.pop(connection, None)
        self._resting.pop(connection, None)

    def make_room(self) -> bool:
        """Close one that waits; whether there was any."""
        return self._close_first(self._strangers) or self._close_first(self._resting)

    @staticmethod
    def _close_first(waiting: dict[Closable, None]) -> bool:
        first = next(iter(waiting), None)
        if first is None:
            return False
        del waiting[first]
        first.give_way()
        return True
