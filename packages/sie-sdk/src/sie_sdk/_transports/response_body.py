"""The body of an answer as it comes in: unpacked here, and no larger than an answer may be.

A few kilobytes of gzip can stand for gigabytes, and an answer need not come from the server that was meant.
"""

import zlib

# What is asked for, and what can be unpacked.
ENCODINGS = "gzip, deflate"
MOST_BYTES = 2**30
# Of an error: it has a code and a message, and what else comes is not read.
MOST_ERROR_BYTES = 2**20
# Vectors and scores do not get this much smaller; a small answer may.
_MOST_TIMES = 32
_ANY_TIMES_BYTES = 2**26
# Either header, of gzip or of zlib, which `deflate` means.
_EITHER = zlib.MAX_WBITS + 32
_PIECE_BYTES = 2**20


class UnreadableError(Exception):
    """A body is larger than an answer may be, or not what its headers say."""


class Content:
    """The body of an answer with this status and `Content-Encoding`.

    Of an error (4xx, 5xx) as much is kept as can be read, so that its status always counts.
    """

    def __init__(self, status: int, encoding: str | None) -> None:
        self._error = status >= 400
        self._most = MOST_ERROR_BYTES if self._error else MOST_BYTES
        self._encoding = (encoding or "").strip().lower()
        self._unpacker = None if self._encoding in ("", "identity") else zlib.decompressobj(_EITHER)
        self._received = 0
        self._bytes = bytearray()

    def add(self, received: bytes) -> bool:
        """Take what came; whether more of it is wanted.

        Raises:
            UnreadableError: the body of a success can't be read.
        """
        try:
            self._add(received)
        except UnreadableError:
            if not self._error:
                raise
            del self._bytes[self._most :]
            return False
        return True

    def whole(self) -> bytes:
        """All of it.

        Raises:
            UnreadableError: what was packed does not end.
        """
        if self._unpacker is not None and not self._unpacker.eof and self._received and not self._error:
            raise UnreadableError("the compressed answer has no end")
        return bytes(self._bytes)

    def _add(self, received: bytes) -> None:
        self._received += len(received)
        if self._unpacker is None:
            self._keep(received, self._most)
            return
        if self._encoding not in ("gzip", "x-gzip", "deflate"):
            raise UnreadableError(f"Content-Encoding {self._encoding[:40]!r} was not asked for")
        most = min(self._most, max(_ANY_TIMES_BYTES, _MOST_TIMES * self._received))
        while received:
            if self._unpacker.eof:  # one member of gzip after another is one body
                self._unpacker = zlib.decompressobj(_EITHER)
            try:
                piece = self._unpacker.decompress(received, _PIECE_BYTES)
            except zlib.error as error:
                raise UnreadableError(f"the compressed answer is broken ({error})") from error
            self._keep(piece, most)
            received = self._unpacker.unconsumed_tail or self._unpacker.unused_data

    def _keep(self, piece: bytes, most: int) -> None:
        self._bytes += piece
        if len(self._bytes) > most:
            raise UnreadableError(f"the answer has more than the {most} bytes that it may have")
