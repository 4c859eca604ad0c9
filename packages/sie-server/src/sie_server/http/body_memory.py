"""Memory of request and response bodies, counted until the last reference to them is gone."""

from collections import Counter, deque
from typing import TypeVar

from sie_server.errors import Code, SIEError

T = TypeVar("T")
# Bodies of up to limit / 8192 bytes are always accepted; one per connection adds a tenth of the limit.
_SMALL = 8192


class Account:
    """Accounts for the bytes of request bodies, raw and decoded, and of large responses. Lives on the event loop.

    most: limit in bytes, above which only small bodies are accepted. The bodies of one client's several requests may
    take no more than what is still free (a dynamic threshold, Choudhury and Hahne 1998).
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._by_client: Counter[str] = Counter()
        # A hold may end on any thread, in the middle of anything, so ending it only appends here.
        self._ended: deque[tuple[str, int]] = deque()

    @property
    def bytes(self) -> int:
        """Bytes held now."""
        while self._ended:
            client, count = self._ended.popleft()
            self._count(client, -count)
        return self._taken

    def take(self, hold: "Hold", count: int) -> None:
        """Count `count` more bytes of a body.

        Raises:
            SIEError: QUEUE_FULL, the limit for all requests or for this client's is exceeded.
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
        """Add `count` bytes (may be negative) to a hold, say after decoding. Callable from any thread."""
        hold.bytes += count
        self._ended.append((hold.client, -count))

    def end(self, hold: "Hold") -> None:
        """Release the bytes of a hold. Callable from any thread."""
        self._ended.append((hold.client, hold.bytes))

    def _is_small(self, hold: "Hold", count: int) -> bool:
        return hold.bytes + count <= self._most // _SMALL

    def _count(self, client: str, more: int) -> None:
        self._taken += more
        self._by_client[client] += more
        if not self._by_client[client]:
            del self._by_client[client]


class Hold:
    """The bytes of one request. They count until this object is garbage; work on the texts keeps a reference."""

    __slots__ = ("_account", "bytes", "client")

    def __init__(self, account: Account, client: str) -> None:
        self._account = account
        self.client = client
        self.bytes = 0

    def __del__(self) -> None:
        self._account.end(self)


class Texts(list[T]):
    """Texts of a body with its hold, which lasts while a thread works on them, even after the client disconnected."""

    hold: Hold | None = None
