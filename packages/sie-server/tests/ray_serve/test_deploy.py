"""deploy/ray/: what `serve deploy` and KubeRay read is valid for Ray, and its arguments are for the application."""

from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("ray", reason="Ray is not installed: make test-ray")

import ray
from ray.serve.schema import ServeDeploySchema

from sie_server import __version__
from sie_server.ray import app
from sie_server.ray.arguments import Arguments

pytestmark = pytest.mark.ray
DEPLOY = Path(__file__).resolve().parents[4] / "deploy" / "ray"
RAY_SERVICE: dict[str, Any] = yaml.safe_load((DEPLOY / "rayservice.yaml").read_text())


@pytest.mark.parametrize(
    "text",
    [(DEPLOY / "serve_config.yaml").read_text(), RAY_SERVICE["spec"]["serveConfigV2"]],
    ids=["serve_config.yaml", "rayservice.yaml"],
)
def test_ray_and_the_application_take_the_config(text: str) -> None:
    config = ServeDeploySchema.model_validate(yaml.safe_load(text))
    (application,) = config.applications
    assert application.import_path == "sie_server.ray:app"
    arguments = Arguments.model_validate(application.args)
    deployment = app(arguments)._bound_deployment
    assert deployment._deployment_config.graceful_shutdown_timeout_s > arguments.drain_s
    assert deployment._deployment_config.max_surge_percent > 0
    assert deployment._deployment_config.autoscaling_config.max_replicas == arguments.max_replicas == 8
    assert config.http_options.request_timeout_s >= 600


def test_pods_outlive_the_drain_and_fit_a_replica() -> None:
    cluster = RAY_SERVICE["spec"]["rayClusterConfig"]
    (application,) = yaml.safe_load(RAY_SERVICE["spec"]["serveConfigV2"])["applications"]
    arguments = Arguments.model_validate(application["args"])
    (workers,) = cluster["workerGroupSpecs"]
    pod = workers["template"]["spec"]
    (container,) = pod["containers"]
    (head,) = cluster["headGroupSpec"]["template"]["spec"]["containers"]
    assert cluster["rayVersion"] == ray.__version__
    assert head["image"] == container["image"] == f"sie-ray:{__version__}"
    assert pod["terminationGracePeriodSeconds"] > arguments.drain_s
    assert int(container["resources"]["limits"]["cpu"]) >= arguments.num_cpus
    assert workers["maxReplicas"] >= arguments.max_replicas * (1 + arguments.max_surge_percent / 100)
