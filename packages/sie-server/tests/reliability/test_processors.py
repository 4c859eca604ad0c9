"""The same pair, the same bits, as on other processors: short, one process for each. All: reliability/invariance.py."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from processors import Processor, processors

from sie_testing.checkpoints import build, text

LENGTHS = [0, 1, 2, 3, 5, 11, 14, 30, 60, 130]
NAMES = [
    "SIE_MAX_CPU_ISA=portable",
    "SIE_MAX_CPU_ISA=avx2 ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2",
    "SIE_MAX_CPU_ISA=avx2_vnni",
    "SIE_MAX_CPU_ISA=avx512_bf16",
    "SIE_MAX_CPU_ISA=none ATEN_CPU_CAPABILITY=default",
    "SIE_MAX_CPU_ISA=none MKL_ENABLE_INSTRUCTIONS=AVX2",
    "SIE_MAX_CPU_ISA=none ONEDNN_MAX_CPU_ISA=AVX512_CORE",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints and texts for every processor's program."""
    folder = tmp_path_factory.mktemp("compared")
    for name in ("bert", "deberta-v2", "modernbert"):
        build(folder / name, name)
    (folder / "texts.json").write_text(json.dumps([text(length, seed=length) for length in LENGTHS]))
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_a_score_does_not_depend_on_its_batch_on_another_processor(folder: Path, name: str) -> None:
    [processor] = [processor for processor in processors() if processor.name == name]
    _skip_without(processor)
    done = subprocess.run(
        [sys.executable, "-m", "sie_testing.batch_comparison", str(folder)],
        env={**os.environ, **processor.environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.fullmatch(r"(?!0 )\d+ compared, 0 differ", done.stdout.splitlines()[-1]), done.stdout


def _skip_without(processor: Processor) -> None:
    if processor.lacks:
        pytest.skip(f"this processor has no {processor.lacks}")


def test_an_unknown_set_of_instructions_is_refused_by_name() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sie_server", "serve", "--port=0"],
        env={**os.environ, "SIE_MAX_CPU_ISA": "avx1024"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode != 0
    assert "SIE_MAX_CPU_ISA is 'avx1024'; it must be one of none, portable, avx2" in done.stderr
