"""deploy/helm/sie: rendered by Helm, validated against Kubernetes' schemas, and its flags given to a server."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import kubernetes_validate
import pytest
import yaml

from sie_server.cli.main import app
from sie_testing.serving import Server

CHART = Path(__file__).resolve().parents[4] / "deploy" / "helm" / "sie"
EXAMPLES = sorted((CHART / "examples").glob("*.yaml"))
# The oldest that Chart.yaml allows, and the newest that the validator knows.
KUBERNETES = ("1.27", kubernetes_validate.latest_version())
HELM = shutil.which("helm", path=Path(sys.executable).parent)
pytestmark = pytest.mark.skipif(HELM is None, reason="there is no Helm for this platform")
# Custom resources, of which Kubernetes has no schema, and the fields of their `spec` that the chart may use.
CUSTOM = {
    "ServiceMonitor": {"selector", "endpoints"},
    "PrometheusRule": {"groups"},
    "ScaledObject": {
        "scaleTargetRef",
        "minReplicaCount",
        "maxReplicaCount",
        "pollingInterval",
        "cooldownPeriod",
        "triggers",
    },
}

Objects = dict[str, dict[str, Any]]


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    assert HELM is not None
    command = [HELM, "template", "release", str(CHART), "--namespace", "search", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def rendered(*arguments: str) -> Objects:
    """The objects by kind; the chart has one of each, and the pod of `helm test`."""
    done = helm(*arguments)
    assert done.returncode == 0, done.stderr
    objects = [one for one in yaml.safe_load_all(done.stdout) if one]
    by_kind = {one["kind"]: one for one in objects}
    assert len(by_kind) == len(objects)
    return by_kind


def refusal(*arguments: str) -> str:
    done = helm(*arguments)
    assert done.returncode == 1
    return done.stderr


def flags(objects: Objects) -> list[str]:
    arguments: list[str] = objects["Deployment"]["spec"]["template"]["spec"]["containers"][0]["args"]
    return arguments


@pytest.fixture(scope="module", params=[None, *EXAMPLES], ids=lambda path: path.name if path else "default")
def chart(request: pytest.FixtureRequest) -> Objects:
    return rendered(*(() if request.param is None else ("--values", str(request.param))))


def test_there_are_five_sets_of_values() -> None:
    assert len(EXAMPLES) == 5


@pytest.mark.parametrize("version", KUBERNETES)
def test_objects_are_valid(chart: Objects, version: str) -> None:
    for kind, one in chart.items():
        if kind in CUSTOM:
            assert set(one["spec"]) <= CUSTOM[kind]
        else:
            kubernetes_validate.validate(one, version, strict=True)


def test_all_of_them_were_rendered_somewhere() -> None:
    seen = set().union(*(rendered("--values", str(path)) for path in EXAMPLES))
    own = {"Deployment", "Service", "ServiceAccount", "PodDisruptionBudget", "Ingress", "ConfigMap", "Pod"}
    assert seen == {*CUSTOM, *own}


def test_the_server_knows_the_flags(chart: Objects) -> None:
    _, bound, _ = app.parse_args(flags(chart), print_error=False, exit_on_error=False)
    settings = bound.arguments["settings"]
    assert (settings.host, settings.port, settings.drain_s) == ("0.0.0.0", 8080, 25)


def test_values_become_flags() -> None:
    production = flags(rendered("--values", str(CHART / "examples" / "production.yaml")))
    # A float of YAML would have become 1e+09.
    assert "--score-cache=1000000000" in production
    assert "--model=my-reranker=/models/my-reranker" in production
    assert "--preload=my-reranker" in production
    assert sum(flag.startswith("--alias=") for flag in production) == 2
    assert "--idle-evict-s=12.5" in flags(rendered("--set", "settings.idle_evict_s=12.5"))


def test_the_flags_start_a_server(models: Path) -> None:
    named = f"mine={models / 'bert'}"
    arguments = flags(rendered("--set", f"models={{{named}}}", "--set", "settings.catalogue=none"))
    here = [flag for flag in arguments[1:] if not flag.startswith(("--host", "--port"))]
    with Server(*here) as server:
        assert httpx2.get(f"{server.url}/readyz").status_code == 200
        assert [model["name"] for model in httpx2.get(f"{server.url}/v1/models").json()["models"]] == ["mine"]


def test_a_pod_stops_before_it_is_killed(chart: Objects) -> None:
    pod = chart["Deployment"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    [_, waits] = container["lifecycle"]["preStop"]["exec"]["command"]
    times = dict(flag.removeprefix("--").split("=", 1) for flag in container["args"][1:])
    assert int(waits) + int(times["drain-s"]) + int(times["drain-notice-s"]) + 3 < pod["terminationGracePeriodSeconds"]


def test_selectors_find_the_pods_and_nothing_else(chart: Objects) -> None:
    labels = chart["Deployment"]["spec"]["template"]["metadata"]["labels"]
    selectors = [chart["Deployment"]["spec"]["selector"]["matchLabels"], chart["Service"]["spec"]["selector"]]
    selectors += [chart[kind]["spec"]["selector"]["matchLabels"] for kind in ("PodDisruptionBudget",) if kind in chart]
    for selector in selectors:
        assert selector.items() <= labels.items()
        if "Pod" in chart:
            assert not selector.items() <= chart["Pod"]["metadata"]["labels"].items()


def test_it_runs_as_nobody_on_a_read_only_file_system(chart: Objects) -> None:
    pod = chart["Deployment"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert not pod["automountServiceAccountToken"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_autoscaling_leaves_the_number_of_replicas_alone() -> None:
    objects = rendered("--values", str(CHART / "examples" / "autoscaled.yaml"))
    assert "replicas" not in objects["Deployment"]["spec"]
    [trigger] = objects["ScaledObject"]["spec"]["triggers"]
    name = objects["Service"]["metadata"]["name"]
    assert trigger["metadata"]["query"] == f'sum(sie_queue_seconds{{namespace="search", service="{name}"}})'
    assert objects["ScaledObject"]["spec"]["scaleTargetRef"]["name"] == objects["Deployment"]["metadata"]["name"]


def test_alerts_and_dashboard_are_those_of_deploy() -> None:
    objects = rendered("--values", str(CHART / "examples" / "autoscaled.yaml"))
    alerts = yaml.safe_load((CHART.parents[1] / "prometheus" / "alerts.yml").read_text())
    assert objects["PrometheusRule"]["spec"] == alerts
    dashboard = json.loads((CHART.parents[1] / "grafana" / "sie.json").read_text())
    assert json.loads(objects["ConfigMap"]["data"]["sie.json"]) == dashboard


def test_the_version_is_that_of_the_server() -> None:
    from sie_server import __version__

    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == __version__


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("--set", "replica=3"), "replica"),
        (("--set", "settings.port=3"), "port"),
        (("--set", "replicas=many"), "replicas"),
        (("--set", "terminationGracePeriodSeconds=20"), "terminationGracePeriodSeconds"),
        (("--set", "weights.offline=true"), "weights.claimName"),
        (("--set", "models={/models/mine}"), "NAME=/models/mine"),
        (("--set", "apiKeys.secretName=k", "--set", "metrics.serviceMonitor.enabled=true"), "keyName"),
    ],
)
def test_a_wrong_value_is_refused_by_name(arguments: tuple[str, ...], names: str) -> None:
    assert re.search(re.escape(names), refusal(*arguments))
