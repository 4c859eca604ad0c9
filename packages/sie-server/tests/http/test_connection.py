"""Clients that are slow, huge, many, or that send in a row and never read."""

import http.client
import json
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any
from urllib.parse import urlsplit

import httpx2
import psutil
import pytest

from sie_server.errors import SIEError
from sie_server.http.body_memory import BodyHold, BodyMemory
from sie_testing.serving import EMBEDDED, Server, connect, metric, poll

PATIENCE_S = 1.0
LIMIT = 6
PLAIN = json.dumps({"query": {"text": "what is python"}, "items": [{"text": "it"}]}).encode()
HEAD = b"POST /v1/score/%s HTTP/1.1\r\nHost: x\r\n" % EMBEDDED.encode()
GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture(scope="module")
def strict() -> Iterator[Server]:
    """A server with little patience."""
    with Server(
        "--preload", EMBEDDED, f"--receive-timeout={PATIENCE_S}", "--max-request-body-bytes=100000000"
    ) as running:
        yield running
        assert "Traceback" not in running.log, running.log


@pytest.fixture(autouse=True)
def undisturbed(strict: Server) -> Iterator[None]:
    yield
    with connect(strict.url) as client:
        assert client.post(f"/v1/score/{EMBEDDED}", content=PLAIN).status_code == 200


def connection_to(server: Server, source: str = "127.0.0.1") -> socket.socket:
    url = urlsplit(server.url)
    return socket.create_connection((url.hostname, url.port), 20, (source, 0))


def rest(connection: socket.socket) -> bytes:
    """What comes until the server closes the connection, within the socket's time-out."""
    answer = b""
    with suppress(ConnectionResetError, BrokenPipeError):
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


def until(connection: socket.socket, end: bytes) -> bytes:
    answer = b""
    while not answer.endswith(end):
        answer += connection.recv(65536)
    return answer


def refused(answer: bytes) -> tuple[int, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    return int(head.split()[1]), json.loads(body)["detail"]["code"]


def drip(connection: socket.socket, data: bytes) -> bytes:
    """Sends a byte every 50 ms until the server has had enough."""
    connection.settimeout(0.05)
    for n in range(400):
        with suppress(OSError):
            connection.sendall(data[n % len(data) : n % len(data) + 1])
        with suppress(TimeoutError):
            answer = connection.recv(65536)
            connection.settimeout(20)
            return answer + rest(connection)
    raise AssertionError("the server waits for ever")


# --- slow ------------------------------------------------------------------------------------------------------------


def test_a_connection_on_which_nothing_comes(strict: Server) -> None:
    with connection_to(strict) as connection:
        assert rest(connection) == b""


@pytest.mark.parametrize("head", [b"G", GET, GET + b"X: ", HEAD + b"Content-Le"])
def test_a_head_that_does_not_end(strict: Server, head: bytes) -> None:
    with connection_to(strict) as connection:
        connection.sendall(head)
        assert refused(rest(connection)) == (408, "REQUEST_TIMEOUT")


def test_a_head_that_trickles_in(strict: Server) -> None:
    with connection_to(strict) as connection:
        connection.sendall(GET)
        assert refused(drip(connection, b"X-Y: z\r\n")) == (408, "REQUEST_TIMEOUT")


def test_a_second_head_that_does_not_end(strict: Server) -> None:
    with connection_to(strict) as connection:
        connection.sendall(GET + b"\r\n")
        assert until(connection, b"ok").startswith(b"HTTP/1.1 200")
        connection.sendall(GET)
        assert refused(rest(connection)) == (408, "REQUEST_TIMEOUT")


def test_a_connection_may_rest_between_two_requests(strict: Server) -> None:
    with connection_to(strict) as connection:
        for _ in range(2):
            connection.sendall(GET + b"\r\n")
            assert until(connection, b"ok").startswith(b"HTTP/1.1 200")
            time.sleep(PATIENCE_S * 1.5)


@pytest.mark.parametrize("framing", [b"Content-Length: 1000", b"Transfer-Encoding: chunked"])
@pytest.mark.parametrize("route", ["score", "embeddings"])
def test_a_body_that_does_not_end(strict: Server, framing: bytes, route: str) -> None:
    with connection_to(strict) as connection:
        head = HEAD if route == "score" else b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\n"
        connection.sendall(head + framing + b"\r\n\r\n10\r\n")
        status, _, body = rest(connection).partition(b"\r\n\r\n")
    assert status.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"REQUEST_TIMEOUT"' in body


@pytest.mark.parametrize("framing", [b"Content-Length: 1000", b"Transfer-Encoding: chunked"])
def test_a_body_that_trickles_in(strict: Server, framing: bytes) -> None:
    with connection_to(strict) as connection:
        connection.sendall(HEAD + framing + b"\r\n\r\n")
        assert refused(drip(connection, b"1\r\n \r\n")) == (408, "REQUEST_TIMEOUT")


def test_a_large_body_that_stops_has_no_longer(strict: Server) -> None:
    with connection_to(strict) as connection:
        connection.sendall(HEAD + b"Content-Length: 9999999\r\n\r\n" + b" " * 2**20)
        began = time.monotonic()
        assert refused(rest(connection)) == (408, "REQUEST_TIMEOUT")
        assert time.monotonic() - began < 60  # and not 128 s


def test_a_large_body_has_longer(strict: Server) -> None:
    # At 64 KiB/s, it takes three times as long as an empty body could.
    body = PLAIN.ljust(192 * 2**10)
    with connection_to(strict) as connection:
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body))
        for at in range(0, len(body), 16384):
            connection.sendall(body[at : at + 16384])
            time.sleep(0.25)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")


def test_an_unread_answer_is_dropped(strict: Server) -> None:
    items = [{"text": "a b c d e f g h " * 8}] * 150
    body = json.dumps({"items": items, "params": {"output_types": ["multivector"]}}).encode()
    head = b"POST /v1/encode/%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    url = urlsplit(strict.url)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(60)
        connection.connect((url.hostname, url.port))
        connection.sendall(head % (EMBEDDED.encode(), len(body)) + body)
        assert connection.recv(1) == b"H"
        port = connection.getsockname()[1]
        with connect(strict.url) as client:
            assert metric(client, "sie_request_body_bytes") > 10_000_000
            poll(lambda: not _connected(strict, port))
            poll(lambda: metric(client, "sie_request_body_bytes") == 0)


def _connected(server: Server, port: int) -> bool:
    return any(c.raddr and c.raddr.port == port for c in psutil.Process(server.pid).net_connections("tcp"))


# --- huge ------------------------------------------------------------------------------------------------------------


def endless(connection: socket.socket, head: bytes, piece: bytes) -> bytes:
    """Sends pieces until the server says something, and returns that."""
    with suppress(ConnectionResetError, BrokenPipeError):
        connection.sendall(head)
        for _ in range(300_000_000 // len(piece)):
            if select.select([connection], [], [], 0)[0]:
                return rest(connection)
            connection.sendall(piece)
        raise AssertionError("the server takes all of it")
    return rest(connection)


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (GET, b"X-Y: z\r\n" * 1000),
        (GET + b"X: ", b"x" * 65536),
        (GET, b"x" * 65536),
        (b"GET /", b"x" * 65536),
    ],
    ids=["headers", "value", "name", "path"],
)
def test_an_endless_head(strict: Server, head: bytes, piece: bytes) -> None:
    before = memory(strict)
    with connection_to(strict) as connection:
        answer = endless(connection, head, piece)
        assert answer == b"" or refused(answer) in {(431, "INPUT_TOO_LONG"), (408, "REQUEST_TIMEOUT")}
    assert memory(strict) < before + 50e6


@pytest.mark.parametrize(
    ("start", "piece"),
    [(b"0\r\n", b"X-Y: z\r\n" * 1000), (b"0\r\nX: ", b"x" * 65536), (b"1;", b"x" * 65536), (b"1;x=", b"x" * 65536)],
    ids=["trailers", "a trailer", "an extension's name", "an extension"],
)
def test_what_stands_around_a_body_without_end(strict: Server, start: bytes, piece: bytes) -> None:
    before = memory(strict)
    with connection_to(strict) as connection:
        answer = endless(connection, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + start, piece)
        assert answer == b"" or refused(answer)[0] in {400, 431}
    assert memory(strict) < before + 50e6


def test_trailers_are_no_headers(strict: Server) -> None:
    chunks = b"%x\r\n%s\r\n0\r\nContent-Encoding: gzip\r\nX-SIE-Remote: x\r\n\r\n" % (len(PLAIN), PLAIN)
    with connection_to(strict) as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")


def test_small_chunks_are_a_body(strict: Server) -> None:
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in PLAIN.ljust(60_000)) + b"0\r\n\r\n"
    with connection_to(strict) as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")


OFFER = b"HTTP2-Settings: AAMAAABkAAQBAAAAAAIAAAAA\r\nUpgrade: %s\r\nConnection: Upgrade, HTTP2-Settings\r\n"


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"TLS/1.0, HTTP/1.1"])
@pytest.mark.parametrize("pieces", [1, 2, 7, 10_000])
def test_an_offer_of_another_protocol_is_declined(strict: Server, protocol: bytes, pieces: int) -> None:
    # What stands behind the head is its body, and no request of its own.
    smuggled = GET + b"\r\n"
    head = HEAD + OFFER % protocol + b"Accept: application/json\r\n"
    padded = PLAIN[:-1] + b"  " + PLAIN[-1:]
    chunked = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(padded), padded)
    stream = head + b"Content-Length: %d\r\n\r\n" % len(PLAIN) + PLAIN
    stream += head + chunked
    stream += head + b"Content-Length: %d\r\n\r\n" % len(smuggled) + smuggled
    stream += GET + OFFER % protocol.replace(b"websocket", b"h2c") + b"\r\n"
    stream += GET + b"Connection: close\r\n\r\n"
    with connection_to(strict) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        size = -(-len(stream) // pieces)
        for start in range(0, len(stream), size):
            connection.sendall(stream[start : start + size])
        answer = rest(connection)
    assert [int(head[:3]) for head in answer.split(b"HTTP/1.1 ")[1:]] == [200, 200, 400, 200, 200]
    assert answer.count(b'"rank":0') == 2


def test_a_tunnel_is_none_of_ours(strict: Server) -> None:
    with connection_to(strict) as connection:
        connection.sendall(b"CONNECT example.com:80 HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\n\r\n")
        assert refused(rest(connection)) == (400, "INVALID_INPUT")


@pytest.mark.parametrize("encoding", ["gzip", "br", "gzip, identity", "x"])
@pytest.mark.parametrize("route", [f"score/{EMBEDDED}", "embeddings", "rerank"])
def test_encoded_bodies_are_refused_as_such(strict: Server, encoding: str, route: str) -> None:
    with connect(strict.url) as client:
        answer = client.post(f"/v1/{route}", content=PLAIN, headers={"Content-Encoding": encoding})
        assert answer.status_code == 415
        assert f"Content-Encoding '{encoding}'" in answer.text
        plain = client.post(f"/v1/score/{EMBEDDED}", content=PLAIN, headers={"Content-Encoding": "identity"})
        assert plain.status_code == 200


def memory(server: Server) -> float:
    return float(psutil.Process(server.pid).memory_info().rss)


# --- many ------------------------------------------------------------------------------------------------------------


def test_a_pipeline_has_an_end(strict: Server) -> None:
    with connection_to(strict) as connection:
        connection.sendall((GET + b"\r\n") * 20)
        connection.settimeout(0.5)
        with suppress(TimeoutError):
            answers = rest(connection)
            raise AssertionError(answers)
    with connection_to(strict) as connection:
        with suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall((GET + b"\r\n") * 100_000)
        answer = rest(connection)
        assert b" 400 " not in answer  # which would be taken for the answer to one that waits


def asked(
    server: Server, path: str = "/v1/models", source: str = "127.0.0.1", headers: bytes = b""
) -> tuple[int, Any, bytes]:
    """Status, headers and body, on a connection of its own."""
    with connection_to(server, source) as connection:
        connection.sendall(b"GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n" % (path.encode(), headers))
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status, answer.headers, answer.read()


@pytest.fixture(scope="module")
def _few() -> Iterator[Server]:
    with Server(f"--max-connections={LIMIT}", "--receive-timeout=60") as running:
        yield running


@pytest.fixture
def few(_few: Server) -> Server:
    """A server that accepts few connections, and has none at first."""
    poll(lambda: not open_connections(_few))
    return _few


def open_connections(server: Server) -> int:
    return sum(
        connection.status in (psutil.CONN_ESTABLISHED, psutil.CONN_CLOSE_WAIT)
        for connection in psutil.Process(server.pid).net_connections("tcp")
    )


def test_more_connections_than_allowed(few: Server) -> None:
    with ExitStack() as stack:
        busy = [stack.enter_context(connection_to(few)) for _ in range(LIMIT)]
        for connection in busy:
            connection.sendall(HEAD + b"Content-Length: 900\r\n\r\n" + PLAIN)
        poll(lambda: asked(few)[0] == 503)
        status, headers, body = asked(few)
        assert (status, headers["retry-after"]) == (503, "1")
        assert b"QUEUE_FULL" in body
        # Those that look after the server have an answer all the same.
        assert [asked(few, path)[0] for path in ("/healthz", "/livez", "/readyz")] == [200, 200, 200]
        busy.pop().close()
        poll(lambda: asked(few)[0] == 200)
        with connect(few.url) as client:
            assert metric(client, "sie_connections_refused_total", code="QUEUE_FULL") >= 1


def test_a_client_with_many_slow_bodies_keeps_no_other_out(few: Server) -> None:
    slow = b"Content-Length: 900\r\n\r\n" + PLAIN
    with ExitStack() as stack:
        busy = [stack.enter_context(connection_to(few)) for _ in range(LIMIT)]
        for connection in busy:
            connection.sendall(HEAD + slow)
        poll(lambda: asked(few)[0] == 503)
        other = [stack.enter_context(connection_to(few, "127.0.0.2")) for _ in range(LIMIT)]
        for connection in other:
            connection.sendall(HEAD + slow)
        # They end up with as many each, give or take one, and those that went were told why: the last ones first.
        poll(lambda: len(select.select([*busy, *other], [], [], 0)[0]) == LIMIT)
        told = [select.select(group, [], [], 0)[0] for group in (busy, other)]
        assert [len(each) for each in told] in ([3, 3], [2, 4])
        assert set(told[0]) == set(busy[-len(told[0]) :])
        assert {refused(rest(connection)) for group in told for connection in group} == {(503, "QUEUE_FULL")}
        assert asked(few, source="127.0.0.3")[0] == 200
        assert asked(few, "/livez")[0] == 200


def test_an_api_key_with_many_slow_bodies_keeps_no_other_out() -> None:
    greedy, modest = (b"Authorization: Bearer %s\r\n" % key for key in (b"greedy", b"modest"))
    flags = (f"--max-connections={LIMIT}", "--receive-timeout=60", "--api-keys=greedy", "--api-keys=modest")
    with Server(*flags) as few, ExitStack() as stack:
        for _ in range(LIMIT):
            connection = stack.enter_context(connection_to(few))
            connection.sendall(HEAD + greedy + b"Content-Length: 900\r\n\r\n" + PLAIN)
        poll(lambda: asked(few, headers=greedy)[0] == 503)
        assert asked(few)[0] == 401
        assert [asked(few, headers=modest)[0] for _ in range(3)] == [200] * 3


def test_connections_that_wait_make_room(few: Server) -> None:
    with ExitStack() as stack:
        # Those on which a request was answered, which may rest for long, and those on which none ever came.
        resting = [stack.enter_context(connection_to(few)) for _ in range(LIMIT)]
        for connection in resting:
            connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
            connection.recv(65536)
        crowd = [stack.enter_context(connection_to(few)) for _ in range(10 * LIMIT)]
        for path in ("/v1/models", "/livez", "/healthz"):
            assert asked(few, path)[0] == 200
        # The oldest went first.
        assert rest(crowd[0]) == b""


def test_idle_strangers_have_a_quarter_of_the_places() -> None:
    with Server("--max-connections=100", "--receive-timeout=60") as few, ExitStack() as stack:
        idle = [stack.enter_context(connection_to(few)) for _ in range(60)]
        assert asked(few)[0] == 200
        for connection in idle:
            connection.settimeout(0.2)
        assert rest(idle[0]) == b""
        with pytest.raises(TimeoutError):
            idle[-1].recv(1)


UPGRADE = (
    b"GET /ws/status HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


@pytest.mark.parametrize("frame", [b"\x89\x80\0\0\0\0", b"\x8a\x80\0\0\0\0", b"\x81\x81\0\0\0\0x"])
def test_a_watcher_that_floods_the_server_is_let_go(strict: Server, frame: bytes) -> None:
    with connection_to(strict) as connection:
        connection.sendall(UPGRADE)
        assert connection.recv(65536).startswith(b"HTTP/1.1 101")
        with suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(frame * 200_000)
        said = rest(connection)
    # A close frame with 1008, unless the reset was faster.
    assert said == b"" or b"\x03\xf0" in said[-200:]


def test_a_watcher_may_ping(strict: Server) -> None:
    with connection_to(strict) as connection:
        connection.sendall(UPGRADE)
        until_pong = connection.recv(65536)
        for _ in range(20):
            connection.sendall(b"\x89\x80\0\0\0\0")
        while b"\x8a\x00" not in until_pong:
            until_pong += connection.recv(65536)


def test_connections_closed_for_a_limit_are_counted(strict: Server) -> None:
    counted = "sie_connections_refused_total"
    with connect(strict.url) as client:
        before = {code: metric(client, counted, code=code) for code in ("INPUT_TOO_LONG", "REQUEST_TIMEOUT")}
        with connection_to(strict) as connection, suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(GET + b"X: " + b"x" * 300_000)
            rest(connection)
        with connection_to(strict) as connection:
            connection.sendall(GET)
            rest(connection)
        assert {code: metric(client, counted, code=code) - before[code] for code in before} == dict.fromkeys(before, 1)


def test_the_status_stream_outlasts_the_patience(strict: Server) -> None:
    with httpx2.Client(trust_env=False) as client, client.websocket(f"{strict.url}/ws/status") as session:
        started = time.monotonic()
        while time.monotonic() - started < PATIENCE_S * 1.5:
            session.receive_text(timeout=60)


@pytest.fixture(scope="module")
def narrow() -> Iterator[Server]:
    """A server that holds 2,000 bytes of bodies."""
    with Server("--preload", EMBEDDED, "--max-bodies-bytes=2000") as running:
        yield running


def test_the_bodies_of_all_requests_together_are_bounded(narrow: Server) -> None:
    path = f"/v1/score/{EMBEDDED}"
    body = PLAIN + b" " * 900
    with connect(narrow.url) as client:
        poll(lambda: metric(client, "sie_request_body_bytes") == 0)
        assert client.post(path, content=PLAIN + b" " * 5000).status_code == 200  # alone it may be larger
        with connection_to(narrow) as half:
            half.sendall(HEAD + b"Content-Length: 1000\r\n\r\n" + b" " * 900)
            # Whichever comes second is refused: that must be the client's.
            poll(lambda: metric(client, "sie_request_body_bytes") == 900)
            refused = client.post(path, content=body)
            assert (refused.status_code, refused.json()["detail"]["code"]) == (503, "QUEUE_FULL")
            assert refused.headers["Retry-After"] == "1"
            assert client.post(path, content=PLAIN).status_code == 200  # there is room for that
        poll(lambda: client.post(path, content=body).status_code == 200)


def test_the_bodies_of_one_client_leave_room_for_those_of_others(narrow: Server) -> None:
    path = f"/v1/score/{EMBEDDED}"
    body = PLAIN.ljust(600)
    with connect(narrow.url) as client, ExitStack() as stack:
        poll(lambda: metric(client, "sie_request_body_bytes") == 0)
        for _ in range(2):
            connection = stack.enter_context(connection_to(narrow))
            connection.sendall(HEAD + b"Content-Length: 600\r\n\r\n" + b" " * 500)
        poll(lambda: metric(client, "sie_request_body_bytes") == 1000)
        assert client.post(path, content=body).status_code == 503
        assert client.post(path, content=body, headers={"Authorization": "Bearer other"}).status_code == 200


def test_limits_per_client() -> None:
    most, piece = 2**20, 2**12
    memory = BodyMemory(most)
    holds = []

    def several(client: str) -> int:
        taken = 0
        with suppress(SIEError):
            while True:
                holds.append(BodyHold(memory, client))
                memory.take(holds[-1], piece)
                taken += piece
        return taken

    assert [several(f"client {n}") for n in range(4)] == [most // 2, most // 4, most // 8, most // 16]
    alone = BodyHold(memory, "alone")
    memory.take(alone, most // 16)
    with pytest.raises(SIEError, match="no more than is left free"):
        memory.take(BodyHold(memory, "client 0"), piece)
    with pytest.raises(SIEError, match=f"the limit is {most}"):
        memory.take(alone, 1)
    for n in range(9):
        small = BodyHold(memory, f"client {n}")
        memory.take(small, most // 8192)
        holds.append(small)
    assert memory.bytes == most + 9 * most // 8192
    del alone, small
    holds.clear()
    assert memory.bytes == 0
    memory.take(BodyHold(memory, "alone"), 2 * most)  # of any size, where there is nothing else
