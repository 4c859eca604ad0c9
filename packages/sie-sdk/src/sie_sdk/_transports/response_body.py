"""Reads and decompresses the body of a response, up to a maximum size.

A few kilobytes of gzip can expand to gigabytes, and a response need not come from the intended server.
"""

import zlib

# The encodings that can be decompressed here, for Accept-Encoding.
ENCODINGS = "gzip, deflate"
MAX_BYTES = 2**30
# An error is a code and a message; the rest is not read.
MAX_ERROR_BYTES = 2**20
# Vectors and scores are never compressed by more than this; a small response may be.
_MAX_RATIO = 32
_ANY_RATIO_BYTES = 2**26
# Accepts the header of gzip or of zlib, which `deflate` means.
_GZIP_OR_ZLIB = zlib.MAX_WBITS + 32
_PIECE_BYTES = 2**20


class UnreadableError(Exception):
    """The body is larger than allowed, or does not match its headers."""


class ResponseBody:
    """The body of a response with this status and `Content-Encoding`.

    An error (4xx, 5xx) keeps as much of its body as can be read, so that its status always counts.
    """

    def __init__(self, status: int, encoding: str | None) -> None:
        self._error = status >= 400
        self._max_bytes = MAX_ERROR_BYTES if self._error else MAX_BYTES
        self._encoding = (encoding or "").strip().lower()
        self._unpacker = None if self._encoding in ("", "identity") else zlib.decompressobj(_GZIP_OR_ZLIB)
        self._received = 0
        self._bytes = bytearray()

    def add(self, received: bytes) -> bool:
        """Adds received bytes; returns whether more are wanted.

        Raises:
            UnreadableError: The body of a success can't be read.
        """
        try:
            self._add(received)
        except UnreadableError:
            if not self._error:
                raise
            del self._bytes[self._max_bytes :]
            return False
        return True

    def finish(self) -> bytes:
        """Returns the whole body.

        Raises:
            UnreadableError: The compressed body is incomplete.
        """
        if self._unpacker is not None and not self._unpacker.eof and self._received and not self._error:
            raise UnreadableError("the compressed body is incomplete")
        return bytes(self._bytes)

    def _add(self, received: bytes) -> None:
        self._received += len(received)
        if self._unpacker is None:
            self._keep(received, self._max_bytes)
            return
        if self._encoding not in ("gzip", "x-gzip", "deflate"):
            raise UnreadableError(f"Content-Encoding {self._encoding[:40]!r} is not supported")
        max_bytes = min(self._max_bytes, max(_ANY_RATIO_BYTES, _MAX_RATIO * self._received))
        while received:
            if self._unpacker.eof:  # a body may have several gzip members
                self._unpacker = zlib.decompressobj(_GZIP_OR_ZLIB)
            try:
                piece = self._unpacker.decompress(received, _PIECE_BYTES)
            except zlib.error as error:
                raise UnreadableError(f"the compressed body is corrupt ({error})") from error
            self._keep(piece, max_bytes)
            received = self._unpacker.unconsumed_tail or self._unpacker.unused_data

    def _keep(self, piece: bytes, max_bytes: int) -> None:
        self._bytes += piece
        if len(self._bytes) > max_bytes:
            raise UnreadableError(f"the body exceeds the limit of {max_bytes} bytes")
