"""Transport failures over real sockets, and the errors that callers get."""

import asyncio
import gzip
import socket
import threading
from contextlib import contextmanager, suppress

import msgpack
import pytest
from sdk_stand_ins import SCORED

from sie_sdk import SIEAsyncClient, SIEClient, SIEConnectionError
from sie_sdk.types import Item

BODY = msgpack.packb(SCORED)
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/msgpack\r\nContent-Length: %d\r\n\r\n" % len(BODY)


@contextmanager
def listening(*handlers):
    """Runs a server whose n-th connection goes to `handlers[n]`, or the last one; yields the requests it received."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        accepted = []

        def serve():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    request = connection.recv(65536)
                    handlers[min(len(accepted), len(handlers) - 1)](connection)
                    accepted.append(request)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", accepted
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def answer(connection):
    connection.sendall(OK + BODY)


def cut_off(connection):
    connection.sendall(OK + BODY[:5])


def hang_up(_):
    pass


def stall(connection):
    """Sleeps until the client gives up."""
    connection.settimeout(30)
    with suppress(OSError):
        while connection.recv(65536):
            pass


def zip_(connection):
    zipped = gzip.compress(BODY)
    connection.sendall(
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(zipped) + zipped
    )


def garble(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\n12345")


@pytest.fixture(params=["sync", "async"])
def score(request):
    def blocking(url, client_arguments, **arguments):
        with SIEClient(url, **client_arguments) as client:
            return client.score("m", Item(text="q"), [Item(text="d")], **arguments)

    async def awaited(url, client_arguments, **arguments):
        async with SIEAsyncClient(url, **client_arguments) as client:
            return await client.score("m", Item(text="q"), [Item(text="d")], **arguments)

    def call(url, client_arguments=None, **arguments):
        if request.param == "sync":
            return blocking(url, client_arguments or {}, **arguments)
        return asyncio.run(awaited(url, client_arguments or {}, **arguments))

    return call


@pytest.mark.parametrize("handler", [answer, zip_])
def test_answer(score, handler):
    with listening(handler) as (url, _):
        assert score(url)["scores"] == SCORED["scores"]


@pytest.mark.parametrize("handler", [cut_off, hang_up])
def test_cut_off_answers_are_asked_for_again(score, handler):
    with listening(handler, answer) as (url, accepted):
        assert score(url)["scores"] == SCORED["scores"]
    assert len(accepted) == 2


@pytest.mark.parametrize(
    ("handler", "kind"), [(cut_off, "connect"), (hang_up, "connect"), (stall, "timeout"), (garble, "other")]
)
def test_failures(score, handler, kind):
    with listening(handler) as (url, accepted), pytest.raises(SIEConnectionError) as caught:
        score(url, {"read_timeout_s": 0.2 if handler is stall else 60}, wait_for_capacity=False)
    assert caught.value.kind == kind
    assert caught.value.status_code is None
    assert len(accepted) == 1


def test_slow_answer_is_not_asked_for_again(score):
    with (
        listening(stall, answer) as (url, accepted),
        pytest.raises(SIEConnectionError, match=r"Timeout.*: no response"),
    ):
        score(url, {"read_timeout_s": 0.2})
    assert len(accepted) == 1


def test_budget_cuts_a_slow_answer_short(score):
    with listening(stall) as (url, _), pytest.raises(SIEConnectionError, match=r"no response within 0\.2 s"):
        score(url, provision_timeout_s=0.2)


def test_a_refused_connection(score):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(SIEConnectionError, match=f"http://127.0.0.1:{port}/v1/score/m") as caught:
        score(f"http://127.0.0.1:{port}", wait_for_capacity=False)
    assert caught.value.kind == "connect"


def test_connection_that_does_not_open(score):
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        # Once its queue is full, it answers no more.
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(SIEConnectionError) as caught:
            score(url, {"connect_timeout_s": 0.2, "read_timeout_s": 5}, wait_for_capacity=False)
        for one in waiting:
            one.close()
    assert caught.value.kind == "connect"


def test_proxy_of_the_environment(score, monkeypatch):
    for name in ("no_proxy", "NO_PROXY", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with listening(answer) as (url, accepted):
        monkeypatch.setenv("http_proxy", url.replace("//", "//user:secret@"))
        assert score("http://sie.invalid")["scores"] == SCORED["scores"]
        monkeypatch.setenv("no_proxy", "sie.invalid")
        with pytest.raises(SIEConnectionError):
            score("http://sie.invalid", wait_for_capacity=False)
    [request] = accepted
    assert request.startswith(b"POST http://sie.invalid/v1/score/m HTTP/1.1\r\n")
    assert b"proxy-authorization: basic dxnlcjpzzwnyzxq=\r\n" in request.lower()


def test_password_in_the_url_wins_over_a_key(score):
    with listening(answer) as (url, accepted):
        score(url.replace("//", "//user:secret@"), {"api_key": "key"})
    assert b"\r\nauthorization: basic dxnlcjpzzwnyzxq=\r\n" in accepted[0].lower()
    assert b"Bearer" not in accepted[0]


def test_headers_are_read_in_any_case(score):
    def answer_with_units(connection):
        connection.sendall(OK.replace(b"\r\n", b"\r\nX-SIE-Units-Tokens: 7\r\nx-sie-request-id: r\r\n", 1) + BODY)

    with listening(answer_with_units) as (url, _):
        assert score(url)["request"] == {"id": "r", "units": {"tokens": 7.0}}


def test_waiting_for_a_connection_is_part_of_the_budget():
    over = threading.Event()

    def answer_late(connection):
        assert over.wait(60)
        answer(connection)

    async def main(url):
        async with SIEAsyncClient(url, max_connections=1) as client:
            one, other = (client.score("m", Item(text="q"), [Item(text="d")], provision_timeout_s=s) for s in (60, 0.1))
            first = asyncio.create_task(one)
            await asyncio.sleep(0)  # the connection is its now
            with pytest.raises(SIEConnectionError) as caught:
                await other
            over.set()
            return await first, caught.value.kind

    with listening(answer_late) as (url, accepted):
        scored, kind = asyncio.run(main(url))
    assert scored["scores"] == SCORED["scores"]
    assert kind == "timeout"
    assert len(accepted) == 1


def test_closed_client_says_so():
    async def main():
        async with SIEAsyncClient("http://sie.invalid") as client:
            pass
        await client.list_models()

    with pytest.raises(RuntimeError, match="closed"):
        asyncio.run(main())


def test_max_concurrency():
    class Load:
        now = most = 0

    async def main():
        import httpx2

        async def handler(_):
            Load.now += 1
            Load.most = max(Load.most, Load.now)
            await asyncio.sleep(0)
            Load.now -= 1
            return httpx2.Response(200, content=BODY)

        http_client = httpx2.AsyncClient(transport=httpx2.MockTransport(handler))
        async with http_client, SIEAsyncClient("http://x", max_concurrency=3, http_client=http_client) as client:
            await asyncio.gather(*(client.score("m", Item(text="q"), [Item(text="d")]) for _ in range(20)))

    asyncio.run(main())
    assert Load.most == 3
