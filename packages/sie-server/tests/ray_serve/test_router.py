"""Where the router finds the model of a request that a proxy of Ray passes on."""

import pickle

import pytest

pytest.importorskip("ray", reason="Ray is not installed: make test-ray")

from ray.serve._private.common import StreamingHTTPRequest

from sie_server.ray.router import asked_model, model_id

pytestmark = pytest.mark.ray


def asked(path: str, root: str = "", **headers: str) -> str | None:
    scope = {
        "type": "http",
        "path": path,
        "root_path": root,
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }
    return asked_model((pickle.dumps(StreamingHTTPRequest(scope, proxy_actor_name="proxy")),))


def test_the_path_comes_before_the_header() -> None:
    assert asked("/v1/score/BAAI/bge-reranker-v2-m3") == "BAAI/bge-reranker-v2-m3"
    assert asked("/v1/encode/bert:small", x_sie_model="other") == "bert:small"
    assert asked("/rank/v1/score/bert", root="/rank") == "bert"
    assert asked("/v1/rerank", x_sie_model="bert") == "bert"


def test_bodies_are_not_read() -> None:
    assert asked("/v1/rerank") is None
    assert asked("/v1/models/bert") is None
    assert asked_model(()) is None
    assert asked_model(({"model": "bert"},)) is None  # a call of a handle


def test_a_name_is_its_model() -> None:
    aliases = {"rerank-v3.5": "BAAI/bge-reranker-v2-m3:short"}
    assert model_id("rerank-v3.5", aliases) == "BAAI/bge-reranker-v2-m3"
    assert model_id("bert:small", aliases) == "bert"
    assert model_id("bert", aliases) == "bert"
