"""Models that load slowly or not at all, a device that stalls or fails, a full queue, and servers that can't start."""

import errno
import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
import torch
from safetensors.torch import load_file, save_file

from sie_server.catalog.catalog import Entry
from sie_server.checkpoints.load import load
from sie_server.errors import LoadClass, LoadError
from sie_server.models.bert import Bert
from sie_server.models.encoder import Encoder
from sie_server.models.loaded_model import LoadedModel
from sie_server.nn.kernels.linear import bfloat16_panels
from sie_server.nn.packed import Packed
from sie_server.options import Precision
from sie_testing.checkpoints import build, text
from sie_testing.serving import EMBEDDED, InProcess, Server, connect, error, in_process, metric, poll, scores

BODY = {"query": {"text": "what is python"}, "items": [{"text": "it"}, {"text": "snakes are reptiles"}]}
CATALOGUE = "cross-encoder/ms-marco-MiniLM-L-6-v2"


def score(api: httpx2.Client, model: str = "bert") -> httpx2.Response:
    return api.post(f"/v1/score/{model}", json=BODY)


# --- a model that loads slowly ---------------------------------------------------------------------------------------


class SlowLoader:
    """Loads when `go` is set, and fails with `error` if there is one."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.calls: list[str] = []
        self.error: Exception | None = None

    def __call__(self, entry: Entry, device: torch.device, precision: Precision, **_: Any) -> LoadedModel:
        self.calls.append(entry.id)
        assert self.go.wait(30)
        if self.error is not None:
            raise self.error
        return load(entry, device, precision)


@pytest.fixture
def loader() -> Iterator[SlowLoader]:
    loader = SlowLoader()
    yield loader
    loader.go.set()


@pytest.mark.parametrize("wait", [0.0, 0.3])
def test_a_cold_model_is_loaded_once_and_requests_are_told_to_retry(
    models: Path, loader: SlowLoader, wait: float
) -> None:
    with (
        in_process(loader, model=(str(models / "bert"),), load_wait=wait) as running,
        connect(running.url) as api,
        ThreadPoolExecutor(4) as pool,
    ):
        assert api.get("/v1/models/bert").json()["state"] == "available"
        started = time.monotonic()
        for answer in [future.result() for future in [pool.submit(score, api) for _ in range(4)]]:
            assert error(answer) == (503, "MODEL_LOADING", "Model 'bert' is loading, please retry")
            assert answer.headers["retry-after"] == "5"
        assert time.monotonic() - started >= wait
        described = api.get("/v1/models/bert").json()
        assert (described["state"], described["loaded"]) == ("loading", False)
        assert api.get("/readyz").status_code == 200

        loader.go.set()
        poll(lambda: api.get("/v1/models/bert").json()["loaded"])
        assert score(api).status_code == 200
        assert loader.calls == ["bert"]


def test_a_request_is_held_while_its_model_loads(models: Path, loader: SlowLoader) -> None:
    with (
        in_process(loader, model=(str(models / "bert"),), load_wait=30) as running,
        connect(running.url) as api,
        ThreadPoolExecutor(2) as pool,
    ):
        held = [pool.submit(score, api) for _ in range(2)]
        poll(lambda: loader.calls)
        assert not any(future.done() for future in held)
        loader.go.set()
        assert [future.result().status_code for future in held] == [200, 200]
        assert loader.calls == ["bert"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (f"/v1/score/{EMBEDDED}", BODY),
        ("/v1/rerank", {"model": EMBEDDED, "query": "q", "documents": ["d"]}),
        (f"/v1/encode/{EMBEDDED}", {"items": [{"text": "it"}]}),
        ("/v1/embeddings", {"model": EMBEDDED, "input": "it"}),
    ],
)
def test_a_client_that_disconnects_during_a_load_is_not_waited_for(
    loader: SlowLoader, path: str, body: dict[str, Any]
) -> None:
    with in_process(loader, load_wait=60) as running, connect(running.url) as api:
        url, content = urlsplit(running.url), json.dumps(body).encode()
        with socket.create_connection((url.hostname, url.port), 20) as connection:
            head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"
            connection.sendall(head.encode() + content)
            poll(lambda: loader.calls)
            assert metric(api, "sie_requests_in_progress") == 1
        poll(lambda: metric(api, "sie_requests_in_progress") == 0)
        endpoint = path.split("/")[2]
        assert metric(api, "sie_disconnects_total", endpoint=endpoint, model=EMBEDDED) == 1
        assert metric(api, "sie_request_body_bytes") == 0
        # The load goes on, for whoever asks next.
        loader.go.set()
        poll(lambda: api.get(f"/v1/models/{EMBEDDED}").json()["loaded"])


def test_a_model_that_loads_does_not_hold_up_another(models: Path, loader: SlowLoader) -> None:
    paths = (str(models / "bert"), str(models / "xlm-roberta"))
    with in_process(loader, model=paths, load_wait=0) as running, connect(running.url) as api:
        loader.go.set()
        score(api)
        poll(lambda: score(api).status_code == 200)
        loader.go.clear()
        assert error(score(api, "xlm-roberta"))[1] == "MODEL_LOADING"
        assert score(api).status_code == 200


def test_a_task_the_model_does_not_have_starts_no_load(loader: SlowLoader) -> None:
    with in_process(loader, load_wait=0) as running, connect(running.url) as api:
        answer = api.post(f"/v1/encode/{CATALOGUE}", json={"items": [{"text": "it"}]})
        assert error(answer)[:2] == (400, "INVALID_INPUT")
        answer = api.post(f"/v1/score/{CATALOGUE}", json={**BODY, "options": {"profile": "x"}})
        assert error(answer)[:2] == (400, "INVALID_INPUT")
        assert loader.calls == []


def test_a_server_is_ready_when_its_preloads_are(models: Path, loader: SlowLoader) -> None:
    bert = {"model": (str(models / "bert"),), "preload": ("bert",)}
    with in_process(loader, ready=False, load_wait=0, **bert) as running, connect(running.url) as api:
        answer = api.get("/readyz")
        assert (answer.status_code, answer.text) == (503, "not ready")
        assert answer.headers["content-type"].startswith("text/plain")
        assert api.get("/healthz").status_code == api.get("/livez").status_code == 200
        assert error(score(api))[1] == "MODEL_LOADING"
        loader.go.set()
        poll(lambda: api.get("/readyz").status_code == 200)
        assert score(api).status_code == 200
        assert loader.calls == ["bert"]


@pytest.mark.parametrize(
    ("failure", "kind", "permanent"),
    [
        (LoadError(LoadClass.GATED, "accept the terms"), "GATED", True),
        (LoadError(LoadClass.NOT_FOUND, "no such repository"), "NOT_FOUND", True),
        (LoadError(LoadClass.CONFIG, "not supported"), "CONFIG", True),
        (LoadError(LoadClass.NETWORK, "no route"), "NETWORK", False),
        (LoadError(LoadClass.OOM, "too large"), "OOM", False),
        (ZeroDivisionError("oops"), "UNKNOWN", False),
        (ImportError("no module named flash_attn"), "DEPENDENCY", True),
        (OSError(errno.ENOSPC, "no space left"), "STORAGE", False),
        (OSError(errno.EIO, "input/output error"), "STORAGE", False),
        (TimeoutError("too slow"), "TIMEOUT", False),
        (ConnectionResetError("reset by peer"), "NETWORK", False),
        (MemoryError("too large"), "OOM", False),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "OOM", False),
        (torch.OutOfMemoryError("CUDA out of memory"), "OOM", False),
        (torch.AcceleratorError("CUDA error: misaligned address"), "PLACEMENT", False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "ENGINE", False),
    ],
)
def test_a_failed_load_is_remembered(
    models: Path, loader: SlowLoader, failure: Exception, kind: str, permanent: bool
) -> None:
    loader.error = failure
    loader.go.set()
    with in_process(loader, model=(str(models / "bert"),)) as running, connect(running.url) as api:
        for _ in range(2):
            answer = score(api)
            status, code, message = error(answer)
            assert (status, code) == (502, "MODEL_LOAD_FAILED")
            assert message.startswith("Model 'bert' failed to load: ")
            assert str(failure) in message
            detail = answer.json()["detail"]
            assert (detail["error_class"], detail["permanent"], detail["attempts"]) == (kind, permanent, 1)
            assert "retry-after" not in answer.headers
        # The second request came within the cooldown.
        assert loader.calls == ["bert"]
        [described] = [model for model in api.get("/v1/models").json()["models"] if model["name"] == "bert"]
        assert (described["state"], described["loaded"]) == ("failed", False)
        last = described["last_error"]
        assert (last["code"], last["permanent"], last["attempts"]) == (kind, permanent, 1)
        assert str(failure) in last["message"]


def test_a_failed_load_is_tried_again_after_its_cooldown(models: Path, loader: SlowLoader) -> None:
    loader.error = LoadError(LoadClass.NETWORK, "no route")
    loader.go.set()
    with in_process(loader, model=(str(models / "bert"),)) as running, connect(running.url) as api:
        assert score(api).status_code == 502
        loader.error = None
        running.engine.residency.slot("bert").retry_at = time.monotonic()
        assert score(api).status_code == 200
        described = api.get("/v1/models/bert").json()
        assert (described["state"], described["last_error"]) == ("loaded", None)


# --- checkpoints that can't be loaded --------------------------------------------------------------------------------


def _only_pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _unsupported(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    other = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}
    (folder / "config.json").write_text(json.dumps({**config, **other}))


def _without_a_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["classifier.weight"]
    save_file(weights, folder / "model.safetensors")


def _truncated(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def _not_json(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def _remove(name: str) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        (folder / name).unlink()

    return remove


def _infinite_embeddings(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["bert.embeddings.word_embeddings.weight"].fill_(torch.inf)
    save_file(weights, folder / "model.safetensors")


def _head_of_nan(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["classifier.bias"].fill_(torch.nan)
    save_file(weights, folder / "model.safetensors")


BROKEN: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "pickled": (_only_pickled, ["pytorch_model.bin", "save_pretrained", "safetensors"]),
    "unsupported": (
        _unsupported,
        ["gpt2", "supported: ", "bert", "xlm-roberta"],
    ),
    "a-weight-missing": (_without_a_weight, ["1 weights missing"]),
    "truncated": (_truncated, ["model.safetensors is not a readable safetensors file"]),
    "no-weights": (_remove("model.safetensors"), ["has no model.safetensors"]),
    "no-tokenizer": (_remove("tokenizer.json"), ["has no tokenizer.json"]),
    "no-config": (_remove("config.json"), ["config.json is missing"]),
    "config-not-json": (_not_json, ["config.json is not JSON"]),
    "infinite": (_infinite_embeddings, ["computes NaN or infinity"]),
}


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[httpx2.Client]:
    """A client of a server with one good model and one for each way of being broken."""
    folder = tmp_path_factory.mktemp("broken")
    for name, (breaks, _) in {**BROKEN, "nan": (_head_of_nan, [])}.items():
        shutil.copytree(models / "bert", folder / name)
        breaks(folder / name)
    build(folder / "two-labels", "bert", num_labels=2)
    flags = [f"--model={path}" for path in [*sorted(folder.iterdir()), models / "bert"]]
    with Server(*flags, environment={"HF_HOME": str(folder / "hub")}) as server, connect(server.url) as client:
        yield client


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_checkpoint_is_reported_with_the_fault(broken: httpx2.Client, name: str) -> None:
    answer = score(broken, name)
    status, code, message = error(answer)
    assert (status, code) == (502, "MODEL_LOAD_FAILED")
    assert all(part in message for part in BROKEN[name][1]), message
    detail = answer.json()["detail"]
    # A file that is cut off, or not there, may be on its way here still.
    kind = "STORAGE" if name in ("truncated", "no-weights", "no-tokenizer", "no-config") else "CONFIG"
    assert (detail["error_class"], detail["permanent"]) == (kind, kind == "CONFIG")
    described = broken.get(f"/v1/models/{name}").json()
    assert (described["state"], described["last_error"]["code"]) == ("failed", kind)
    # Nobody else is hurt.
    assert score(broken).status_code == 200


def test_a_classifier_is_not_taken_for_a_reranker(broken: httpx2.Client) -> None:
    assert "has 2 labels; a reranker has one" in error(score(broken, "two-labels"))[2]


def test_a_model_of_the_hub_while_the_hub_is_unreachable(broken: httpx2.Client) -> None:
    answer = score(broken, CATALOGUE)
    status, code, message = error(answer)
    assert (status, code) == (502, "MODEL_LOAD_FAILED")
    assert "HF_HUB_OFFLINE" in message
    detail = answer.json()["detail"]
    assert (detail["error_class"], detail["permanent"]) == ("NETWORK", False)


def test_a_score_of_nan(broken: httpx2.Client) -> None:
    for _ in range(2):
        answer = error(score(broken, "nan"))
        assert answer == (500, "INFERENCE_ERROR", "Model 'nan' produced non-finite scores")
    assert score(broken).status_code == 200


# --- a device that stalls or fails -----------------------------------------------------------------------------------

POISON = "snakes"


class Gate:
    """An encoder that computes while `open` is set, and fails on a batch with the poisoned word in it."""

    def __init__(self, encoder: Bert, poison: int) -> None:
        self.head = encoder.head
        self.open = threading.Event()
        self.batches: list[int] = []
        self._encoder = encoder
        self._poison = poison

    def __call__(self, packed: Packed) -> torch.Tensor:
        self.batches.append(len(packed.lengths))
        assert self.open.wait(30)
        if (packed.ids == self._poison).any():
            raise ZeroDivisionError("poisoned")
        hidden: torch.Tensor = self._encoder(packed)
        return hidden


class Stalled:
    """A server with one device thread, batches of 64 tokens, a queue of 100, and a gate before the device."""

    def __init__(self, running: InProcess, gate: Gate, api: httpx2.Client) -> None:
        self.gate = gate
        self.api = api
        self.url = urlsplit(running.url)
        self.scheduler = running.engine.scheduler
        self._pool = ThreadPoolExecutor(8)

    def send(self, *documents: str) -> "Future[httpx2.Response]":
        body = {"query": {"text": "w1"}, "items": [{"text": document} for document in documents]}
        return self._pool.submit(self.api.post, "/v1/score/bert", json=body)

    def stall(self) -> "Future[httpx2.Response]":
        """Occupy the device; what comes next waits until the gate opens."""
        seen = len(self.gate.batches)
        future = self.send("w2")
        poll(lambda: len(self.gate.batches) > seen)
        return future

    def close(self) -> None:
        self.gate.open.set()
        self._pool.shutdown()


@pytest.fixture
def stalled(models: Path) -> Iterator[Stalled]:
    gates: list[Gate] = []

    def loader(entry: Entry, device: torch.device, precision: Precision, **_: Any) -> LoadedModel:
        model = load(entry, device, precision)
        [sequence] = model.tokenizer.encode_documents([POISON])
        gates.append(Gate(model.encoder, poison=int(sequence.ids[1])))
        return replace(model, encoder=gates[0])  # type: ignore[arg-type] # a stand-in

    limits = {"workers": 1, "batch_tokens": 64, "queue_tokens": 100}
    with (
        in_process(loader, model=(str(models / "bert"),), preload=("bert",), **limits) as running,
        connect(running.url) as api,
    ):
        device = Stalled(running, gates[0], api)
        yield device
        device.close()


def test_a_full_queue(stalled: Stalled) -> None:
    # Idle, the server takes a request of ten times the queue.
    large = stalled.send(*[text(20, seed=n) for n in range(40)])
    poll(lambda: stalled.scheduler.tokens > 100)
    refused = stalled.send("w2").result()
    status, code, message = error(refused)
    assert (status, code) == (503, "QUEUE_FULL")
    assert "the limit for all models is 100" in message
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert stalled.api.get("/livez").status_code == 200

    stalled.gate.open.set()
    assert len(large.result().json()["scores"]) == 40
    assert stalled.send("w2").result().status_code == 200


def test_a_queue_with_room_takes_more(stalled: Stalled) -> None:
    first = stalled.stall()
    waiting = [stalled.send("w2", "w3") for _ in range(5)]
    poll(lambda: stalled.scheduler.tokens == 5 * 2 * 5)
    stalled.gate.open.set()
    assert [future.result().status_code for future in [first, *waiting]] == [200] * 6


def test_a_failure_on_the_device_is_answered_to_its_request_alone(stalled: Stalled) -> None:
    first = stalled.stall()
    good, bad, other = stalled.send("w3", "w4"), stalled.send("w5", POISON), stalled.send("w6")
    poll(lambda: stalled.scheduler.tokens == 5 * 5)
    stalled.gate.open.set()
    answers = [future.result() for future in (first, good, bad, other)]
    # oneDNN has one more, that rounds 25 tokens up.
    assert stalled.gate.batches[1] == 5 + (not bfloat16_panels()), "all three shared a batch"
    assert [answer.status_code for answer in answers] == [200, 200, 500, 200]
    assert error(answers[2])[1:] == ("INFERENCE_ERROR", "internal error during scoring")
    # The others' scores are those they get alone.
    assert [e["score"] for e in answers[3].json()["scores"]] == scores(stalled.api, "bert", "w1", ["w6"])
    assert stalled.api.get("/livez").status_code == 200


def test_a_request_of_a_disconnected_client_leaves_the_queue(stalled: Stalled) -> None:
    body = json.dumps({"query": {"text": "w1"}, "items": [{"text": text(20, seed=n)} for n in range(40)]}).encode()
    with socket.create_connection((stalled.url.hostname, stalled.url.port), 20) as connection:
        head = f"POST /v1/score/bert HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        poll(lambda: stalled.gate.batches and stalled.scheduler.tokens > 0)
    # While the device still stalls.
    poll(lambda: stalled.scheduler.tokens == 0)
    assert metric(stalled.api, "sie_requests_total", endpoint="score", model="bert", status="499") == 1
    assert stalled.api.get("/livez").status_code == 200
    stalled.gate.open.set()
    assert stalled.send("w2").result().status_code == 200
    # Its first batch was on the device when it went; no other followed.
    assert len(stalled.gate.batches) == 2
    assert metric(stalled.api, "sie_tokens_processed_total", model="bert") <= 64 + 5


def test_a_dead_device_is_not_live() -> None:
    with in_process() as running, connect(running.url) as api:
        running.engine.scheduler.close()
        poll(lambda: api.get("/livez").status_code == 503)
        assert api.get("/livez").headers["content-type"].startswith("text/plain")
        assert api.get("/healthz").status_code == 200


def test_an_unexpected_error(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with in_process(model=(str(models / "bert"),)) as running, connect(running.url) as api:
        with monkeypatch.context() as patch:
            patch.setattr(running.engine, "score", lambda *_: 1 / 0)
            answer = score(api)
        assert error(answer) == (500, "INTERNAL_ERROR", "internal error")
        assert answer.headers["connection"] == "close"
        assert metric(api, "sie_requests_total", endpoint="score", model="bert", status="500") == 1
        assert score(api).status_code == 200


# --- servers that can't start ----------------------------------------------------------------------------------------


def start(*flags: str) -> tuple[int, str]:
    """Exit status and log of a server that stops by itself."""
    command = [sys.executable, "-m", "sie_server", "serve", "--host=127.0.0.1", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr


def test_a_preload_of_an_unknown_model() -> None:
    status, log = start("--port=0", "--preload=bge")
    assert status == 2
    assert "--preload bge: not in the catalogue; allow it with --model bge" in log
    assert "Traceback" not in log


def test_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        status, log = start(f"--port={port}")
    assert status == 2
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in log
    assert "Traceback" not in log


def test_a_preload_that_fails(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "bert", tmp_path / "incomplete")
    _without_a_weight(tmp_path / "incomplete")
    status, log = start("--port=0", f"--model={tmp_path / 'incomplete'}", "--preload=incomplete")
    assert status == 1
    assert "Model 'incomplete' failed to load: " in log
    assert "Traceback" not in log


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [("model", "./no-such-folder", "no such folder"), ("device", "tpu", "tpu"), ("model", "bert=nowhere", "nowhere")],
)
def test_settings_that_can_not_be_used(setting: str, value: str, message: str) -> None:
    settings: dict[str, Any] = {setting: (value,) if setting == "model" else value}
    with pytest.raises(ValueError, match=message), in_process(**settings):
        pass


class Panic(BaseException):
    """What a library of another language raises where it fails: no `Exception`."""


@pytest.mark.parametrize("path", ["/v1/models", f"/v1/score/{EMBEDDED}", "/metrics"])
def test_a_panic_is_an_error_like_any_other(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    with in_process(preload=(EMBEDDED,)) as running, connect(running.url) as api:

        def panic(*_: Any, **__: Any) -> None:
            raise Panic

        monkeypatch.setattr("sie_server.api.native.model_list", panic)
        monkeypatch.setattr("sie_server.api.scoring.score_params", panic)
        monkeypatch.setattr("sie_server.metrics.Metrics.render", panic)
        answer = api.post(path, json=BODY) if "score" in path else api.get(path)
        assert error(answer) == (500, "INTERNAL_ERROR", "internal error")
        monkeypatch.undo()
        assert api.get("/v1/models").status_code == 200


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_embedding_that_is_not_finite_is_an_error_that_names_its_item(
    monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    forward = Encoder.forward

    def broken(self: Encoder, packed: Packed) -> Any:
        hidden, rows = forward(self, packed)
        return torch.full_like(hidden, value), rows

    with in_process(preload=(EMBEDDED,)) as running, connect(running.url) as api:
        monkeypatch.setattr(Encoder, "forward", broken)
        muvera = {"options": {"muvera": {}}}
        for params in ({}, {"output_types": ["multivector"]}, muvera, {"output_dtype": "binary"}):
            answer = api.post(f"/v1/encode/{EMBEDDED}", json={"items": [{"text": "it"}], "params": params})
            status, code, message = error(answer)
            assert (status, code) == (500, "INFERENCE_ERROR")
            assert "items[0]" in message
        answer = api.post("/v1/embeddings", json={"model": EMBEDDED, "input": "it"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "INFERENCE_ERROR")
        assert answer.json()["error"]["param"] == "input[0]"
