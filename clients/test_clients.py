"""The clients of other APIs, unchanged, against a running server: each call of the held list."""

import json
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from held import FOLDER, LEAST, Client, clients
from serve import serving, target

HELD = clients()
GROUPS = sorted({client.group for client in HELD})
CALLS = [(client, call) for client in HELD for call in (*client.works, *client.fails)]
_SECONDS = 300
# Proxies where nobody listens, for what connects without Python's sockets; and no telemetry.
_ENVIRONMENT = {
    **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9"),
    **dict.fromkeys(("no_proxy", "NO_PROXY"), "127.0.0.1,localhost"),
    **dict.fromkeys(("ANONYMIZED_TELEMETRY", "HAYSTACK_TELEMETRY_ENABLED", "LANGCHAIN_TRACING_V2"), "false"),
    **dict.fromkeys(
        ("DO_NOT_TRACK", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_OFFLINE", "LITELLM_LOCAL_MODEL_COST_MAP"), "1"
    ),
}


class Verdict(NamedTuple):
    """What became of a call: "works", "error" or "wrong", with the words of the client or of the check."""

    verdict: str
    said: str


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Verdict]:
    """The verdicts on all calls of all groups, two groups at a time."""
    folder = tmp_path_factory.mktemp("clients")
    with serving(folder) as url, ThreadPoolExecutor(2) as pool:
        told = target(url)
        found = list(pool.map(lambda group: _run(group, told, folder / f"{group}.jsonl"), GROUPS))
    return {call: verdict for group in found for call, verdict in group.items()}


def _run(group: str, told: str, path: Path) -> dict[tuple[str, str], Verdict]:
    environment = FOLDER.parent / ".clients" / group / "bin" / "python"
    python = str(environment) if environment.exists() else sys.executable
    command = [python, str(FOLDER / "calls" / "run.py"), group, str(path)]
    kept = {name: value for name, value in os.environ.items() if not name.endswith(("_API_KEY", "_BASE_URL"))}
    done = subprocess.run(
        command,
        input=told,
        env={**kept, **_ENVIRONMENT, "HOME": str(path.parent)},
        text=True,
        timeout=_SECONDS,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, f"{group}: {done.stdout[-3000:]}"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return {(line["client"], line["call"]): Verdict(line["verdict"], line["said"]) for line in lines}


@pytest.mark.parametrize(("client", "call"), CALLS, ids=[f"{client.name}: {call}" for client, call in CALLS])
def test_call(verdicts: dict[tuple[str, str], Verdict], client: Client, call: str) -> None:
    verdict, said = verdicts[client.name, call]
    if call in client.works:
        assert verdict == "works", said
    else:
        assert verdict == "error", said
        assert client.fails[call].says in said


def test_every_call_is_in_the_held_list(verdicts: dict[tuple[str, str], Verdict]) -> None:
    assert Counter(verdicts.keys()) == Counter((client.name, call) for client, call in CALLS)


def test_as_many_calls_work_as_promised(verdicts: dict[tuple[str, str], Verdict]) -> None:
    counted = Counter(verdict for verdict, _ in verdicts.values())
    print(f"\n{counted['works']} of {counted.total()} calls by {len(HELD)} clients work unchanged")
    assert counted["wrong"] == 0
    assert counted["works"] >= LEAST * counted.total()
