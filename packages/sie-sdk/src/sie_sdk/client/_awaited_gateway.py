"""What the asyncio client asks of a gateway."""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sie_sdk import _gateway
from sie_sdk._core.endpoint import Endpoint
from sie_sdk._core.exchange import Trace
from sie_sdk.client._async_session import AwaitedSession
from sie_sdk.errors import RequestError, ServerError, SIEError
from sie_sdk.types import CapacityInfo, PoolInfo

if TYPE_CHECKING:
    import asyncio

    import httpx2

log = logging.getLogger("sie_sdk")


class AwaitedGateway(AwaitedSession):
    """A session that keeps the leases of its pools, in a task for each."""

    def __init__(
        self,
        endpoint: Endpoint,
        max_connections: int | None,
        max_concurrency: int | None,
        http_client: "httpx2.AsyncClient | None",
    ) -> None:
        super().__init__(endpoint, max_connections, max_concurrency, http_client)
        self._leases: dict[str, asyncio.Task[None]] = {}

    async def close(self) -> None:
        """Closes the connections, and ends what watches. Pools are kept no longer."""
        for lease in self._leases.values():
            lease.cancel()
        await super().close()

    async def get_capacity(self, gpu: str | None = None) -> CapacityInfo:
        """The machines behind a gateway, or those of one profile; see `SIEClient.get_capacity`."""
        return await self._look_up(_gateway.capacity(self._endpoint, gpu))

    async def wait_for_capacity(
        self, gpu: str, *, model: str | None = None, timeout_s: float | None = None, poll_interval_s: float = 5.0
    ) -> CapacityInfo:
        """Waits until a gateway has a machine of that profile; see `SIEClient.wait_for_capacity`."""
        steps = _gateway.waiting_for_capacity(
            self._endpoint, gpu, model, timeout_s, poll_interval_s, self._skew, self._clock
        )
        return await self._driven(steps)

    async def create_pool(
        self,
        name: str,
        gpus: Mapping[str, int] | None = None,
        *,
        gpu_caps: Mapping[str, int] | None = None,
        bundle: str | None = None,
        minimum_worker_count: int | None = None,
    ) -> PoolInfo:
        """Reserves machines under a name; see `SIEClient.create_pool`. Its lease is kept on the loop of this call."""
        spec = {
            "gpus": gpus, "gpu_caps": gpu_caps, "bundle": bundle, "minimum_worker_count": minimum_worker_count,
        }  # fmt: skip
        try:
            info = await self._look_up(_gateway.new_pool(self._endpoint, name, spec))
        except (RequestError, ServerError) as error:
            raise _gateway.refused(name, error) from error
        if name not in self._leases:
            import asyncio

            self._leases[name] = asyncio.create_task(self._keep(name))
        return info

    async def get_pool(self, name: str) -> PoolInfo | None:
        """A pool, or None if there is none of that name."""
        try:
            return await self._look_up(_gateway.pool(self._endpoint, name))
        except RequestError as error:
            if error.status_code != 404:
                raise
            return None

    async def delete_pool(self, name: str) -> bool:
        """Gives the machines of a pool back; whether there was one of that name."""
        if lease := self._leases.pop(name, None):
            lease.cancel()
        try:
            return await self._look_up(_gateway.deleted_pool(self._endpoint, name))
        except RequestError as error:
            if error.status_code != 404:
                raise
            return False

    async def _keep(self, name: str) -> None:
        import asyncio

        while True:
            await asyncio.sleep(_gateway.RENEWAL_S)
            try:
                await self._run(_gateway.renewed_pool(self._endpoint, name), Trace())
            except SIEError as error:
                log.warning("the lease of the pool %r is not renewed: %s", name, error)
