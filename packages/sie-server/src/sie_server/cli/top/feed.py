"""Samples the status and metrics of a running server."""

import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx2
from httpx2.websockets import HTTPXWSException, WebSocketUpgradeError

from sie_server.cli.top.sample import Sample

_TIMEOUT_S = 5.0
_MOST_FRAME_BYTES = 16 * 2**20
_REFUSED = (401, 403)
_AGAIN_S = 1.0


class RefusedError(Exception):
    """The server cannot be watched, and retrying will not help; the message says what will."""


class Feed:
    """Samples of the server at `url`, one every `interval_s`."""

    def __init__(self, url: str, interval_s: float, api_key: str | None) -> None:
        """Raises RefusedError: `url` is not a URL."""
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc:
            raise RefusedError(f"{url!r} is not the URL of a server, such as http://localhost:8080")
        self.url = url.rstrip("/")
        self._interval_s = interval_s
        self._headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}

    def samples(self) -> Iterator[Sample | str]:
        """Yield samples without end, and an error message while the server is unreachable.

        Raises:
            RefusedError: as `connected`.
        """
        while True:
            try:
                yield from self.connected()
            except OSError as error:
                yield str(error)
                time.sleep(_AGAIN_S)

    def connected(self) -> Iterator[Sample]:
        """Yield samples until the connection ends.

        Raises:
            RefusedError: the server requires another key, or is not an SIE server.
            OSError: the server is unreachable, or the connection ended.
        """
        try:
            with (
                httpx2.Client(timeout=_TIMEOUT_S, headers=self._headers, trust_env=False) as client,
                client.websocket(f"{self.url}/ws/status", max_message_size_bytes=_MOST_FRAME_BYTES) as session,
            ):
                due = time.monotonic()
                while True:
                    frame: dict[str, Any] = json.loads(session.receive_text(_TIMEOUT_S))
                    if time.monotonic() >= due:
                        due = time.monotonic() + self._interval_s
                        answer = client.get(f"{self.url}/metrics")
                        answer.raise_for_status()
                        yield Sample.of(time.monotonic(), frame, answer.text)
        except WebSocketUpgradeError as error:
            raise self._refused(error.response.status_code) from None
        except httpx2.HTTPStatusError as error:
            raise self._refused(error.response.status_code) from None
        except (httpx2.TransportError, HTTPXWSException, TimeoutError) as error:
            raise ConnectionError(f"no server at {self.url}: {str(error) or 'the connection ended'}") from None

    def _refused(self, status: int) -> Exception:
        if status in _REFUSED:
            return RefusedError(f"{self.url} requires a key ({status}): pass it with --api-key or SIE_API_KEY")
        if status >= 500:
            return ConnectionError(f"{self.url} responds with {status}")
        return RefusedError(f"{self.url} is not an SIE server: it answers {status}")
