"""How many bytes of bodies there are in memory, counted until nothing holds them any more."""

from collections import Counter, deque

from sie_server.errors import Code, SIEError

# A body of no more than this part of what may be held always has room: as many as there are connections add a tenth.
_SMALL = 8192


class Account:
    """Bytes of the bodies that came, of what was made of them, and of large answers. Lives on the event loop.

    most: bytes; above it no other body is taken in, but small ones. What a client has in several requests is never more
    than what is left for others (a dynamic threshold, as Choudhury and Hahne 1998 have it).
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._by_client: Counter[str] = Counter()
        # A hold may end on any thread, in the middle of anything: all it does is to append here.
        self._ended: deque[tuple[str, int]] = deque()

    @property
    def bytes(self) -> int:
        """How many there are now."""
        while self._ended:
            client, count = self._ended.popleft()
            self._count(client, -count)
        return self._taken

    def take(self, hold: "Hold", count: int) -> None:
        """So many more bytes of a body came.

        Raises:
            SIEError: QUEUE_FULL, together with those of other requests they are too many, or too many for one client.
        """
        others = self.bytes - hold.bytes
        own = self._by_client[hold.client] - hold.bytes
        free = self._most - self._taken - count
        if others and (free < 0 or (own and own + hold.bytes + count > free)) and not self._is_small(hold, count):
            raise SIEError(
                Code.QUEUE_FULL,
                f"bodies and answers of other requests take {others} bytes, {own} of them from this client; the limit "
                f"is {self._most} (--max-bodies-bytes), and a client may take no more than it leaves free",
            )
        hold.bytes += count
        self._count(hold.client, count)

    def grown(self, hold: "Hold", count: int) -> None:
        """A body takes so many bytes more, decoded, than it did before. For any thread."""
        hold.bytes += count
        self._ended.append((hold.client, -count))

    def end(self, hold: "Hold") -> None:
        """What is held is gone. For any thread."""
        self._ended.append((hold.client, hold.bytes))

    def _is_small(self, hold: "Hold", count: int) -> bool:
        return hold.bytes + count <= self._most // _SMALL

    def _count(self, client: str, more: int) -> None:
        self._taken += more
        self._by_client[client] += more
        if not self._by_client[client]:
            del self._by_client[client]


class Hold:
    """The bytes of one request of a client. They count until this object is gone: who works on the texts keeps it."""

    __slots__ = ("_account", "bytes", "client")

    def __init__(self, account: Account, client: str) -> None:
        self._account = account
        self.client = client
        self.bytes = 0

    def __del__(self) -> None:
        self._account.end(self)


class Texts(list[str]):
    """Texts of a body, with the hold on it: a thread that has not done with them keeps both, whoever has gone."""

    hold: Hold | None = None
