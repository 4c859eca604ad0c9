"""Ray Serve's router of requests, in each of its proxies: a model's requests go to the replicas that own the model."""

import pickle
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

from sie_server.ray.placement import Placement, in_order, preferred

_MODEL_ROUTE = re.compile(r"/v1/(?:score|encode|extract)/(.+)")
_MODEL_HEADER = b"x-sie-model"


class ModelRouter(RequestRouter):  # type: ignore[misc] # Ray is not installed where this is checked
    """Routes by the model in the path or in the header `X-SIE-Model`; bodies are not read.

    A request without either, or for a model that is loaded before a replica is ready, goes to the replica with the
    least queued work.
    """

    def initialize_state(self, **_: object) -> None:
        """Called by Ray Serve once per proxy. An update changes the replicas, so what may change is read from them."""
        self._placement = Placement()
        self._spill_s = 0.0
        # Requests that each replica was sent since it last reported its work.
        self._sent: Counter[str] = Counter()
        self._by_name: dict[str, RunningReplica] = {}
        self._number = 1
        self._served: set[str] = set()
        self._preloaded: set[str] = set()
        self._aliases: dict[str, str] = {}

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Called by Ray Serve when replicas come or go, and when they report."""
        super().update_replicas(replicas)
        self._sent.clear()
        self._by_name = {each.replica_id.unique_id: each for each in replicas}
        said = [each.replica_metadata for each in replicas]
        self._served = {model for each in said for model in each.get("served", ())}
        self._preloaded = {model for each in said for model in each.get("preloaded", ())}
        self._aliases = {alias: model for each in said for alias, model in each.get("aliases", {}).items()}
        self._spill_s = max((each.get("spill_seconds", 0.0) for each in said), default=0.0)
        self._number = max((each.get("owners", 1) for each in said), default=1)
        loaded = {name: each.routing_stats.get("loaded", ()) for name, each in self._by_name.items()}
        self._placement.update(loaded, self._number)

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """The replicas in the order in which the request is offered to them."""
        if pending_request is not None:
            pending_request.routing_context.should_backoff = True  # if none of these takes it
        ready = {each.replica_id.unique_id: each for each in candidate_replicas}
        asked = None if pending_request is None else asked_model(pending_request.args)
        owners = [] if asked is None else [name for name in self._owners(asked) if name in ready]
        order = in_order(owners, ready, self._work, self._spill_s)
        if order:
            self._sent[order[0]] += 1
        return [[ready[name]] for name in order]

    def _owners(self, asked: str) -> list[str]:
        model = model_id(asked, self._aliases)
        if model in self._preloaded:
            return []
        if model in self._served:
            return self._placement.of(model)
        # A client may invent names without end, so nothing is remembered of those that no replica knew at its start.
        return preferred(model, self._by_name, self._number)

    def _work(self, name: str) -> tuple[float, int]:
        stats, sent = self._by_name[name].routing_stats, self._sent[name]
        seconds = stats.get("queue_seconds", 0.0)
        # What was sent meanwhile takes as long as what waited.
        return seconds + sent * seconds / max(stats.get("requests", 0), 1), sent


def asked_model(args: "list[Any] | tuple[Any, ...]") -> str | None:
    """The name of the model that a request of Ray's proxy is for, as the client writes it; None: it is in the body."""
    if not (args and isinstance(args[0], bytes)):
        return None
    scope = pickle.loads(args[0]).asgi_scope  # made by the proxy, in this process
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    if (route := _MODEL_ROUTE.fullmatch(path)) is not None:
        return route[1]
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == _MODEL_HEADER), None)


def model_id(name: str, aliases: Mapping[str, str]) -> str:
    """The model of a name, which may be an alias and have a profile."""
    name = aliases.get(name, name)
    return name.rpartition(":")[0] or name
