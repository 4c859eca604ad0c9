"""Calls of the kernels that several threads share: the same bits as on one."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import torch
from torch import Tensor

from sie_server.nn.kernels.attention import installed_attention_kernel
from sie_server.nn.kernels.library import computing, linear_isa_level, use_cores
from sie_server.nn.kernels.linear import KernelDtype, PanelLinear
from sie_server.nn.kernels.norm_rotary import norm_rotary_kernels
from sie_server.nn.linear import GatedLinear, Linear
from sie_testing.layers import filled

pytestmark = pytest.mark.skipif(installed_attention_kernel() is None, reason="the kernels are not installed")
LEAST: dict[KernelDtype, int] = {"float32": 0, "bfloat16": 3, "int8": 1}  # of `linear_isa_level`


@pytest.fixture(autouse=True)
def one_core_again() -> Iterator[None]:
    torch.manual_seed(0)
    yield
    use_cores(1)


def same_on_any_number(call: Callable[[], Tensor]) -> None:
    expected = call()
    for threads in (2, 3, 5, 8):
        use_cores(threads)
        with computing():
            assert torch.equal(call(), expected), threads


@pytest.mark.parametrize("numbers", LEAST)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 25, 97, 400])
@torch.inference_mode()
def test_linear_layers(rows: int, dtype: torch.dtype, numbers: KernelDtype) -> None:
    if linear_isa_level() < LEAST[numbers]:
        pytest.skip("this processor has no such instructions")
    plain, gated = filled(Linear(384, 700, activation="gelu")), filled(GatedLinear(384, 600, "silu"))
    x = torch.randn(rows, 400).to(dtype)[:, 8:392]  # rows that do not lie end to end
    residual = torch.randn(rows, 600)
    for layer, added in ((PanelLinear(plain, numbers), None), (PanelLinear(gated, numbers), residual)):
        same_on_any_number(lambda layer=layer, added=added: layer(x, added))  # type: ignore[misc]


@pytest.mark.parametrize("kv_heads", [1, 3, 12])
@pytest.mark.parametrize(("window", "causal"), [(None, False), (16, False), (None, True)])
@pytest.mark.parametrize("value", [torch.float32, torch.bfloat16])
def test_attention(kv_heads: int, window: int | None, causal: bool, value: torch.dtype) -> None:
    kernel = installed_attention_kernel()
    assert kernel is not None
    starts = torch.tensor([0, 300, 310, 700], dtype=torch.int32)
    q, k, v = (torch.randn(700, heads, 64) for heads in (12, kv_heads, kv_heads))
    same_on_any_number(lambda: kernel(q, k, v.to(value), starts, starts, window, causal))


def test_norms_and_rotation() -> None:
    kernel = norm_rotary_kernels(torch.empty(1))
    assert kernel is not None
    x, weight = torch.randn(500, 768), torch.rand(768)
    same_on_any_number(lambda: kernel.norm(x, weight, weight, 1e-6, rms=False))
    heads, angles = torch.randn(500, 36, 64).bfloat16()[:, :24], torch.randn(500, 64)
    same_on_any_number(lambda: kernel.rotate(heads, angles.cos(), angles.sin()))


@torch.inference_mode()
def test_many_callers_at_once_get_their_own_results() -> None:
    layer = PanelLinear(filled(Linear(512, 512)), "float32")
    inputs = [torch.randn(100 + 40 * n, 512) for n in range(6)]
    expected = [layer(x) for x in inputs]

    def call(n: int) -> bool:
        equal = True
        for _ in range(300):
            with computing():
                equal &= torch.equal(layer(inputs[n]), expected[n])
        return equal

    use_cores(13)
    with ThreadPoolExecutor(len(inputs)) as pool:
        assert all(pool.map(call, range(len(inputs))))


@torch.inference_mode()
def test_helpers_do_take_part() -> None:
    layer, x = PanelLinear(filled(Linear(1024, 1024)), "float32"), torch.zeros(2000, 1024)
    use_cores(4)
    threads = {thread.id: thread.user_time for thread in psutil.Process().threads()}
    until = time.monotonic() + 20
    while time.monotonic() < until:
        with computing():
            layer(x)
        worked = [t for t in psutil.Process().threads() if t.user_time - threads.get(t.id, 0.0) > 0.05]
        if len(worked) > 1:
            return
    raise AssertionError("one thread did it all")
