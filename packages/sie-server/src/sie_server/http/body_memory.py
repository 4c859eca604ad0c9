"""Memory of request and response bodies, counted until the last reference to them is gone."""

from collections import Counter, deque
from collections.abc import Iterable
from typing import Any, TypeVar

from sie_server.errors import Code, SIEError

T = TypeVar("T")
# Bodies of up to limit / 8192 bytes are always accepted; one per connection adds a tenth of the limit.
_SMALL = 8192
# A body of more bytes takes the event loop long, as does an answer that repeats much of it.
LARGE = 256 * 2**10


class BodyMemory:
    """The bytes of request bodies, raw and decoded, and of large responses. Lives on the event loop.

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

    def take(self, hold: "BodyHold", count: int) -> None:
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
                f"too much data in progress: other requests hold {others} bytes, {own} of them this client's; the "
                f"limit is {self._most} (--max-bodies-bytes), and a client may hold no more than is left free",
            )
        hold.bytes += count
        self._count(hold.client, count)

    def grown(self, hold: "BodyHold", count: int) -> None:
        """Add `count` bytes (may be negative) to a hold, say after decoding. Callable from any thread."""
        hold.bytes += count
        self._ended.append((hold.client, -count))

    def end(self, hold: "BodyHold") -> None:
        """Release the bytes of a hold. Callable from any thread."""
        self._ended.append((hold.client, hold.bytes))

    def _is_small(self, hold: "BodyHold", count: int) -> bool:
        return hold.bytes + count <= self._most // _SMALL

    def _count(self, client: str, more: int) -> None:
        self._taken += more
        self._by_client[client] += more
        if not self._by_client[client]:
            del self._by_client[client]


class BodyHold:
    """The bytes of one request. They count until this object is garbage; work on the texts keeps a reference.

    leavings: what is freed once the request is answered, off the event loop.
    """

    __slots__ = ("_memory", "bytes", "client", "leavings")

    def __init__(self, memory: BodyMemory, client: str) -> None:
        self._memory = memory
        self.client = client
        self.bytes = 0
        self.leavings: list[Any] | None = None

    @property
    def is_large(self) -> bool:
        """Whether an answer may be large for what it repeats of the body, such as ids."""
        return self.bytes > LARGE

    def __del__(self) -> None:
        self._memory.end(self)


class Texts(list[T]):
    """Texts of a body with its hold, which lasts while a thread works on them, even after the client disconnected."""

    def __init__(self, texts: Iterable[T], hold: BodyHold) -> None:
        super().__init__(texts)
        self._hold = hold
