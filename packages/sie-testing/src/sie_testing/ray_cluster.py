"""A cluster of Ray on this machine, with the server as its application."""

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import ray
from ray import serve
from ray.serve.config import RequestRouterConfig
from ray.serve.context import _get_global_client
from ray.serve.schema import ReplicaState, ServeInstanceDetails

from sie_server.ray import app
from sie_server.ray.arguments import Arguments

_STORE_BYTES = 80 * 2**20
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Its messages are for a person who watches.
    "RAY_SERVE_LOG_TO_STDERR": "0",
}
# Ray's HAProxy, which sends requests to the replicas directly, in place of its own proxy.
HAPROXY = {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}


class Cluster:
    """Ray Serve, on one node. url: where its proxy listens."""

    def __init__(self, url: str) -> None:
        self.url = url

    def deploy(self, *, router: str = "", **arguments: Any) -> None:
        """Run the application with these arguments; return when it runs, and what ran before has been replaced.

        router: the class that routes requests, as `module:class`, in place of the application's.
        """
        application = app(Arguments.model_validate(arguments))
        if router:
            serve.delete("default")  # proxies keep the router that they have for an application
            config = RequestRouterConfig(request_router_class=router)
            application = application._bound_deployment.options(request_router_config=config).bind(
                *application._bound_deployment.init_args
            )
        serve.run(application)

    def processes(self) -> list[int]:
        """The process ids of the replicas that run."""
        client = _get_global_client()
        assert client is not None
        application = ServeInstanceDetails(**client.get_serve_details()).applications["default"]
        replicas = application.deployments["sie"].replicas
        return sorted(each.pid for each in replicas if each.state == ReplicaState.RUNNING and each.pid is not None)


@contextmanager
def cluster(cpus: int = 4, environment: Mapping[str, str] = {}) -> Iterator[Cluster]:
    """A cluster that lasts as long as the context. environment: of all its processes."""
    with (
        TemporaryDirectory(prefix="sie-ray-", dir="/tmp") as folder,  # short, for the names of sockets in it
        patch.dict(os.environ, {**_ENVIRONMENT, "RAY_AUTH_TOKEN": os.urandom(32).hex(), **environment}),
    ):
        ray.init(
            num_cpus=cpus,
            include_dashboard=False,
            object_store_memory=_STORE_BYTES,
            _temp_dir=folder,
            log_to_driver="RAY_DEBUG" in environment,
            logging_level="warning",
        )
        try:
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = free.getsockname()[1]
            serve.start(http_options={"host": "127.0.0.1", "port": port})
            yield Cluster(f"http://127.0.0.1:{port}")
        finally:
            serve.shutdown()
            ray.shutdown()
