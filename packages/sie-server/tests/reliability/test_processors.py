"""The same pair, the same bits, as on other processors: short, one process for each. All: reliability/invariance.py."""

import os
import subprocess
import sys

import pytest
from processors import Processor, processors

NAMES = [
    "SIE_MAX_CPU_ISA=portable",
    "SIE_MAX_CPU_ISA=avx2 ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2",
    "SIE_MAX_CPU_ISA=none ATEN_CPU_CAPABILITY=default",
    "SIE_MAX_CPU_ISA=none MKL_ENABLE_INSTRUCTIONS=AVX2",
    "SIE_MAX_CPU_ISA=none ONEDNN_MAX_CPU_ISA=AVX512_CORE",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_score_does_not_depend_on_its_batch_on_another_processor(name: str) -> None:
    [processor] = [processor for processor in processors() if processor.name == name]
    _skip_without(processor)
    done = subprocess.run(
        [sys.executable, "-m", "sie_testing.batch_comparison"],
        env={**os.environ, **processor.environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].endswith("0 differ"), done.stdout


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
