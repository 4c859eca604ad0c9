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
from ray.cluster_utils import Cluster as Nodes
from ray.serve.config import RequestRouterConfig
from ray.serve.context import _get_global_client
from ray.serve.schema import ReplicaDetails, ReplicaState, ServeInstanceDetails

from sie_server.ray import app
from sie_server.ray.arguments import Arguments

_STORE_BYTES = 80 * 2**20
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    # For all clusters of this process, as Ray remembers it; no other user of the machine gets in.
    "RAY_AUTH_TOKEN": os.urandom(32).hex(),
    # By default, replicas yield to every other process of the machine.
    "RAY_worker_niceness": "0",
    # Its messages are for a person who watches.
    "RAY_SERVE_LOG_TO_STDERR": "0",
}
# Ray's HAProxy, which sends requests to the replicas directly, in place of its own proxy.
HAPROXY = {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}


class Cluster:
    """Ray Serve. url: where its proxy listens. nodes: those that can be lost."""

    def __init__(self, url: str, nodes: Nodes | None = None) -> None:
        self.url = url
        self._nodes = nodes

    def deploy(self, *, router: str = "", **arguments: Any) -> None:
        """Run the application with these arguments; return when it runs, and what ran before has been replaced.

        router: the class that routes requests, as `module:class`, in place of the application's. Proxies keep the one
            that they have made, so it is for the first application of a cluster.
        """
        application = app(Arguments.model_validate(arguments))
        if router:
            config = RequestRouterConfig(request_router_class=router)
            application = application._bound_deployment.options(request_router_config=config).bind(
                *application._bound_deployment.init_args
            )
        serve.run(application)

    def processes(self) -> list[int]:
        """The process ids of the replicas that run."""
        return sorted(each.pid for each in self._replicas() if each.pid is not None)

    def lose_node(self) -> None:
        """Kill all processes of a node on which a replica runs."""
        assert self._nodes is not None
        lost = self._replicas()[0].node_id
        self._nodes.remove_node(
            next(node for node in self._nodes.worker_nodes if node.node_id == lost), allow_graceful=False
        )

    def _replicas(self) -> list[ReplicaDetails]:
        client = _get_global_client()
        assert client is not None
        application = ServeInstanceDetails(**client.get_serve_details()).applications["default"]
        return [each for each in application.deployments["sie"].replicas if each.state == ReplicaState.RUNNING]


@contextmanager
def cluster(cpus: int = 4, environment: Mapping[str, str] = {}, workers: int = 0) -> Iterator[Cluster]:
    """A cluster that lasts as long as the context.

    cpus: of its node. workers: nodes with one CPU each, on which the replicas run in place of the first one.
    environment: of all its processes.
    """
    with (
        TemporaryDirectory(prefix="sie-ray-", dir="/tmp") as folder,  # short, for the names of sockets in it
        patch.dict(os.environ, {**_ENVIRONMENT, **environment}),
    ):
        node = {"object_store_memory": _STORE_BYTES, "include_dashboard": False}
        nodes: Nodes | None = None
        if workers:
            nodes = Nodes(initialize_head=True, head_node_args={**node, "num_cpus": 0, "temp_dir": folder})
            for _ in range(workers):
                nodes.add_node(wait=True, num_cpus=1, object_store_memory=_STORE_BYTES)
            ray.init(address=nodes.address, log_to_driver=False, logging_level="warning")
        else:
            ray.init(num_cpus=cpus, _temp_dir=folder, log_to_driver=False, logging_level="warning", **node)
        try:
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = free.getsockname()[1]
            # One proxy, as all nodes have the same address here.
            serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
            yield Cluster(f"http://127.0.0.1:{port}", nodes)
        finally:
            serve.shutdown()
            ray.shutdown()
            if nodes is not None:
                nodes.shutdown()
