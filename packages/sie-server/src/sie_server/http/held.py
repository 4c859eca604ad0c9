"""How many bytes of bodies there are in memory, counted until nothing holds them any more."""

from collections import deque

from sie_server.errors import Code, SIEError


class Account:
    """Bytes of the bodies that came, of what was made of them, and of large answers. Lives on the event loop.

    most: bytes; above it no other body is taken in.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        # A hold may end on any thread, in the middle of anything: all it does is to append here.
        self._ended: deque[int] = deque()

    @property
    def bytes(self) -> int:
        """How many there are now."""
        while self._ended:
            self._taken -= self._ended.popleft()
        return self._taken

    def take(self, hold: "Hold", count: int) -> None:
        """So many more bytes of a body came.

        Raises:
            SIEError: QUEUE_FULL, together with those of other requests they are too many.
        """
        others = self.bytes - hold.bytes
        if others and self._taken + count > self._most:
            raise SIEError(
                Code.QUEUE_FULL,
                f"bodies and answers of other requests take {others} bytes; together at most {self._most} are held",
            )
        hold.bytes += count
        self._taken += count

    def grown(self, hold: "Hold", count: int) -> None:
        """A body takes so many bytes more, decoded, than it did before. For any thread."""
        hold.bytes += count
        self._ended.append(-count)

    def end(self, count: int) -> None:
        """So many bytes are gone. For any thread."""
        self._ended.append(count)


class Hold:
    """The bytes of one body. They count until this object is gone: whoever works on the texts keeps it."""

    __slots__ = ("_account", "bytes")

    def __init__(self, account: Account) -> None:
        self._account = account
        self.bytes = 0

    def __del__(self) -> None:
        self._account.end(self.bytes)


class Texts(list[str]):
    """Texts of a body, with the hold on it: a thread that has not done with them keeps both, whoever has gone."""

    hold: Hold | None = None
