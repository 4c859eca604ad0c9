"""Scheduling parameters of a request: its client, its priority and its deadline."""

from dataclasses import dataclass

from sie_server.options import Priority


@dataclass(frozen=True, slots=True)
class SchedulingParams:
    """Scheduling parameters of one request.

    client: opaque identity; requests with the same one share one client's part of the device, "" is the part of all
    that have none. deadline: as in `deadline.py`.
    """

    client: str = ""
    priority: Priority = "normal"
    deadline: float | None = None
