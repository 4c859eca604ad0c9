"""Requests through a server, one after the other or side by side."""

import threading
from collections.abc import Callable, Iterable
from contextlib import closing

from sie_server.cli.bench.through_server import Answer, Client

Connect = Callable[[], Client]


def alone(client: Client, request: bytes, turns: Iterable[object]) -> list[Answer]:
    """Send one request per turn, one after the other, after two warm-up requests."""
    with closing(client):
        for _ in range(2):
            client.score(request)
        return [client.score(request) for _ in turns]


def together(connect: Connect, clients: int, request: bytes, turns: Callable[[], Iterable[object]]) -> list[Answer]:
    """Run `clients` clients at once, each as in `alone`, with its own turns.

    Raises:
        RuntimeError: a client was answered with an error.
    """
    answers: list[Answer] = []
    faults: list[Exception] = []

    def run() -> None:
        try:
            answers.extend(alone(connect(), request, turns()))
        except Exception as error:  # a thread can't raise it where it would be seen
            faults.append(error)

    threads = [threading.Thread(target=run) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise RuntimeError(f"a client of {clients} failed: {faults[0]}") from faults[0]
    return answers


def overhead(answer: Answer) -> float:
    """Seconds of a request outside of inference; with concurrent requests, mostly waiting for their batches."""
    return answer.seconds - answer.stages["inference"]
