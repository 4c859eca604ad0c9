"""Status streams: how they are opened and reopened, and what ends them."""

import asyncio
import json
import logging
import socket
import struct
import threading
import time
from contextlib import closing, contextmanager

import pytest
from sdk_stand_ins import BASE_URL

from sie_sdk import SIEAsyncClient, SIEClient, errors
from sie_sdk._core.endpoint import Endpoint
from sie_sdk._core.exchange import Failure, Pause, ServerHistory
from sie_sdk._core.reply import Reply
from sie_sdk._core.watch import Open, Read, ShowStatus, watch_statuses

REFUSED = Failure("connect", ConnectionRefusedError("refused"))
OPENED = Reply(101, {"x-sie-server-version": "unknown"}, b"")
ENDED = b""


def frame(opcode, data):
    size = bytes([len(data)]) if len(data) < 126 else struct.pack(">BH", 126, len(data))
    return bytes([0x80 | opcode]) + size + data


def status(**fields):
    return frame(1, json.dumps(fields).encode())


def missing(path=404):
    return Reply(path, {}, b'{"detail":"Not Found"}')


class Script:
    """Drives a stream and plays the server: each step that needs an answer gets the next one of the script."""

    def __init__(self, fake_time, *answers, wait_for_capacity=True, provision_timeout_s=60.0):
        endpoint = Endpoint(BASE_URL, read_timeout_s=20.0, api_key="k")
        call = endpoint.watch("auto", wait_for_capacity=wait_for_capacity, provision_timeout_s=provision_timeout_s)
        self.sent, self.written, self.shown = [], [], []
        answers = iter(answers)
        with closing(watch_statuses(call, ServerHistory(), fake_time.clock())) as steps:
            answer = None
            while True:
                step, answer = steps.send(answer), None
                if isinstance(step, ShowStatus):
                    self.shown.append(step.status)
                elif isinstance(step, Pause):
                    fake_time.sleep(step.seconds)
                elif isinstance(step, Open | Read):
                    if isinstance(step, Open):
                        self.sent.append(step.attempt)
                    answer = next(answers, "over")
                    if answer == "over":
                        return
                    if answer is None:
                        fake_time.now += step.timeout_s
                else:
                    self.written.append(step.data)


def test_the_handshake(fake_time):
    [attempt] = Script(fake_time, OPENED).sent
    assert (attempt.method, attempt.url) == ("GET", "http://sie.test:8080/ws/status")
    assert attempt.headers["authorization"] == "Bearer k"
    assert (attempt.headers["upgrade"], attempt.headers["connection"]) == ("websocket", "upgrade")


def test_frames_in_any_pieces(fake_time):
    data = status(n=1, text="é" * 200) + frame(9, b"ping") + status(n=2)
    script = Script(fake_time, OPENED, *(data[i : i + 1] for i in range(len(data))))
    assert [shown["n"] for shown in script.shown] == [1, 2]
    [pong] = script.written
    assert pong[0] == 0x8A


def test_it_is_reopened_after_the_pauses_of_a_call(fake_time):
    script = Script(fake_time, REFUSED, REFUSED, REFUSED, OPENED, status(n=1), ENDED, REFUSED, OPENED, status(n=2))
    assert fake_time.pauses == [0.5, 1.0, 2.0, 0.5, 1.0]
    assert [shown["n"] for shown in script.shown] == [1, 2]


@pytest.mark.parametrize("end", [ENDED, frame(8, struct.pack(">H", 1012)), b"\xff\xff", Failure("connect", OSError())])
def test_every_end_of_a_connection_is_followed_by_another(fake_time, end):
    script = Script(fake_time, OPENED, status(n=1), end, OPENED, status(n=2))
    assert [shown["n"] for shown in script.shown] == [1, 2]
    assert fake_time.pauses == [0.5]


def test_a_silent_connection_is_given_up(fake_time):
    script = Script(fake_time, OPENED, *[None] * 40, OPENED)
    assert (len(script.sent), fake_time.pauses) == (2, [0.5])


def test_a_silent_server_is_not_retried_forever(fake_time):
    with pytest.raises(errors.SIEConnectionError) as caught:
        Script(fake_time, *[OPENED, ENDED] * 100)
    assert caught.value.kind == "connect"
    assert fake_time.now - 1000.0 <= 60.0


def test_every_status_renews_the_budget(fake_time):
    lost = [REFUSED] * 5
    script = Script(fake_time, *[OPENED, status(n=1), ENDED, *lost] * 10)
    assert len(script.shown) == 10
    assert fake_time.now - 1000.0 > 60.0


def test_a_full_server_is_retried_after_its_retry_after(fake_time):
    full = Reply(
        503,
        {"retry-after": "5"},
        b'{"detail":{"code":"QUEUE_FULL","message":"the limit of 64 streams is reached"}}',
    )
    Script(fake_time, full, OPENED, status(n=1))
    assert fake_time.pauses == [5.0]


@pytest.mark.parametrize("code", [403, 404, 405, 426, 200])
def test_a_server_without_such_a_stream(fake_time, code):
    with pytest.raises(
        errors.RequestError, match=r"^no status stream at http://sie\.test:8080/ws/status: Not"
    ) as caught:
        Script(fake_time, missing(code))
    assert (caught.value.status_code, fake_time.pauses) == (code, [])


@pytest.mark.parametrize("content", [b"not json", b"[1]"])
def test_an_invalid_status_frame(fake_time, content):
    with pytest.raises(errors.RequestError, match="Malformed status JSON response"):
        Script(fake_time, OPENED, frame(1, content))


@pytest.mark.parametrize("arguments", [{"wait_for_capacity": False}, {"provision_timeout_s": 0.0}])
def test_not_waiting(fake_time, arguments):
    with pytest.raises(errors.SIEConnectionError):
        Script(fake_time, OPENED, status(n=1), ENDED, **arguments)
    assert fake_time.pauses == []


@pytest.mark.parametrize("client_class", [SIEClient, SIEAsyncClient])
def test_modes(client_class):
    client = client_class(BASE_URL)
    with pytest.raises(ValueError, match=r"mode must be 'auto' or 'worker', got 'gateway'$"):
        client.watch("gateway")
    with pytest.raises(ValueError, match=r"got 'cluster': the status of a cluster comes from a gateway$"):
        client.watch("cluster")


@contextmanager
def serving(*connections):
    """Runs a server that sends one of `connections` per connection, and keeps the last one open."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepted = []

        def serve():
            for said in connections:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                accepted.append(connection)
                request = connection.recv(65536)
                opened = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
                assert request.startswith(b"GET /ws/status ")
                connection.sendall(opened + said)
                if said is not connections[-1]:
                    connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in accepted:
                connection.close()


# Less than either wait would take by itself, on the busiest machine.
_SOON_S = 20.0


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_over_sockets_until_the_client_is_closed(kind, caplog):
    caplog.set_level(logging.ERROR)
    seen = []

    def blocking(url):
        with SIEClient(url) as client:
            for message in client.watch():
                seen.append(message["n"])
                if len(seen) == 3:
                    threading.Timer(0.1, client.close).start()

    async def awaited(url):
        async with SIEAsyncClient(url) as client:
            async for message in client.watch():
                seen.append(message["n"])
                if len(seen) == 3:
                    asyncio.get_running_loop().call_later(0.1, asyncio.ensure_future, client.close())

    with serving(status(n=1) + status(n=2), status(n=3)) as url:
        started = time.monotonic()
        blocking(url) if kind == "sync" else asyncio.run(awaited(url))
        assert time.monotonic() - started < _SOON_S
    assert seen == [1, 2, 3]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_closing_the_client_ends_a_wait_for_the_server(kind):
    def blocking(url):
        with SIEClient(url) as client:
            threading.Timer(0.1, client.close).start()
            return list(client.watch())

    async def awaited(url):
        async with SIEAsyncClient(url) as client:
            asyncio.get_running_loop().call_later(0.1, asyncio.ensure_future, client.close())
            return [status async for status in client.watch()]

    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    started = time.monotonic()
    assert (blocking(url) if kind == "sync" else asyncio.run(awaited(url))) == []
    assert time.monotonic() - started < _SOON_S


def test_a_task_that_watches_can_be_cancelled():
    async def main(url):
        seen = asyncio.Event()

        async def watch(client):
            async for _ in client.watch():
                seen.set()

        async with SIEAsyncClient(url) as client:
            task = asyncio.create_task(watch(client))
            await seen.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    with serving(status(n=1)) as url:
        asyncio.run(main(url))


def test_leaving_the_loop_hangs_up():
    with serving(status(n=1)) as url, SIEClient(url) as client:
        statuses = client.watch("worker")
        assert next(statuses) == {"n": 1}
        statuses.close()
        assert list(statuses) == []
