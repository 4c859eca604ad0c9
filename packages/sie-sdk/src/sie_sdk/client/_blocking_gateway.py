"""What the blocking client asks of a gateway."""

import logging
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sie_sdk import _gateway
from sie_sdk._core.endpoint import Endpoint
from sie_sdk._core.exchange import Trace
from sie_sdk.client._sync_session import BlockingSession
from sie_sdk.errors import RequestError, ServerError, SIEError
from sie_sdk.types import CapacityInfo, PoolInfo

if TYPE_CHECKING:
    import httpx2

log = logging.getLogger("sie_sdk")


class BlockingGateway(BlockingSession):
    """A session that keeps the leases of its pools, in a thread for each."""

    def __init__(self, endpoint: Endpoint, max_connections: int | None, http_client: "httpx2.Client | None") -> None:
        super().__init__(endpoint, max_connections, http_client)
        self._leases: dict[str, threading.Event] = {}

    def close(self) -> None:
        """Closes the connections, and ends what watches. Pools are kept no longer."""
        for ended in self._leases.values():
            ended.set()
        super().close()

    def get_capacity(self, gpu: str | None = None) -> CapacityInfo:
        """The machines behind a gateway, or those of one profile, `"l4"` say.

        Raises RequestError where there is no gateway: a single server has its own state in `watch()`.
        """
        return self._look_up(_gateway.capacity(self._endpoint, gpu))

    def wait_for_capacity(
        self, gpu: str, *, model: str | None = None, timeout_s: float | None = None, poll_interval_s: float = 5.0
    ) -> CapacityInfo:
        """Waits until a gateway has a machine of that profile that is up.

        Args:
            gpu: The profile, `"l4"`, or `"pool/l4"`.
            model: A model that is to be loaded on it; one small request sees to that, and starts a machine.
            timeout_s: Seconds to wait (900).
            poll_interval_s: Seconds between two looks.

        Raises:
            ProvisioningError: There was none in time.
            RequestError: There is no gateway.
        """
        steps = _gateway.waiting_for_capacity(
            self._endpoint, gpu, model, timeout_s, poll_interval_s, self._skew, self._clock
        )
        return self._driven(steps, time.sleep)

    def create_pool(
        self,
        name: str,
        gpus: Mapping[str, int] | None = None,
        *,
        gpu_caps: Mapping[str, int] | None = None,
        bundle: str | None = None,
        minimum_worker_count: int | None = None,
    ) -> PoolInfo:
        """Reserves machines under a name, for calls with `gpu="name/profile"`, until `delete_pool` or `close`.

        Args:
            name: The pool's name; one that is there already gets this shape.
            gpus: How many machines of each profile it needs to be ready, `{"l4": 2}` say.
            gpu_caps: At most how many of each it may have.
            bundle: Only machines that serve this bundle of models.
            minimum_worker_count: How many machines are kept when there is nothing to do.

        Raises PoolError where that is refused, as by a server without a gateway.
        """
        spec = {
            "gpus": gpus, "gpu_caps": gpu_caps, "bundle": bundle, "minimum_worker_count": minimum_worker_count,
        }  # fmt: skip
        try:
            info = self._look_up(_gateway.new_pool(self._endpoint, name, spec))
        except (RequestError, ServerError) as error:
            raise _gateway.refused(name, error) from error
        if name not in self._leases:
            ended = self._leases[name] = threading.Event()
            threading.Thread(target=self._keep, args=(name, ended), name="sie-sdk-lease", daemon=True).start()
        return info

    def get_pool(self, name: str) -> PoolInfo | None:
        """A pool, or None if there is none of that name."""
        try:
            return self._look_up(_gateway.pool(self._endpoint, name))
        except RequestError as error:
            if error.status_code != 404:
                raise
            return None

    def delete_pool(self, name: str) -> bool:
        """Gives the machines of a pool back; whether there was one of that name."""
        if ended := self._leases.pop(name, None):
            ended.set()
        try:
            return self._look_up(_gateway.deleted_pool(self._endpoint, name))
        except RequestError as error:
            if error.status_code != 404:
                raise
            return False

    def _keep(self, name: str, ended: threading.Event) -> None:
        while not ended.wait(_gateway.RENEWAL_S):
            try:
                self._run(_gateway.renewed_pool(self._endpoint, name), Trace(), time.sleep)
            except SIEError as error:
                log.warning("the lease of the pool %r is not renewed: %s", name, error)
