"""What the engine does not waste: memory of files that were read, pages, compiled products."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from checkpoints import text
from running import running
from safetensors.torch import save_file

from sie_server.engine.limits import Limits
from sie_server.engine.packed import Packed
from sie_server.models import weights
from sie_server.models.catalog import Entry
from sie_server.nn.panels import bfloat16_panels

MB = 2**20


def mapped() -> int:
    """Bytes of files that are resident in this process."""
    return int(re.search(r"RssFile:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024  # type: ignore[index]


def test_a_file_of_weights_is_never_all_in_memory(tmp_path: Path) -> None:
    count, size = 24, 4 * MB
    save_file({f"{i}.weight": torch.full((size // 4,), float(i)) for i in range(count)}, tmp_path / "model.safetensors")
    before = mapped()
    read = {}
    for name, tensor in weights._safetensors(tmp_path / "model.safetensors"):
        read[name] = float(tensor.sum())  # touches every page
        assert mapped() - before < 3 * size
    assert read == {f"{i}.weight": float(i) * size / 4 for i in range(count)}


FREED = """
import resource, threading
import numpy as np
from sie_server.engine.allocator import settle

settle()
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


def test_batches_come_in_few_sizes(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each size costs memory that is never given back; scores are those of the batch without what fills it up."""
    sizes: list[int] = []
    pack = Packed.of

    def counted(*arguments: object) -> Packed:
        packed = pack(*arguments)  # type: ignore[arg-type]
        sizes.append(len(packed.ids))
        return packed

    documents = [text(length, seed=length) for length in range(1, 300)]
    entries = {"bert": Entry("bert", folder=models / "bert")}
    with running(entries, precision="float32", batch_tokens=2048, workers=1) as handle:
        engine = handle.engine
        model = handle.run(engine.model("bert", ["score"]))
        monkeypatch.setattr(Packed, "of", counted)
        alone = [handle.run(engine.score(model, "what is python", [one], Limits())) for one in documents]
        every = handle.run(engine.score(model, "what is python", documents, Limits()))
    assert every.scores == [score for one in alone for score in one.scores]
    assert len(sizes) > len(documents)
    assert len(set(sizes)) < 60
    # Few of the tokens stand for nothing, and none of them is counted.
    assert sum(sizes[len(documents) :]) <= 1.05 * every.tokens
    assert every.tokens == sum(every.lengths)


@pytest.mark.skipif(not bfloat16_panels(), reason="oneDNN multiplies in bfloat16 here")
def test_batches_of_the_kernel_have_no_filler(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    pack = Packed.of

    def counted(*arguments: object) -> Packed:
        packed = pack(*arguments)  # type: ignore[arg-type]
        sizes.append(len(packed.ids))
        return packed

    entries = {"bert": Entry("bert", folder=models / "bert")}
    with running(entries, precision="bfloat16", batch_tokens=2048, workers=1) as handle:
        model = handle.run(handle.engine.model("bert", ["score"]))
        monkeypatch.setattr(Packed, "of", counted)
        documents = [text(length, seed=length) for length in range(1, 100)]
        every = handle.run(handle.engine.score(model, "what is python", documents, Limits()))
    assert sum(sizes) == every.tokens
