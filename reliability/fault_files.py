"""Faults of files: a full disk, interrupted downloads, weights with flipped bits, a folder replaced while in use."""

import http.client
import json
import os
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from expected_scores import ExpectedScores
from fault_report import FaultReport
from outcome_counts import OutcomeCounts
from traffic import BackgroundLoad
from workload import Request, Workload, checkpoint_words, make_workload

from sie_server.cli.bench.server_process import SERVER
from sie_testing.checkpoints import build
from sie_testing.hub_server import Hub
from sie_testing.serving import Server

REMOTE, NEIGHBOUR = "owner/reranker", "neighbour"
_SMALL_KIB = 64  # less than a checkpoint has


def disk_full(tries: int) -> FaultReport:
    """The hub cache fills up during a download: the load fails with the reason, and other models are not affected.

    With room again, and what the download left in the cache, the next server loads the model.
    """
    report = FaultReport("disk full in the hub cache")
    with TemporaryDirectory() as name:
        folder = Path(name)
        build(folder / "hub" / REMOTE, "bert")
        build(folder / "local", "bert", seed=1)
        (folder / "cache").mkdir()
        for _ in range(tries):
            with _hub(folder / "hub") as endpoint, _small_disk(folder / "cache") as namespace:
                if not namespace:
                    report.skipped = "needs to mount a file system in a namespace of its own (root)"
                    return report
                within = ("nsenter", f"--mount=/proc/{namespace}/ns/mnt")
                repair = partial(_grow, namespace, folder / "cache")
                _fails_then_loads(report, folder, endpoint, "STORAGE", repair, within)
    return report


def cut_download(tries: int) -> FaultReport:
    """The hub closes every connection in the middle of the weights: as for a full disk."""
    report = FaultReport("downloads that break off in the middle")
    with TemporaryDirectory() as name:
        folder = Path(name)
        build(folder / "hub" / REMOTE, "bert")
        build(folder / "local", "bert", seed=1)
        for turn in range(tries):
            cutting = {"on": True}
            with _hub(folder / "hub", cutting) as endpoint:
                (folder / "cache").mkdir()
                _fails_then_loads(report, folder, endpoint, "NETWORK", partial(cutting.update, on=False))
                (folder / "cache").rename(folder / f"cache-{turn}")
    return report


def _fails_then_loads(
    report: FaultReport,
    folder: Path,
    endpoint: str,
    kind: str,
    repair: Callable[[], None],
    within: tuple[str, ...] = (),
) -> None:
    environment = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1"}
    environment |= {"HF_HOME": str(folder / "cache")}
    flags = (f"--model={NEIGHBOUR}={folder / 'local'}", f"--model={REMOTE}", f"--preload={NEIGHBOUR}")
    beside, remote = _workload(NEIGHBOUR), _workload(REMOTE)
    expected = ExpectedScores()
    with Server(*flags, "--load-wait=60", command=(*within, *SERVER), environment=environment) as server:
        expected.learn(server.url, [beside])
        with BackgroundLoad(server.url, [beside], connections=2) as flow:
            status, code = ask(server.url, next(remote.alone()))
        report.tries += 1
        report.errors[f"{status} {code}"] += 1
        report.expect(code == "MODEL_LOAD_FAILED", "a load that failed says so")
        described = json.loads(_get(server.url, f"/v1/models/{REMOTE}"))
        report.expect(described["state"] == "failed", "/v1/models says that it failed")
        error = described["last_error"] or {}
        report.expect(error.get("code") == kind, f"the failure is of class {kind}, and soon tried again")
        report.note = f"{error.get('code')}: {error.get('message')}"
        report.count(OutcomeCounts().count(flow.outcomes, expected))
    repair()
    with Server(f"--model={REMOTE}=" + str(folder / "hub" / REMOTE)) as good:
        expected.learn(good.url, [remote])
    with (
        Server(*flags, command=(*within, *SERVER), environment=environment) as server,
        BackgroundLoad(server.url, [remote, beside], connections=2) as flow,
    ):
        time.sleep(3)
    report.count(OutcomeCounts().count(flow.outcomes, expected))


def flipped(tries: int) -> FaultReport:
    """One byte of the header of model.safetensors is changed: the model is refused, or its scores are the same."""
    report = FaultReport("a flipped byte in the header of model.safetensors")
    rng = random.Random(0)
    with TemporaryDirectory() as name:
        folder = Path(name)
        build(folder / NEIGHBOUR, "bert")
        content = (folder / NEIGHBOUR / "model.safetensors").read_bytes()
        size = 8 + int.from_bytes(content[:8], "little")
        flags = [f"--model={NEIGHBOUR}={folder / NEIGHBOUR}", f"--preload={NEIGHBOUR}"]
        for number in range(tries):
            shutil.copytree(folder / NEIGHBOUR, folder / f"flipped-{number}")
            at, bit = rng.randrange(size), 1 << rng.randrange(8)
            changed = content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :]
            (folder / f"flipped-{number}" / "model.safetensors").write_bytes(changed)
            flags.append(f"--model=flipped-{number}={folder / f'flipped-{number}'}")
        beside, expected = _workload(NEIGHBOUR), ExpectedScores()
        with Server(*flags) as server:
            expected.learn(server.url, [beside])
            [good] = scores(server.url, next(beside.alone()))
            with BackgroundLoad(server.url, [beside], connections=2) as flow:
                for number in range(tries):
                    request = next(_workload(f"flipped-{number}").alone())
                    status, code = ask(server.url, request)
                    report.tries += 1
                    if status == 200 and scores(server.url, request) == [good]:
                        report.right += 1
                    elif status == 200:
                        report.wrong.append(f"flipped-{number} loads, and scores otherwise")
                    else:
                        report.errors[f"{status} {code}"] += 1
            report.count(OutcomeCounts().count(flow.outcomes, expected))
    return report


def replaced(tries: int) -> FaultReport:
    """Another checkpoint is moved or written to a folder in use: each answer is entirely from one of the two."""
    report = FaultReport("a model's folder is replaced while it is served")
    with TemporaryDirectory() as name:
        folder = Path(name)
        for seed in (0, 1):
            build(folder / f"seed-{seed}", "bert", seed=seed)
        shutil.copytree(folder / "seed-0", folder / "served")
        expected_by_seed = (ExpectedScores(), ExpectedScores())
        mix = _workload("served")
        for seed, expected in enumerate(expected_by_seed):
            with Server(f"--model=served={folder / f'seed-{seed}'}") as server:
                expected.learn(server.url, [mix])
        with Server(f"--model=served={folder / 'served'}", "--preload=served") as server:
            with BackgroundLoad(server.url, [mix], connections=4) as flow:
                for turn in range(tries):
                    time.sleep(0.5)
                    new = folder / f"seed-{(turn + 1) % 2}"
                    if turn % 4 < 2:
                        _move(new, folder)
                    else:
                        for file in new.iterdir():
                            shutil.copyfile(file, folder / "served" / file.name)
                    report.tries += 1
                time.sleep(1)
            report.count(OutcomeCounts().count(flow.outcomes, _Either(expected_by_seed)))  # type: ignore[arg-type]
    return report


class _Either:
    """Accepts an answer that one of several `ExpectedScores` accepts."""

    def __init__(self, expected_by_seed: tuple[ExpectedScores, ExpectedScores]) -> None:
        self._either = expected_by_seed

    def fault(self, request: Request, body: bytes) -> str | None:
        faults = [expected.fault(request, body) for expected in self._either]
        return None if None in faults else faults[0]


def _move(new: Path, folder: Path) -> None:
    shutil.copytree(new, folder / "incoming")
    (folder / "served").rename(folder / "outgoing")
    (folder / "incoming").rename(folder / "served")
    shutil.rmtree(folder / "outgoing")


def _workload(model: str) -> Workload:
    return make_workload(model, 2, 20, text=checkpoint_words, sizes=(1, 5))


def ask(url: str, request: Request) -> tuple[int, str]:
    """Send one request; returns status and error code."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=120)
    connection.request("POST", request.path, request.body, {"Accept": "application/json"})
    response = connection.getresponse()
    body = json.loads(response.read())
    connection.close()
    return response.status, body.get("detail", {}).get("code", "")


def scores(url: str, request: Request) -> list[float]:
    """Send one request; returns its scores by rank."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=120)
    connection.request("POST", request.path, request.body, {"Accept": "application/json"})
    body = json.loads(connection.getresponse().read())
    connection.close()
    return [entry["score"] for entry in body["scores"]]


def _get(url: str, path: str) -> bytes:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=120)
    connection.request("GET", path)
    read = connection.getresponse().read()
    connection.close()
    return read


class _CuttingHub(Hub):
    """A hub that sends only half of the weights while `cutting` is set."""

    cutting: dict[str, bool]

    def _send(self, content: bytes, body: bool, status: int = 200, headers: dict[str, str] | None = None) -> None:
        if not (body and self.cutting["on"] and self.path.endswith("model.safetensors")):
            super()._send(content, body, status, headers)
            return
        super()._send(content, False, status, headers)
        self.wfile.write(content[: len(content) // 2])
        self.wfile.flush()
        self.connection.close()


@contextmanager
def _hub(root: Path, cutting: dict[str, bool] | None = None) -> Iterator[str]:
    state = {"root": root, "requests": [], "cutting": cutting or {"on": False}}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_CuttingHub,), state))
    server.handle_error = lambda *_: None  # type: ignore[method-assign] # connections that were cut on purpose
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@contextmanager
def _small_disk(folder: Path) -> Iterator[int]:
    """Start a process in a namespace where this folder is a disk of 64 KiB; returns its pid, or 0 if not permitted."""
    script = f'mount -t tmpfs -o size={_SMALL_KIB}k tmpfs "{folder}" && echo mounted && exec sleep 3600'
    if shutil.which("unshare") is None or os.geteuid() != 0:
        yield 0
        return
    holder = subprocess.Popen(["unshare", "--mount", "sh", "-c", script], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    try:
        yield holder.pid if holder.stdout.readline() == "mounted\n" else 0
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


def _grow(namespace: int, folder: Path) -> None:
    mount = ["nsenter", f"--mount=/proc/{namespace}/ns/mnt", "mount", "-o", "remount,size=64m", str(folder)]
    subprocess.run(mount, check=True)
