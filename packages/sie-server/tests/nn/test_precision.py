"""Choice of the precision, and the file of the measured rates."""

import math
from pathlib import Path

import pytest
import torch

from sie_server.nn import precision_rates
from sie_server.nn.precision import choose_precision, resolve_precision
from sie_server.nn.precision_rates import Rates, keep_rates, measure_rates, rates_path, read_rates
from sie_server.options import Precision

CPU = torch.device("cpu")


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU that multiplies bfloat16 natively."""
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr("torch.ops.mkldnn._is_mkldnn_bf16_supported", lambda: True, raising=False)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the rates are kept."""
    monkeypatch.setenv("SIE_RATES_DIR", str(tmp_path / "rates"))
    return tmp_path / "rates"


@pytest.mark.parametrize(
    ("bfloat16", "chosen"),
    [(50.0, "float32"), (100.0, "float32"), (114.9, "float32"), (115.0, "bfloat16"), (400.0, "bfloat16")],
)
@pytest.mark.usefixtures("native")
def test_auto_leaves_float32_for_a_clear_margin_only(bfloat16: float, chosen: str) -> None:
    measured: Rates = {"float32": 100.0, "bfloat16": bfloat16}
    choice = choose_precision("auto", CPU, lambda _: measured)
    assert (choice.name, choice.rates) == (chosen, measured)
    line = choice.described()
    assert line.startswith(f"precision auto is {chosen} (measured here: ")
    assert line.endswith(f"through a typical layer: float32 100, bfloat16 {bfloat16:,.0f}")


def never(_: tuple[Precision, ...]) -> Rates:
    raise AssertionError("measured")


def test_nothing_is_measured_where_there_is_no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_precision("float32", CPU, never).described() == "precision float32 is float32 (it was set)"
    for check in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(f"torch.cpu.{check}", lambda: False)
    choice = choose_precision("auto", CPU, never)
    assert choice.described() == "precision auto is float32 (this CPU does not multiply bfloat16 natively)"


@pytest.mark.usefixtures("folder")
def test_the_real_measurement_chooses_an_admitted_precision() -> None:
    assert resolve_precision("auto", CPU) in (torch.float32, torch.bfloat16)
    [rate] = measure_rates(["float32"], turns=1).values()
    assert 0 < rate < math.inf


def test_rates_are_kept_for_the_next_start(folder: Path) -> None:
    assert read_rates() == {}
    keep_rates({"float32": 2.0, "bfloat16": 3.0})
    assert read_rates() == {"float32": 2.0, "bfloat16": 3.0}
    assert precision_rates.kept_rates.__wrapped__(("bfloat16",), measure=never) == {"bfloat16": 3.0}
    assert [file.name for file in folder.iterdir()] == [rates_path().name]


@pytest.mark.parametrize(
    "damage", [b"", b"\xff{", b"[]", b'{"key": "of another", "rates": {"float32": 1}}', b'{"rates": {"float32": "x"}}']
)
def test_a_damaged_file_is_measured_again_and_replaced(folder: Path, damage: bytes) -> None:
    folder.mkdir()
    rates_path().write_bytes(damage)
    measured: Rates = {"float32": 4.0}
    assert precision_rates.kept_rates.__wrapped__(("float32",), measure=lambda *_: measured) == measured
    assert read_rates() == measured


@pytest.mark.parametrize("rates", ['{"float32": 0}', '{"float32": -1}'])
def test_rates_that_can_not_be_are_ignored(folder: Path, rates: str) -> None:
    folder.mkdir()
    rates_path().write_text(f'{{"key": "{precision_rates._key()}", "rates": {rates}}}')
    assert read_rates() == {}


@pytest.mark.usefixtures("folder")
def test_other_limits_have_rates_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_rates({"float32": 2.0})
    monkeypatch.setenv("SIE_MAX_CPU_ISA", "avx2")
    assert read_rates() == {}


def test_where_nothing_can_be_kept_it_is_measured_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    for place in ("", str(tmp_path / "file" / "folder")):
        monkeypatch.setenv("SIE_RATES_DIR", place)
        keep_rates({"float32": 2.0})
        assert read_rates() == {}


def test_the_user_s_cache_folder_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIE_RATES_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert rates_path().parent == tmp_path / "sie"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert rates_path().parent == tmp_path / ".cache" / "sie"
