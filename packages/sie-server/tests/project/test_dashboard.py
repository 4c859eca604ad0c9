"""deploy/ and docs/operations.md: whatever a panel, an alert or the text asks Prometheus for is there."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from metrics_page import all_metrics

DEPLOY = Path(__file__).resolve().parents[4] / "deploy"
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "sie.json").read_text())
ALERTS = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"][0]["rules"]
OPERATIONS = (DEPLOY.parent / "docs" / "operations.md").read_text()
# What Prometheus and Grafana put onto every series, and labels that are given by `by`.
ANYWHERE = {"job", "instance", "le"}
METRICS = {series: metric for metric in all_metrics() for series in metric.series}


def queries() -> Iterator[tuple[str, str]]:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"]["query"]
    for rule in ALERTS:
        yield rule["alert"], rule["expr"]
    yield from re.findall(r"^\| (.+\?) \| `(.+)`", OPERATIONS, re.MULTILINE)


@pytest.mark.parametrize("query", [pytest.param(query, id=where) for where, query in queries()])
def test_each_metric_and_label_of_a_query_exists(query: str) -> None:
    asked = re.findall(r"\b((?:sie|process)_\w+)(?:\{([^}]*)\})?", query)
    assert asked
    for name, selector in asked:
        assert name in METRICS, name
        for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector):
            assert label in {*METRICS[name].labels, *ANYWHERE}, f"{name} has no label {label}"
    labels = {label for name, _ in asked for label in METRICS[name].labels}
    for grouped in re.findall(r"\bby \(([^)]*)\)", query):
        assert {label.strip() for label in grouped.split(",")} <= labels | ANYWHERE
    assert query.count("(") == query.count(")")
    assert query.count("{") == query.count("}")


def test_counters_are_asked_for_by_their_growth() -> None:
    for _, query in queries():
        for name, metric in METRICS.items():
            counts = metric.kind in ("counter", "histogram")
            for found in re.finditer(rf"\b{name}\b", query):
                before = query[: found.start()]
                grows = re.search(r"(rate|increase|changes|label_values)\($", before)
                assert bool(grows) or not counts, (name, query)


def test_the_dashboard_is_one_that_grafana_takes() -> None:
    panels = DASHBOARD["panels"]
    assert DASHBOARD["schemaVersion"] >= 39
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (column, line)
            for column in range(place["x"], place["x"] + place["w"])
            for line in range(place["y"], place["y"] + place["h"])
        }
        assert max(column for column, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells
    assert {variable["name"] for variable in DASHBOARD["templating"]["list"]} == set(
        re.findall(r"\$\{?(datasource|job|instance|model)\b", json.dumps(panels))
    )


def test_an_alert_says_what_it_is_about() -> None:
    for rule in ALERTS:
        assert re.fullmatch(r"Sie[A-Za-z]+", rule["alert"])
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert "{{ $labels.instance }}" in rule["annotations"]["summary"]
