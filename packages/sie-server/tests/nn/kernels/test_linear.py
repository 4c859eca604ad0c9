"""Linear layers by the kernel: within the error of their rounding, the same in any company, and near to float32."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sie_server.catalog.catalog import Entry
from sie_server.checkpoints.load import load
from sie_server.models.loaded_model import LoadedModel
from sie_server.nn import linear_backends as pack_module
from sie_server.nn import precision as precision_module
from sie_server.nn import similarity_product as product_module
from sie_server.nn.activations import ACTIVATIONS
from sie_server.nn.kernels import linear as panels_module
from sie_server.nn.kernels.library import installed_library, linear_isa_level, vector_isa_level
from sie_server.nn.kernels.linear import KernelDtype, PanelLinear
from sie_server.nn.linear import GatedLinear, Linear
from sie_server.nn.packed import Packed
from sie_server.nn.precision import resolve_precision
from sie_server.nn.similarity_product import SimilarityProduct
from sie_testing.checkpoints import build, text
from sie_testing.layers import filled, needs_int8

CPU = torch.device("cpu")
needs_bfloat16 = pytest.mark.skipif(linear_isa_level() < 3, reason="no AVX512-BF16, or no kernels")
ENCODERS = ["bert", "xlm-roberta", "electra-narrow", "distilbert", "modernbert", "gte", "deberta-v2", "mpnet"]
DECODERS = ["qwen3", "qwen2", "gemma"]
# The widest row of values taken out, the lanes they are found by, how many lanes have theirs taken, and the part of the
# largest value above which that of another lane is near it.
ROOM, LANES, TAKEN, NEAR = 16, 16, 2, 0.7


def has_level(level: int) -> bool:
    library = installed_library()
    return library is not None and library.sie_linear_level(level) == level


@pytest.fixture(params=[1, 2, 3, 4], ids=["avx2_vnni", "vnni", "vnni_bf16", "amx"])
def level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Each set of instructions that this processor has."""
    chosen: int = request.param
    if not has_level(chosen):
        pytest.skip("this processor has no such instructions, or there are no kernels")
    monkeypatch.setattr(panels_module, "linear_isa_level", lambda: chosen)
    return chosen


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As on the server: where torch splits an operation among threads depends on the number of rows."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def uneven(layer: Linear) -> Linear:
    """With columns of unequal size."""
    torch.manual_seed(0)
    filled(layer).weight[:, ::7] *= 20
    return layer


def rows(count: int, width: int) -> Tensor:
    """Rows of different ranges, none of them around zero, each with values far from the others."""
    torch.manual_seed(1)
    x = torch.randn(count, width) * torch.linspace(0.1, 30, count)[:, None] + 1
    x[:, width // 3] *= 50
    x[:, width // 2] *= -30
    return x


def allowed(x: Tensor, weight: Tensor) -> Tensor:
    """The largest error of `x Wᵀ`: half a step for each value of a row, half a step for each of a channel's weights.

    Those taken out of a row count with the rounding of their weights to bfloat16. Shapes: `[rows, out_features]`.
    """
    spread = weight.double().pow(2).mean(0).sqrt()
    weight, x = weight.double() / spread.clamp_min(1e-30), x.double() * spread
    padded = torch.nn.functional.pad(x, (0, -x.shape[1] % LANES)).unflatten(1, (-1, LANES))
    sizes = padded.abs().amax(1).sort(1, descending=True).values
    bound = sizes[:, TAKEN : TAKEN + 1]
    out = x.abs() > bound * (1 + 1e-6)
    out &= bound <= sizes[:, :1] * NEAR
    out &= out.sum(1, keepdim=True) <= ROOM
    kept, taken = x.masked_fill(out, 0), x.masked_fill(~out, 0)
    row_step = (kept.amax(1, keepdim=True).clamp_min(0) - kept.amin(1, keepdim=True).clamp_max(0)) / 255
    channel_step = weight.abs().amax(1) / 127
    by_rows = row_step / 2 * (weight.abs().sum(1) + weight.shape[1] * channel_step / 2)
    by_channels = kept.abs().sum(1, keepdim=True) * channel_step / 2
    return by_rows + by_channels + taken.abs() @ weight.abs().T * 2**-8


def int8_result(layer: Linear, x: Tensor) -> Tensor:
    """In float32, as results are that go to a residual stream; others are rounded to bfloat16."""
    backend = PanelLinear(layer, "int8")
    y: Tensor = backend(x, torch.zeros(len(x), backend.outputs))
    return y


@needs_int8
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_int8_without_a_residual_is_rounded_to_bfloat16(dtype: torch.dtype) -> None:
    layer = uneven(Linear(75, 70, activation="gelu"))
    layer.weight.data = layer.weight.to(dtype)
    x = rows(9, 75).to(dtype)
    assert torch.equal(PanelLinear(layer, "int8")(x), int8_result(layer, x).bfloat16())


@needs_int8
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("count", "inputs", "outputs"), [(1, 64, 96), (70, 384, 1536), (57, 4096, 224), (33, 75, 70)])
@pytest.mark.parametrize(("activation", "lowest"), [("none", 1), ("gelu", 2)])
def test_int8_has_the_same_bits_on_every_level(
    count: int,
    inputs: int,
    outputs: int,
    dtype: torch.dtype,
    activation: Any,
    lowest: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Activations by AVX2 are rounded in another way."""
    layer = uneven(Linear(inputs, outputs, activation=activation))
    layer.weight.data = layer.weight.to(dtype)
    x = rows(count, inputs).to(dtype)
    results = []
    for level in filter(has_level, range(lowest, linear_isa_level() + 1)):
        monkeypatch.setattr(panels_module, "linear_isa_level", lambda level=level: level)
        results.append(int8_result(layer, x))
    assert all(torch.equal(result, results[0]) for result in results)


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("count", "inputs", "outputs"), [(1, 64, 96), (5, 384, 1536), (57, 4096, 1024), (33, 75, 70)])
def test_a_product_errs_by_its_rounding_alone(
    bias: bool, dtype: torch.dtype, count: int, inputs: int, outputs: int
) -> None:
    layer = uneven(Linear(inputs, outputs, bias=bias))
    x = rows(count, inputs).to(dtype)
    exact = torch.nn.functional.linear(
        x.double(), layer.weight.double(), None if layer.bias is None else layer.bias.double()
    )
    y = int8_result(layer, x)
    assert y.dtype == torch.float32
    error, most = (y - exact).abs(), allowed(x, layer.weight)
    assert (error <= most * 1.001 + 1e-6 * exact.abs()).all()
    assert error.square().sum() <= (0.3 * most).square().sum()  # roundings are independent
    assert error.norm() <= 0.02 * exact.norm()


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "silu"])
def test_activations(activation: Any) -> None:
    """What follows the product: from -100 to 100, within what bfloat16 would round."""
    layer = uneven(Linear(64, 96, activation=activation))
    plain = uneven(Linear(64, 96))
    x = rows(200, 64) / 10
    before = int8_result(plain, x)
    assert before.min() < -20
    assert before.max() > 20
    expected = ACTIVATIONS[activation][0](before.double())
    torch.testing.assert_close(int8_result(layer, x).double(), expected, rtol=5e-4, atol=5e-5)


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("gate_first", [True, False])
@pytest.mark.parametrize("width", [96, 40])
def test_a_gate_is_the_product_of_its_halves(gate_first: bool, width: int) -> None:
    layer = uneven(GatedLinear(64, width, "gelu", gate_first))
    x = rows(9, 64)
    y = int8_result(layer, x)
    assert y.shape == (9, width)
    exact = torch.nn.functional.linear(x, layer.weight, layer.bias).chunk(2, dim=1)
    gate, value = exact if gate_first else exact[::-1]
    expected = torch.nn.functional.gelu(gate) * value
    assert (y - expected).norm() <= 0.03 * expected.norm()


@pytest.mark.usefixtures("level")
def test_a_row_without_a_range_is_exact() -> None:
    layer = uneven(Linear(64, 96))
    zeros = torch.zeros(1, 64)
    assert torch.equal(int8_result(layer, zeros), layer.bias.expand(1, 96))


@pytest.mark.usefixtures("level")
def test_a_dead_column_adds_nothing() -> None:
    layer = uneven(Linear(64, 96))
    layer.weight[:, 5] = 0
    x = rows(3, 64)
    y = int8_result(layer, x)
    x[:, 5] = 1e6
    assert torch.equal(int8_result(layer, x), y)


@pytest.mark.usefixtures("level")
def test_values_near_the_largest_are_not_taken_out() -> None:
    """Three lanes above seven tenths of the largest: the weights of all values count as rounded to int8."""
    layer = uneven(Linear(64, 96, bias=False))
    x = torch.zeros(2, 64)
    x[:, 5], x[:, 20], x[:, 40] = 1000.0, -900.0, 1.0
    spread = layer.weight.pow(2).mean(0).sqrt()
    x[0, 33], x[1, 33] = 500.0 * spread[5] / spread[33], 0.0
    x[:, 20] *= spread[5] / spread[20]
    x[0, 33] *= 1.8
    y = int8_result(layer, x)
    stored = (layer.weight / spread).to(torch.bfloat16).float() * spread
    taken = x @ stored.T
    assert (y[1] - taken[1]).norm() <= 1e-4 * taken[1].norm()
    assert (y[0] - taken[0]).norm() > 1e-3 * taken[0].norm()


@pytest.mark.usefixtures("level")
def test_large_values_leave_the_precision_of_the_others() -> None:
    layer = uneven(Linear(384, 96, bias=False))
    x = torch.randn(20, 384)
    quantized = PanelLinear(layer, "int8")
    error = (quantized(x) - x @ layer.weight.T).norm()
    large = x.clone()
    large[:, [5, 200]] = torch.tensor([-500.0, 900.0])
    # In their columns the weights count as rounded to bfloat16.
    taken = [5, 200]
    spread = layer.weight.pow(2).mean(0).sqrt()
    stored = (layer.weight / spread).to(torch.bfloat16).float() * spread
    rest = large.index_fill(1, torch.tensor(taken), 0)
    expected = rest @ layer.weight.T + large[:, taken] @ stored[:, taken].T
    assert (quantized(large) - expected).norm() <= 2 * error  # a hundred times, if they stretched the levels


KINDS = [
    *("float32-portable", "float32-avx2", "float32-avx512"),
    *("bfloat16-vnni_bf16", "bfloat16-amx", "int8-avx2_vnni", "int8-vnni", "int8-vnni_bf16", "int8-amx"),
]


@pytest.fixture(params=KINDS)
def numbers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> KernelDtype:
    """Each kind of product, with each set of instructions that this processor has."""
    kind, _, isa = request.param.partition("-")
    if kind == "float32":
        at_level(isa, monkeypatch)
        return "float32"
    chosen = 1 + ["avx2_vnni", "vnni", "vnni_bf16", "amx"].index(isa)
    if not has_level(chosen):
        pytest.skip("this processor has no such instructions, or there are no kernels")
    monkeypatch.setattr(panels_module, "linear_isa_level", lambda: chosen)
    return "int8" if kind == "int8" else "bfloat16"


def at_level(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Products in float32 use no more than these instructions."""
    level = ["portable", "avx2", "avx512"].index(isa)
    if installed_library() is None or vector_isa_level() < level:
        pytest.skip("this processor has no such instructions, or there are no kernels")
    monkeypatch.setattr(panels_module, "vector_isa_level", lambda: level)
    monkeypatch.setattr(product_module, "vector_isa_level", lambda: level)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(("inputs", "outputs"), [(384, 1536), (1536, 384), (75, 70), (1024, 4096), (4096, 1024)])
def test_bits_of_a_row_do_not_depend_on_other_rows(numbers: KernelDtype, inputs: int, outputs: int) -> None:
    layer = PanelLinear(uneven(Linear(inputs, outputs, activation="gelu")), numbers)
    x = rows(600, inputs)
    everything = layer(x)
    for start, count in [(0, 1), (1, 1), (3, 2), (5, 3), (2, 4), (7, 31), (64, 64), (1, 257), (0, 599)]:
        assert torch.equal(layer(x[start : start + count]), everything[start : start + count]), (start, count)


def test_a_row_of_infinities_ends(numbers: KernelDtype) -> None:
    x = torch.full((1, 384), float("inf"))
    assert not PanelLinear(uneven(Linear(384, 96)), numbers)(x).isfinite().any()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_nan_stays_in_its_row(numbers: KernelDtype, value: float) -> None:
    layer = PanelLinear(uneven(Linear(384, 96)), numbers)
    x = rows(5, 384)
    clean = layer(x)
    x[2, 100] = value
    y = layer(x)
    assert not y[2].isfinite().any()
    assert torch.equal(y[[0, 1, 3, 4]], clean[[0, 1, 3, 4]])


def test_no_rows(numbers: KernelDtype) -> None:
    assert PanelLinear(uneven(Linear(64, 96)), numbers)(torch.empty(0, 64)).shape == (0, 96)


@pytest.mark.parametrize("gated", [True, False])
def test_a_residual_is_added_in_float32(numbers: KernelDtype, gated: bool) -> None:
    layer = uneven(GatedLinear(64, 70, "gelu") if gated else Linear(64, 70))
    x, residual = rows(9, 64), torch.randn(9, 70) * 1e3
    y = PanelLinear(layer, numbers)
    alone = y(x, torch.zeros(9, 70))
    assert torch.equal(y(x, residual), alone + residual)
    # Also where it is part of a wider matrix, and where what is multiplied is half as wide.
    wide = torch.randn(9, 200)
    assert torch.equal(y(x, wide[:, 30:100]), alone + wide[:, 30:100])
    assert y(x.bfloat16(), residual).dtype == torch.float32


@pytest.mark.parametrize("isa", ["portable", "avx2", "avx512"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("count", "inputs", "outputs"), [(1, 64, 96), (5, 384, 1536), (57, 4096, 1024), (33, 75, 70)])
def test_float32_is_the_product_to_its_last_bits(
    isa: str, bias: bool, dtype: torch.dtype, count: int, inputs: int, outputs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_level(isa, monkeypatch)
    layer = uneven(Linear(inputs, outputs, bias=bias))
    x = rows(count, inputs).to(dtype)
    exact = torch.nn.functional.linear(
        x.double(), layer.weight.double(), None if layer.bias is None else layer.bias.double()
    )
    y = PanelLinear(layer, "float32")(x)
    assert y.dtype == torch.float32
    size = x.double().abs() @ layer.weight.double().abs().T + 1
    assert ((y - exact).abs() <= 2**-24 * inputs**0.5 * 2 * size).all()


@pytest.mark.parametrize("isa", ["portable", "avx2", "avx512"])
@pytest.mark.parametrize("activation", ["none", "gelu", "gelu_tanh", "silu"])
@pytest.mark.parametrize("gated", [True, False])
def test_activations_in_float32(isa: str, activation: Any, gated: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    at_level(isa, monkeypatch)
    layer = uneven(GatedLinear(64, 70, activation) if gated else Linear(64, 70, activation=activation))
    plain = uneven(Linear(64, 140 if gated else 70))
    x = rows(200, 64) / 10
    before = PanelLinear(plain, "float32")(x).double()
    assert before.min() < -20
    assert before.max() > 20
    expected = ACTIVATIONS[activation][0](before[:, :70]) * (before[:, 70:] if gated else 1)
    size = 1 + before[:, :70].abs() * (before[:, 70:].abs() if gated else 1)
    assert ((PanelLinear(layer, "float32")(x) - expected).abs() <= 5e-7 * size).all()


@pytest.mark.parametrize("isa", ["portable", "avx2", "avx512"])
def test_bits_of_a_row_do_not_depend_on_other_rows_of_any_product(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    at_level(isa, monkeypatch)
    for width, others in [(384, 7), (1, 1), (75, 40), (1000, 33)]:
        x, weight = torch.randn(100, width), torch.randn(others, width)
        everything = SimilarityProduct(weight)(x, [100])
        torch.testing.assert_close(everything, x @ weight.T, rtol=1e-5, atol=1e-4)
        for start, count in [(0, 1), (3, 2), (2, 5), (7, 31), (99, 1)]:
            assert torch.equal(
                SimilarityProduct(weight)(x[start : start + count], [count]), everything[start : start + count]
            )


@needs_bfloat16
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("count", "inputs", "outputs"), [(1, 64, 96), (5, 384, 1536), (57, 4096, 1024), (33, 75, 70)])
def test_bfloat16_is_the_product_of_the_rounded_values(
    bias: bool, dtype: torch.dtype, count: int, inputs: int, outputs: int
) -> None:
    layer = uneven(Linear(inputs, outputs, bias=bias))
    x = rows(count, inputs).to(dtype)
    rounded = layer.weight.bfloat16().double()
    exact = torch.nn.functional.linear(
        x.bfloat16().double(), rounded, None if layer.bias is None else layer.bias.double()
    )
    size = x.bfloat16().double().abs() @ rounded.abs().T + 1
    error = (PanelLinear(layer, "bfloat16")(x) - exact).abs()
    assert (error <= 2**-24 * inputs**0.5 * 4 * size).all()  # of sums in float32


@needs_bfloat16
@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "silu"])
def test_activations_in_bfloat16(activation: Any) -> None:
    layer, plain = uneven(Linear(64, 96, activation=activation)), uneven(Linear(64, 96))
    x = rows(200, 64) / 10
    before = PanelLinear(plain, "bfloat16")(x)
    assert before.min() < -20
    assert before.max() > 20
    expected = ACTIVATIONS[activation][0](before.double())
    torch.testing.assert_close(PanelLinear(layer, "bfloat16")(x).double(), expected, rtol=5e-4, atol=5e-5)


@needs_bfloat16
@pytest.mark.parametrize("name", [*ENCODERS, *DECODERS])
def test_the_kernel_is_as_near_to_float32_as_onednn(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path, name)
    exact, ours = (hidden(load(Entry("m", folder=tmp_path), CPU, precision)) for precision in ("float32", "bfloat16"))
    monkeypatch.setattr(pack_module, "bfloat16_panels", lambda: False)
    theirs = hidden(load(Entry("m", folder=tmp_path), CPU, "bfloat16"))
    assert not torch.equal(ours, theirs)
    assert (ours - exact).norm() <= 1.2 * (theirs - exact).norm()


@needs_int8
@pytest.mark.parametrize("name", [*ENCODERS, *DECODERS, "bert-sparse-encoder"])
def test_int8_stays_near_float32(name: str, tmp_path: Path) -> None:
    """Hidden states of random weights, which are harder than trained ones: within a twentieth of their size."""
    build(tmp_path, name)
    exact, rounded = (load(Entry("m", folder=tmp_path), CPU, precision) for precision in ("float32", "int8"))
    states, expected = hidden(rounded), hidden(exact)
    assert not torch.equal(states, expected)
    assert (states - expected).norm() <= 0.05 * expected.norm()
    assert rounded.parameters == exact.parameters


def hidden(model: LoadedModel) -> Tensor:
    texts = [text(length, seed=length) for length in (1, 3, 17, 60, 200)]
    with torch.inference_mode():
        states, _ = model.encoder(Packed.of(model.tokenizer.encode_documents(texts), CPU))
    return states


@needs_int8
def test_auto_never_is_int8() -> None:
    assert resolve_precision("auto", CPU) != torch.int8
    assert resolve_precision("int8", CPU) == torch.int8


def test_int8_is_refused_where_it_can_not_be_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="'int8' is not supported on cuda, only on CPU"):
        resolve_precision("int8", torch.device("cuda"))
    monkeypatch.setattr(precision_module, "linear_isa_level", lambda: 0)
    with pytest.raises(ValueError, match="AVX512-VNNI"):
        resolve_precision("int8", CPU)
    monkeypatch.setattr(precision_module, "installed_library", lambda: None)
    with pytest.raises(ValueError, match="were not built"):
        resolve_precision("int8", CPU)
    monkeypatch.setenv("SIE_MAX_CPU_ISA", "none")
    with pytest.raises(ValueError, match="SIE_MAX_CPU_ISA is none"):
        resolve_precision("int8", CPU)
