"""Clients on raw sockets, in one thread: most of the machine is left to the server that they measure."""

import selectors
import socket
import time
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

_READ_BYTES = 2**16
_HEAD_END = b"\r\n\r\n"


class Reply(NamedTuple):
    """seconds: from sending the request to reading the answer. inference: of these, what the server counts as that."""

    seconds: float
    inference: float


class _Connection:
    """A kept connection with one request in progress."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.read, self.sent = b"", 0.0

    def send(self, request: bytes) -> None:
        self.read, self.sent = b"", time.perf_counter()
        self.socket.sendall(request)

    def answered(self) -> Reply | None:
        """Read what has arrived; the reply, once it is complete.

        Raises:
            RuntimeError: the answer is an error.
        """
        self.read += self.socket.recv(_READ_BYTES)
        head, end, body = self.read.partition(_HEAD_END)
        if not end or len(body) < int(_field(head, b"content-length")):
            return None
        if not head.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(f"the server answered {self.read[:500]!r}")
        return Reply(time.perf_counter() - self.sent, float(_field(head, b"x-inference-time")) / 1e3)


def load(url: str, path: str, bodies: Sequence[bytes], clients: int, seconds: float) -> tuple[list[Reply], float]:
    """Keep one request of each client in progress for some seconds; returns the replies and the seconds taken.

    bodies: in JSON, posted to the path in turns.
    """
    host, port = urlsplit(url).hostname or "", urlsplit(url).port or 0
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nAccept: application/json"
    requests = [f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body for body in bodies]
    replies: list[Reply] = []
    started = time.perf_counter()
    with selectors.DefaultSelector() as selector:
        for index in range(clients):
            connection = _Connection((host, port))
            selector.register(connection.socket, selectors.EVENT_READ, connection)
            connection.send(requests[index % len(requests)])
        while selector.get_map():
            for key, _ in selector.select():
                connection = key.data
                if (reply := connection.answered()) is None:
                    continue
                replies.append(reply)
                if time.perf_counter() - started < seconds:
                    connection.send(requests[len(replies) % len(requests)])
                else:
                    selector.unregister(connection.socket)
                    connection.socket.close()
    return replies, time.perf_counter() - started


def _field(head: bytes, name: bytes) -> bytes:
    return head.lower().partition(b"\r\n" + name + b":")[2].partition(b"\r\n")[0]
