"""A server that answers each request as the fault table says."""

import gzip
import json
import socket
import threading
from contextlib import suppress

import msgpack
from sdk_stand_ins import SCORED

RANKING = msgpack.packb(SCORED)


class FaultServer:
    """Answers the n-th request with the n-th answer, then repeats the last one.

    Refuses connections until `refused` pauses have passed.
    """

    def __init__(self, case):
        self.answers = [{} if answer == "ranking" else answer for answer in case.get("answers", [])]
        self.refused = case.get("refused", 0)
        self.met = self.closed = 0
        self._closing = threading.Event()
        self._threads = []
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.paused(0)

    def paused(self, pauses):
        """A bound socket that does not listen yet is one that refuses."""
        if self.refused is not True and pauses == self.refused:
            self._listener.listen()
            self._start(self._accept)

    def close(self):
        self._closing.set()
        if self._threads:
            self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _start(self, target, *arguments):
        self._threads.append(threading.Thread(target=target, args=arguments))
        self._threads[-1].start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._start(self._serve, connection)

    def _serve(self, connection):
        with connection:
            if _receive(connection):
                answer = self.answers[min(self.met, len(self.answers) - 1)]
                self.met += 1
                self._answer(connection, answer)
        self.closed += 1

    def _answer(self, connection, answer):
        stall, whole = answer.get("stall"), _bytes(answer)
        self._closing.wait(answer.get("after_s", 0))
        if "trickle_s" in answer:
            with suppress(OSError):
                for start in range(0, len(whole), part := len(whole) // 10 + 1):
                    connection.sendall(whole[start : start + part])
                    self._closing.wait(answer["trickle_s"] / 10)
        elif stall != "before" and not answer.get("hang_up"):
            connection.sendall(whole[: -len(RANKING) // 2] if stall or answer.get("cut") else whole)
        if stall:
            self._closing.wait()


def _receive(connection):
    received = b""
    while b"\r\n\r\n" not in received:
        received += (more := connection.recv(65536))
        if not more:
            return False
    head, _, body = received.partition(b"\r\n\r\n")
    left = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]) - len(body)
    while left > 0:
        left -= len(connection.recv(65536))
    return True


def _bytes(answer):
    """Returns the bytes of the whole response."""
    if "raw" in answer:
        return answer["raw"].encode()
    body = RANKING
    headers = {"Content-Type": "application/msgpack"} | ({} if answer.get("keep") else {"Connection": "close"})
    if "code" in answer:
        body = json.dumps({"detail": {"code": answer["code"], "message": "no"}}).encode()
        headers["Content-Type"] = "application/json"
    elif "text" in answer:
        body, headers["Content-Type"] = answer["text"].encode(), "text/html"
    if answer.get("gzip") or answer.get("broken_gzip"):
        body, headers["Content-Encoding"] = gzip.compress(body) if answer.get("gzip") else b"no gzip", "gzip"
    headers |= answer.get("headers", {})
    if answer.get("chunked"):
        headers["Transfer-Encoding"] = "chunked"
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    else:
        headers["Content-Length"] = str(len(body))
    lines = [f"HTTP/1.1 {answer.get('status', 200)} Said", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "\r\n"]).encode() + body
