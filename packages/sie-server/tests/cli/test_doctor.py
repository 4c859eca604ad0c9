"""`sie-server doctor`: its findings, and its exit status."""

import json
from pathlib import Path

import pytest
import torch

from sie_server.cli import main as cli
from sie_server.cli.doctor import Finding, examine
from sie_server.nn import precision, precision_rates
from sie_server.nn.kernels import library
from sie_server.nn.precision_rates import keep_rates, read_rates

NAMES = ["processor", "memory", "kernels", "device", "precision", "int8", "models"]


@pytest.fixture(autouse=True)
def rates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIE_RATES_DIR", str(tmp_path / "rates"))
    precision_rates.kept_rates.cache_clear()


def by_name(device: str = "cpu", measure: bool = False) -> dict[str, Finding]:
    return {finding.name: finding for finding in examine(device, "auto", measure)}


def doctor(*arguments: str) -> object:
    with pytest.raises(SystemExit) as exit_:
        cli.app.meta(["doctor", *arguments])
    return exit_.value.code


def test_it_names_the_precision_that_a_server_would_use_here(capsys: pytest.CaptureFixture[str]) -> None:
    status = doctor("--device", "cpu", "--json")
    findings = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert list(findings) == NAMES
    assert status == int(any(each["status"] == "problem" for each in findings.values()))
    choice = precision.choose_precision("auto", torch.device("cpu"))
    assert findings["precision"]["facts"]["precision"] == choice.name
    assert findings["precision"]["text"] == choice.described()


def test_the_table_has_a_line_per_finding(capsys: pytest.CaptureFixture[str]) -> None:
    doctor("--device", "cpu", "--precision", "float32")
    printed = capsys.readouterr().out
    assert all(name in printed for name in NAMES)
    assert "precision float32 is float32 (it was set)" in printed


def test_int8_is_compared_with_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (library, precision):
        monkeypatch.setattr(module, "installed_library", object)
        monkeypatch.setattr(module, "linear_isa_level", lambda: 2)
    monkeypatch.setattr(library, "vector_isa_level", lambda: 2)
    keep_rates({"float32": 100.0, "bfloat16": 50.0, "int8": 230.0})
    findings = by_name()
    if findings["precision"].facts["precision"] != "float32":
        pytest.fail("auto took bfloat16 at half the rate of float32")
    assert findings["int8"].text.startswith("2.30 times as fast as auto (float32), and less exact")
    assert findings["int8"].facts["tokens_per_second"] == {"float32": 100.0, "int8": 230.0}
    assert (findings["kernels"].status, findings["kernels"].text) == ("ok", "AVX-512 and AVX512-VNNI")


def test_measure_replaces_the_kept_rates() -> None:
    keep_rates({"float32": 1e-9, "bfloat16": 1e-9, "int8": 1e-9})
    by_name(measure=True)
    assert all(rate > 1 for rate in read_rates().values())


def test_kernels_that_were_not_built_are_a_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module in (library, precision):
        monkeypatch.setattr(module, "installed_library", lambda: None)
    monkeypatch.setattr(library, "library_path", lambda: tmp_path / "none.so")
    findings = by_name()
    assert (findings["kernels"].status, findings["kernels"].text) == ("problem", "not built")
    assert "g++" in findings["kernels"].advice
    assert "needs the kernels: they were not built at installation" in findings["int8"].text


def test_limits_of_the_environment_are_pointed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIE_MAX_CPU_ISA", "portable")
    finding = by_name()["processor"]
    assert finding.status == "note"
    assert finding.text.endswith("limited by SIE_MAX_CPU_ISA=portable")


@pytest.mark.parametrize(
    ("variable", "value", "device", "message"),
    [
        ("SIE_MAX_CPU_ISA", "sse9", "cpu", "SIE_MAX_CPU_ISA is 'sse9'; it must be one of none, portable, avx2"),
        ("SIE_MAX_CPU_ISA", "", "cuda:99", "device 'cuda:99' does not exist"),
        ("SIE_MAX_CPU_ISA", "", "tpu", "device 'tpu'"),
    ],
)
def test_what_stops_the_server_is_a_problem(
    variable: str,
    value: str,
    device: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(variable, value)
    assert doctor("--device", device) == 1
    assert message in capsys.readouterr().out
