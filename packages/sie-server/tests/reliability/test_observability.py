"""deploy/prometheus and deploy/grafana with Debian's Prometheus: the rules, and what they say of real servers."""

import json
import math
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from sie_testing.serving import EMBEDDED, Server, poll

DEPLOY = Path(__file__).resolve().parents[4] / "deploy"
RULES = DEPLOY / "prometheus" / "alerts.yml"
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "sie.json").read_text())
# Of a GPU alone.
ELSEWHERE = "sie_device_memory_bytes"
# Minutes become seconds, and a queue of seconds one of milliseconds: the same rules, where a test can wait for them.
FASTER = (
    (r"\[5m\]", "[8s]"),
    (r"\[30m\]", "[2m]"),
    (r"\[6h\]", "[20s]"),
    (r"(?m)^( +for: ).*", r"\1 1s"),
    (r"(sie_queue_seconds\)) > 5", r"\1 > 0.001"),
)

pytestmark = pytest.mark.skipif(shutil.which("promtool") is None, reason="Prometheus is not installed")


def promtool(*arguments: str, folder: Path = RULES.parent) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_the_rules() -> None:
    promtool("check", "rules", RULES.name)


def test_alerts_fire_for_what_they_are_about(tmp_path: Path) -> None:
    cases = Path(__file__).with_name("alerts_test.yml")
    for file in (RULES, cases):
        shutil.copy(file, tmp_path)
    promtool("test", "rules", cases.name, folder=tmp_path)
    alerts = {rule["alert"] for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]}
    held = {
        case["alertname"]
        for test in yaml.safe_load(cases.read_text())["tests"]
        for case in test["alert_rule_test"]
        if case["exp_alerts"]
    }
    assert held == alerts


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


class Prometheus:
    """Scrapes servers every second. As a context it is running."""

    def __init__(self, folder: Path, servers: list[int]) -> None:
        self._port = free_port()
        rules = RULES.read_text()
        for pattern, faster in FASTER:
            rules, count = re.subn(pattern, faster, rules)
            assert count, pattern
        (folder / "alerts.yml").write_text(rules)
        targets = [f"127.0.0.1:{port}" for port in servers]
        configuration = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": ["alerts.yml"],
            "scrape_configs": [{"job_name": "sie", "static_configs": [{"targets": targets}]}],
        }
        (folder / "prometheus.yml").write_text(json.dumps(configuration))
        self._command = [
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self._port}",
        ]

    def __enter__(self) -> "Prometheus":
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        poll(self._ready, 30)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(20)

    def query(self, expression: str) -> list[float]:
        """The values of an expression now, as far as they are numbers."""
        values = [float(one["value"][1]) for one in self._get("query", query=expression)["result"]]
        return [value for value in values if not math.isnan(value)]

    def firing(self) -> set[str]:
        return {one["labels"]["alertname"] for one in self._get("alerts")["alerts"] if one["state"] == "firing"}

    def _get(self, what: str, **parameters: str) -> Any:
        answer = httpx2.get(f"http://127.0.0.1:{self._port}/api/v1/{what}", params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def _ready(self) -> bool:
        try:
            return httpx2.get(f"http://127.0.0.1:{self._port}/-/ready").status_code == 200
        except httpx2.TransportError:
            return False


@contextmanager
def repeated(what: Callable[[int], object]) -> Iterator[None]:
    """Call `what` again and again in a thread."""
    over = threading.Event()

    def run() -> None:
        turn = 0
        while not over.is_set():
            what(turn)
            turn += 1

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def score(url: str, model: str, documents: list[str]) -> int:
    body = {"query": {"text": "what is it"}, "items": [{"text": text} for text in documents]}
    try:
        return httpx2.post(f"{url}/v1/score/{model}", json=body, timeout=60).status_code
    except httpx2.TransportError:  # of a server that stops
        return 0


def leave(url: str) -> None:
    """Send a request, and go away before the answer."""
    with pytest.raises(httpx2.TimeoutException):
        httpx2.post(
            f"{url}/v1/encode/{EMBEDDED}", json={"items": [{"text": f"w{n} " * 200} for n in range(300)]}, timeout=0.1
        )


def expressions() -> Iterator[str]:
    """The queries of the dashboard, for everything in the last two minutes."""
    variables = {"$__rate_interval": "2m", "$instance": ".*", "$model": ".*", "$job": ".*"}
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            expression: str = target["expr"]
            for name, value in variables.items():
                expression = expression.replace(name, value)
            if ELSEWHERE not in expression:
                yield expression


@pytest.mark.long
def test_prometheus_sees_what_happens_to_servers(models: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(models / "bert", broken)
    (broken / "model.safetensors").write_bytes(b"no weights")
    bert = (f"--model={models / 'bert'}", "--preload=bert")
    with ExitStack() as stack:
        busy = stack.enter_context(Server("--preload", EMBEDDED, f"--model={broken}", "--queue-tokens=20000"))
        grows = stack.enter_context(
            Server(*bert, f"--model={models / 'xlm-roberta'}", "--idle-evict-s=10", "--score-cache=400000000")
        )
        restarts = Server(*bert, "--drain-notice-s=120").start()
        stack.callback(restarts.wait, 10)
        stack.callback(restarts.send, signal.SIGKILL)
        prometheus = stack.enter_context(Prometheus(tmp_path, [busy.port, grows.port, restarts.port]))
        for _ in range(2):
            since = f"process_start_time_seconds{{instance='127.0.0.1:{restarts.port}'}}"
            poll(lambda: prometheus.query(f"{since} > {time.time() - 30}"), 30)  # noqa: B023 # polled before the next
            restarts.send(signal.SIGKILL)
            restarts.wait(10)
            restarts.start()
        # Now it refuses new work, and has two minutes to end.
        restarts.send(signal.SIGTERM)
        leave(busy.url)

        fired: set[str] = set()
        expected = {rule["alert"] for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]}

        def pause(_: int) -> None:
            grows.send(signal.SIGSTOP)
            time.sleep(0.6)
            grows.send(signal.SIGCONT)
            time.sleep(0.6)

        for _ in range(4):  # more than fit into the queue
            stack.enter_context(repeated(lambda _: score(busy.url, EMBEDDED, [f"it is {n} " * 60 for n in range(60)])))
        stack.enter_context(repeated(lambda _: score(busy.url, "broken", ["it"])))
        stack.enter_context(repeated(lambda turn: score(grows.url, "bert", [f"{turn} {n}" for n in range(2000)])))
        stack.enter_context(repeated(pause))
        deadline = time.monotonic() + 120
        while fired != expected and time.monotonic() < deadline:
            fired |= prometheus.firing()
            time.sleep(0.2)
        assert fired == expected

        waiting = set(expressions())
        deadline = time.monotonic() + 120
        turn = 0
        while waiting and time.monotonic() < deadline:
            if turn % 15 == 0:  # it was unloaded meanwhile: only a second load is a growth
                score(grows.url, "xlm-roberta", ["it"])
            turn += 1
            waiting = {expression for expression in waiting if not prometheus.query(expression)}
            time.sleep(1)
        assert waiting == set()
