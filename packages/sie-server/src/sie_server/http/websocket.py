"""WebSocket connections: uvicorn's, with limits on data received and on unread data."""

import asyncio
from contextlib import suppress
from typing import Any

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.wsproto_impl import WSProtocol
from wsproto.events import CloseConnection
from wsproto.utilities import LocalProtocolError

# Clients of a status stream only send pings. Each takes some microseconds of the event loop; a client that sends them
# as fast as it can would block other requests.
_BURST_BYTES = 4096 + 14
_BYTES_PER_S = 1024
# Time for frames to be read, and for the closing handshake.
_PATIENCE_S = 5.0
_POLICY_VIOLATION = 1008


class StatusConnection(WSProtocol):
    """One WebSocket. It is closed when its client sends too much or stops reading."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._allowance = float(_BURST_BYTES)
        self._counted = self.loop.time()
        self._upgraded = self._refused = self._stuck = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._timer = self.loop.call_later(_PATIENCE_S, self._check)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self._upgraded:
            now = self.loop.time()
            self._allowance = min(self._allowance + (now - self._counted) * _BYTES_PER_S, _BURST_BYTES) - len(data)
            self._counted = now
            if self._allowance < 0:
                self._refuse()
                return
        # The first data is the upgrade request.
        self._upgraded = True
        super().data_received(data)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stuck = False

    def shutdown(self) -> None:
        super().shutdown()
        self.close_sent = True

    async def send(self, message: ASGISendEvent) -> None:
        await self.writable.wait()
        if self.close_sent:
            raise ClientDisconnected
        await super().send(message)

    def _refuse(self) -> None:
        self._refused = True
        with suppress(LocalProtocolError):  # closed already, or not open yet
            self.transport.write(
                self.conn.send(CloseConnection(_POLICY_VIOLATION, "too much data for a status stream"))
            )
        self.close_sent = True
        self.transport.close()

    def _check(self) -> None:
        """Abort the connection if its client has read nothing since the last check."""
        if self._stuck and (self.transport.is_closing() or not self.writable.is_set()):
            self.transport.abort()
            return
        self._stuck = self.transport.is_closing() or not self.writable.is_set()
        self._timer = self.loop.call_later(_PATIENCE_S, self._check)
