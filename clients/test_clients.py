"""The clients of other APIs, unchanged, against a running server: each call of the held list, and the snippets."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from held import FOLDER, LEAST, Client, clients
from serve import EMBEDDER, KEY, RERANKER, Servers, serving
from sie_testing.serving import connect, scores

# Without Node, its clients are not checked.
HELD = [client for client in clients() if client.group != "node" or shutil.which("node")]
GROUPS = sorted({client.group for client in HELD})
CALLS = [(client, call) for client in HELD for call in (*client.works, *client.fails)]
SNIPPETS = [client for client in HELD if client.snippet]
_SECONDS = 900  # for a group; on two idle cores the longest takes a minute
# Proxies where nobody listens, for what connects without Python's sockets; and no telemetry.
_ENVIRONMENT = {
    **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9"),
    **dict.fromkeys(("no_proxy", "NO_PROXY"), "127.0.0.1,localhost"),
    **dict.fromkeys(("ANONYMIZED_TELEMETRY", "HAYSTACK_TELEMETRY_ENABLED", "LANGCHAIN_TRACING_V2"), "false"),
    **dict.fromkeys(("DO_NOT_TRACK", "HF_HUB_DISABLE_TELEMETRY"), "1"),
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
}


class Verdict(NamedTuple):
    """What became of a call: "works", "error" or "wrong", with the words of the client or of the check."""

    verdict: str
    said: str


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """The running servers."""
    with serving(tmp_path_factory.mktemp("models")) as servers:
        yield servers


@pytest.fixture(scope="module")
def verdicts(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Verdict]:
    """The verdicts on all calls of all groups, two groups at a time."""
    folder = tmp_path_factory.mktemp("verdicts")
    told = servers.target()
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda group: verdicts_of(group, servers, told, folder / f"{group}.jsonl"), GROUPS))
    return {call: verdict for group in found for call, verdict in group.items()}


def verdicts_of(group: str, servers: Servers, told: str, path: Path) -> dict[tuple[str, str], Verdict]:
    """Make the calls of a group, which writes its verdicts to a file."""
    program = [str(FOLDER / "node" / "run.mjs")] if group == "node" else [str(FOLDER / "calls" / "run.py"), group]
    output = _run(group, [*program, str(path)], servers, told)
    assert path.exists(), f"{group}: {output[-3000:]}"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return {(line["client"], line["call"]): Verdict(line["verdict"], line["said"]) for line in lines}


def _run(group: str, program: list[str], servers: Servers, told: str = "") -> str:
    """Run a program in the environment of a group, and return what it prints."""
    if group == "node":
        command = ["node", "--import", str(FOLDER / "node" / "only_local.mjs")]
    elif group == "replays":
        command = [sys.executable]
    else:
        command = [str(FOLDER.parent / ".clients" / group / "bin" / "python")]
    kept = {name: value for name, value in os.environ.items() if not name.endswith(("_API_KEY", "_BASE_URL"))}
    own = {"HOME": str(servers.folder), "HF_HUB_CACHE": str(servers.folder / "hub"), "CO_API_URL": servers.url}
    done = subprocess.run(
        [*command, *program],
        input=told,
        env={**kept, **_ENVIRONMENT, **own},
        text=True,
        timeout=_SECONDS,
        capture_output=True,
    )
    assert done.returncode == 0, f"{group}: {done.stderr[-3000:]}"
    return done.stdout


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


@pytest.mark.parametrize("client", SNIPPETS, ids=lambda client: client.snippet)
def test_a_snippet_prints_the_right_answer(servers: Servers, tmp_path: Path, client: Client) -> None:
    code = (FOLDER / "snippets" / client.snippet).read_text()
    assert ("KEY" in code, "http://localhost:8080" in code) == (True, True)
    # Node looks for its packages from where the program lies.
    folder = FOLDER / "node" if client.group == "node" else tmp_path
    program = folder / f".snippet-{client.snippet}"
    program.write_text(code.replace('"KEY"', f'"{KEY}"').replace("http://localhost:8080", servers.url))
    try:
        found = [line.rsplit(" ", 1) for line in _run(client.group, [str(program)], servers).splitlines()]
    finally:
        program.unlink()
    texts = ["Snakes are reptiles.", "Python is a programming language."]
    if EMBEDDER in code:
        assert found == [[text, "64"] for text in texts]
        return
    with connect(servers.url) as api:
        api.headers["Authorization"] = f"Bearer {KEY}"
        right = dict(zip(texts, scores(api, RERANKER, "What is Python?", texts), strict=True))
    assert [text for text, _ in found] == sorted(texts, key=lambda text: -right[text])
    assert [float(score) for _, score in found] == pytest.approx([right[text] for text, _ in found], rel=1e-4)


@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "-c", "import run, socket, sys; sys.addaudithook(run.only_local); socket.{}"],
        ["node", "--import", str(FOLDER / "node" / "only_local.mjs"), "-e", "require('net').connect(80, '192.0.2.1')"],
    ],
    ids=["Python", "Node"],
)
@pytest.mark.parametrize("attempt", ["create_connection(('192.0.2.1', 80))", "getaddrinfo('example.com', 443)"])
def test_no_call_leaves_this_machine(command: list[str], attempt: str) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip("no Node here")
    program = [*command[:-1], command[-1].format(attempt)]
    environment = {**os.environ, "PYTHONPATH": str(FOLDER / "calls")}
    done = subprocess.run(program, env=environment, text=True, capture_output=True, timeout=60)
    assert done.returncode != 0
    assert "a test must not" in done.stderr
