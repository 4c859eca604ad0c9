"""What the engine does not waste: memory of files that were read."""

import re
from pathlib import Path

import torch
from safetensors.torch import save_file

from sie_server.models import weights

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
