"""A WebSocket's connection: uvicorn's, with limits on what is sent on it and on what is not read."""

import asyncio
from contextlib import suppress
from typing import Any

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.wsproto_impl import WSProtocol
from wsproto.events import CloseConnection
from wsproto.utilities import LocalProtocolError

# Clients of a status stream have nothing to say but pings. Each takes some microseconds on the event loop, so that one
# that sends as fast as it can would keep it from everybody else.
_BURST_BYTES = 4096 + 14
_BYTES_PER_S = 1024
# For what was sent to be read, and for a close to be over.
_PATIENCE_S = 5.0
_POLICY_VIOLATION = 1008


class Watcher(WSProtocol):
    """One WebSocket. It is closed when more comes than a watcher has to say, or when nobody reads."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._room = float(_BURST_BYTES)
        self._counted = self.loop.time()
        self._upgraded = self._refused = self._stuck = False
        self._look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._look = self.loop.call_later(_PATIENCE_S, self._looked)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._look is not None:
            self._look.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self._upgraded:
            now = self.loop.time()
            self._room = min(self._room + (now - self._counted) * _BYTES_PER_S, _BURST_BYTES) - len(data)
            self._counted = now
            if self._room < 0:
                self._refuse()
                return
        # The first is the request that asked for a WebSocket.
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
            self.transport.write(self.conn.send(CloseConnection(_POLICY_VIOLATION, "this is more than a watcher says")))
        self.close_sent = True
        self.transport.close()

    def _looked(self) -> None:
        """Lets a client go that has read nothing since the last look."""
        if self._stuck and (self.transport.is_closing() or not self.writable.is_set()):
            self.transport.abort()
            return
        self._stuck = self.transport.is_closing() or not self.writable.is_set()
        self._look = self.loop.call_later(_PATIENCE_S, self._looked)
