"""Limits on the number of connections, shared fairly among clients."""

from typing import Protocol

# Key in a request's scope: a function that takes the client of an authorized request, and returns an error if no
# connection is left for that client.
ADMITTED = "sie.admitted"
_LEAST_EXTRA = 16


class Closable(Protocol):
    """A connection that can be closed for another one."""

    @property
    def receives(self) -> bool:
        """Whether the body of its request is still arriving."""
        ...

    def give_way(self) -> None:
        """Close it for another one. It calls `ConnectionLimits.closed` when it is closed."""
        ...


class ConnectionLimits:
    """The connections of a server, by state and client.

    most: limit on connections. A new connection replaces the idle one that has waited longest; at most a quarter may be
    strangers, without an authorized request so far. If none is idle, they are shared like the queue: a client with more
    busy connections than the new one's client would have loses one.
    extra: connections above `most`, which get an error response, or a response to a probe.
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
        """Connections that are being closed for others."""
        return len(self._leaving)

    def idle(self, connection: Closable, *, stranger: bool) -> None:
        """The connection is idle. stranger: it had no authorized request yet."""
        (self._strangers if stranger else self._resting)[connection] = None
        if len(self._strangers) > self._most_strangers:
            self._close_oldest(self._strangers)

    def above_limit(self, connection: Closable) -> None:
        """The connection is above `most`; it may be about to send a request."""
        self._new[connection] = None

    def request_begins(self, connection: Closable) -> None:
        """A request begins on the connection; its client is not known yet."""
        self._strangers.pop(connection, None)
        self._resting.pop(connection, None)
        self._new.pop(connection, None)

    def admitted(self, connection: Closable, client: str) -> None:
        """The request in progress is this client's."""
        self._busy.setdefault(client, {})[connection] = None

    def request_ends(self, connection: Closable, client: str | None) -> None:
        """The request in progress has ended. client: None if it was never authorized."""
        own = None if client is None else self._busy.get(client)
        if client is not None and own is not None:
            own.pop(connection, None)
            if not own:
                del self._busy[client]

    def closed(self, connection: Closable, client: str | None) -> None:
        """The connection is closed or was upgraded."""
        self.request_begins(connection)
        self._leaving.discard(connection)
        self.request_ends(connection, client)

    def make_room(self) -> bool:
        """Close an idle connection. Returns whether there was one."""
        return self._close_oldest(self._strangers) or self._close_oldest(self._resting)

    def make_room_for(self, client: str) -> bool:
        """Close an idle connection, or one of a client with more than this one. Returns whether there was one."""
        return self.make_room() or self._close_of_greediest(client)

    def make_room_above_limit(self) -> bool:
        """Close a connection above `most` that has sent nothing yet. Returns whether there was one."""
        return self._close_oldest(self._new)

    def _close_of_greediest(self, client: str) -> bool:
        greedy = max(self._busy, key=lambda each: len(self._busy[each]), default=client)
        if len(self._busy.get(greedy, ())) <= len(self._busy.get(client, ())) + 1:
            return False
        # Prefer the request that has cost the least so far.
        newest = list(reversed(self._busy[greedy]))
        connection = next((each for each in newest if each.receives), newest[0])
        self.request_ends(connection, greedy)
        self._leaving.add(connection)
        connection.give_way()
        return True

    @staticmethod
    def _close_oldest(waiting: dict[Closable, None]) -> bool:
        first = next(iter(waiting), None)
        if first is None:
            return False
        del waiting[first]
        first.give_way()
        return True
