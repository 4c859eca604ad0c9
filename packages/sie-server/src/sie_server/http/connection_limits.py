"""Who has the places that there are for connections, and who gives way so that others have one."""

from typing import Protocol

# In a request's scope: a function that is told whom the request is from that was let in, and returns why it can't be
# answered, if there is no place for it.
ADMITTED = "sie.admitted"
_LEAST_EXTRA = 16


class Closable(Protocol):
    """A connection that may be closed."""

    @property
    def receives(self) -> bool:
        """Whether the body of its request has not come yet."""
        ...

    def give_way(self) -> None:
        """Close it: another one needs the place. It says so to `Crowd.left` when it is gone."""
        ...


class Crowd:
    """The connections of a server.

    most: connections of all kinds. Between two requests the oldest of those that wait gives way to a new one; a quarter
    may be strangers, on which no request was let in yet. Where none waits, places are shared as the queue is: a client
    that has more of them than the one who comes would have gives one up.
    extra: connections above `most`, to be told so, and for probes, which always have an answer.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.extra = max(most // 4, _LEAST_EXTRA)
        self._most_strangers = max(most // 4, _LEAST_EXTRA)
        self._strangers: dict[Closable, None] = {}
        self._resting: dict[Closable, None] = {}
        self._new: dict[Closable, None] = {}
        self._busy: dict[str, dict[Closable, None]] = {}
        self._leaving: set[Closable] = set()

    @property
    def leaving(self) -> int:
        """Connections that gave way, and are told so."""
        return len(self._leaving)

    def waits(self, connection: Closable, *, stranger: bool) -> None:
        """It has no request now."""
        (self._strangers if stranger else self._resting)[connection] = None
        if len(self._strangers) > self._most_strangers:
            self._close_first(self._strangers)

    def beyond(self, connection: Closable) -> None:
        """It is one above `most`, and may be about to send a request."""
        self._new[connection] = None

    def comes(self, connection: Closable) -> None:
        """It has a request, of whom is not known yet."""
        self._strangers.pop(connection, None)
        self._resting.pop(connection, None)
        self._new.pop(connection, None)

    def answers(self, connection: Closable, client: str) -> None:
        """Its request is this client's."""
        self._busy.setdefault(client, {})[connection] = None

    def answered(self, connection: Closable, client: str | None) -> None:
        """Its request, which was this client's, if it was anybody's, is over."""
        own = None if client is None else self._busy.get(client)
        if client is not None and own is not None:
            own.pop(connection, None)
            if not own:
                del self._busy[client]

    def left(self, connection: Closable, client: str | None) -> None:
        """It is gone, or no connection of this kind any more, with the request that it had."""
        self.comes(connection)
        self._leaving.discard(connection)
        self.answered(connection, client)

    def make_room(self) -> bool:
        """Close one that waits; whether there was any."""
        return self._close_first(self._strangers) or self._close_first(self._resting)

    def make_room_for(self, client: str) -> bool:
        """As `make_room`, for a request of this client, or close one of who has more than it would have."""
        return self.make_room() or self._take_from_others(client)

    def make_room_beyond(self) -> bool:
        """Close one of those above `most` that sent nothing yet; whether there was any."""
        return self._close_first(self._new)

    def _take_from_others(self, client: str) -> bool:
        greedy = max(self._busy, key=lambda each: len(self._busy[each]), default=client)
        if len(self._busy.get(greedy, ())) <= len(self._busy.get(client, ())) + 1:
            return False
        # What has cost the least so far.
        newest = list(reversed(self._busy[greedy]))
        connection = next((each for each in newest if each.receives), newest[0])
        self.answered(connection, greedy)
        self._leaving.add(connection)
        connection.give_way()
        return True

    @staticmethod
    def _close_first(waiting: dict[Closable, None]) -> bool:
        first = next(iter(waiting), None)
        if first is None:
            return False
        del waiting[first]
        first.give_way()
        return True
