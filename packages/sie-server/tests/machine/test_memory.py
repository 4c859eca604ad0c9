"""What the engine does not waste: memory of files that were read, pages, compiled products."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sie_server.catalog.catalog import Entry
from sie_server.checkpoints.load import load
from sie_server.checkpoints.tensor_file import SafetensorsFile
from sie_server.machine.memory import machine_budget, resident_memory, usable_memory
from sie_server.machine.peak_memory import PeakMemory
from sie_server.nn import linear_backends as pack
from sie_server.nn.kernels.library import installed_library
from sie_server.nn.packed import Packed
from sie_testing.checkpoints import build, text
from sie_testing.engine_loop import running

MB = 2**20


def test_a_file_of_weights_is_never_all_in_memory(tmp_path: Path) -> None:
    count, size = 24, 4 * MB
    save_file({f"{i}.weight": torch.full((size // 4,), float(i)) for i in range(count)}, tmp_path / "model.safetensors")
    target = torch.zeros(size // 4, dtype=torch.float64)
    before = resident_memory()
    read = {}
    with SafetensorsFile(tmp_path / "model.safetensors") as file:
        for name in file.tensors:
            file.read(name, target)
            read[name] = float(target.sum())
            assert resident_memory() - before < 2 * size
    assert read == {f"{i}.weight": float(i) * size / 4 for i in range(count)}


FREED = """
import resource, threading
import numpy as np
from sie_server.machine.malloc import trim_and_tune

trim_and_tune()
faults = []

def run():
    for _ in range(40):
        np.ones(20 * 2**18, np.float32)  # 20 MiB, freed at once
        faults.append(resource.getrusage(resource.RUSAGE_THREAD).ru_minflt)

thread = threading.Thread(target=run)
thread.start()
thread.join()
print(faults[-1] - faults[1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs glibc")
def test_tensors_of_every_batch_reuse_the_same_pages() -> None:
    done = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 20 * MB / 4096  # 38 allocations, fewer faults than pages of one


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tokens of each batch from now on."""
    sizes: list[int] = []
    pack = Packed.of

    def counted(*arguments: object) -> Packed:
        packed = pack(*arguments)  # type: ignore[arg-type]
        sizes.append(len(packed.ids))
        return packed

    monkeypatch.setattr(Packed, "of", counted)
    return sizes


def test_batches_come_in_few_sizes(models: Path, sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where oneDNN multiplies each size costs memory that is never given back; scores are those without the filler."""
    monkeypatch.setattr(pack, "installed_library", lambda: None)
    documents = [text(length, seed=length) for length in range(1, 300, 3)]
    entries = {"bert": Entry("bert", folder=models / "bert")}
    with running(entries, precision="float32", batch_tokens=2048, workers=1) as handle:
        handle.model("bert")
        sizes.clear()  # of the load
        alone = [handle.score("bert", "what is python", [one]) for one in documents]
        every = handle.score("bert", "what is python", documents)
    assert every.scores == [score for one in alone for score in one.scores]
    assert len(sizes) > len(documents)
    assert len(set(sizes)) <= 20
    # Few of the tokens stand for nothing, and none of them is counted.
    assert sum(sizes[len(documents) :]) <= 1.05 * every.tokens
    assert every.tokens == sum(every.lengths)


def test_tensors_are_counted_while_they_live() -> None:
    peak = PeakMemory()
    with torch.inference_mode(), peak:
        a = torch.ones(1000)
        b = a + 1
        view = b.view(10, 100)[2:]
        b.add_(1)
        del b
        c = a * 2
        del view
        d = c * 2
    assert d.sum() == 4000
    assert peak.bytes == 3 * 4000


@pytest.mark.parametrize(
    ("group", "files", "limit"),
    [
        ("0::/a/b", {"a/b/memory.max": "max", "a/memory.max": "300000000", "memory.max": "400000000"}, 300_000_000),
        ("0::/on/the/host", {"memory.max": "200000000"}, 200_000_000),
        ("4:memory:/a\n5:cpu:/", {"memory/a/memory.limit_in_bytes": "100000000"}, 100_000_000),
        ("4:memory:/a", {"memory/memory.limit_in_bytes": str(2**63 - 4096)}, None),
        ("0::/a", {"a/memory.max": "max"}, None),
    ],
)
def test_a_container_has_the_memory_of_its_limit(
    tmp_path: Path, group: str, files: dict[str, str], limit: int | None
) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(group + "\n")
    for name, content in files.items():
        (tmp_path / "sys/fs/cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sys/fs/cgroup" / name).write_text(content + "\n")
    whole = usable_memory(tmp_path / "nothing")
    assert usable_memory(tmp_path) == (limit or whole)
    assert machine_budget(torch.device("cpu")) < whole


def test_the_memory_of_a_batch_is_measured_per_token(models: Path) -> None:
    model = load(Entry("bert", folder=models / "bert"), torch.device("cpu"), "float32")
    # Of 64 values a token has: what goes into a layer, and what is made of it there, 128 values wide.
    assert 64 * 4 < model.token_bytes < 64 * 4 * 20


LOADED = """
import asyncio, sys, time
from pathlib import Path
from sie_server.cli.quick_imports import quick_imports
with quick_imports():
    from sie_server.engine.engine import Engine
from sie_server.engine.calls import ScoreCall
from sie_server.machine.memory import resident_memory
from sie_server.metrics import Metrics
from sie_server.catalog.catalog import Entry, shipped
from sie_server.settings import Settings

embedded = "sentence-transformers/all-MiniLM-L6-v2"

async def main():
    entries = shipped()
    engine = Engine(Settings(precision="auto", workers=2, device="cpu"), {embedded: entries[embedded]}, Metrics())
    engine.start()
    await engine.score(ScoreCall(embedded, "what", ["it is"]))
    print(sorted({"torch._dynamo", "sympy"} & {*sys.modules}))
    await engine.close()
    entry = Entry("m", folder=Path(sys.argv[1]))
    engine = Engine(Settings(precision="float32", workers=2, device="cpu"), {"m": entry}, Metrics())
    engine.start()
    for _ in range(3):
        before = resident_memory()
        await asyncio.gather(*(engine.score(ScoreCall("m", "what", ["it is"] * 20)) for _ in range(4)))
        loaded, size = resident_memory(), engine.residency.slots["m"].model.bytes
        await engine.residency.unload("m")
        # A device thread lets go of its last batch when it gets a processor, which may be after the answer.
        until = time.monotonic() + 20
        while (left := resident_memory() - before) > 0.1 * size and time.monotonic() < until:
            await asyncio.sleep(0.01)
        print(size, loaded - before, left)
    await engine.close()

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Lines of `LOADED`, run in a process of its own: its memory and its modules are those of a server."""
    folder = tmp_path_factory.mktemp("large")
    build(folder, "bert", vocab_size=100_000, hidden_size=192, intermediate_size=768)
    done = subprocess.run([sys.executable, "-c", LOADED, str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_load_imports_no_compiler(printed: list[str]) -> None:
    """A compiler has 120,000 objects, which every garbage collection would walk through while all threads wait."""
    assert printed[0] == "[]"


@pytest.mark.skipif(sys.platform != "linux", reason="needs glibc")
def test_an_unloaded_model_gives_its_memory_back(printed: list[str]) -> None:
    """No batch comes after it whose device threads would let go of the last one."""
    _, *rounds = [list(map(int, line.split())) for line in printed[1:]]  # the first one sets up much else
    assert len(rounds) == 2
    for size, grown, left in rounds:
        assert grown > 0.8 * size
        assert left < 0.2 * size


@pytest.mark.skipif(installed_library() is None, reason="there are no kernels")
def test_batches_of_the_kernel_have_no_filler(models: Path, sizes: list[int]) -> None:
    entries = {"bert": Entry("bert", folder=models / "bert")}
    with running(entries, precision="float32", batch_tokens=2048, workers=1) as handle:
        handle.model("bert")
        sizes.clear()
        documents = [text(length, seed=length) for length in range(1, 100)]
        every = handle.score("bert", "what is python", documents)
    assert sum(sizes) == every.tokens
