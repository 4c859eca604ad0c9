"""Norms and rotary positions by the kernel: equal to PyTorch's at every level, the same in any company."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sie_server.nn import norm as norm_module
from sie_server.nn import rotary as rotary_module
from sie_server.nn.kernels.library import installed_library
from sie_server.nn.kernels.norm_rotary import NormRotaryKernels
from sie_server.nn.norm import LayerNorm, RMSNorm
from sie_server.nn.rotary import rotate

WIDTHS = [1, 2, 7, 16, 64, 75, 384, 1024]


@pytest.fixture(params=[0, 1, 2, 4], ids=["portable", "avx2", "avx512", "avx512_bf16"])
def kernel(request: pytest.FixtureRequest) -> NormRotaryKernels:
    """Each set of instructions that this processor has."""
    library = installed_library()
    if library is None or library.sie_attention_level() < request.param:
        pytest.skip("this processor has no such instructions, or there are no kernels")
    return NormRotaryKernels(library, request.param)


def strided(heads: int, width: int, dtype: torch.dtype) -> Tensor:
    """`[37, heads, width]` within wider rows, far from zero."""
    torch.manual_seed(0)
    return (torch.randn(37, heads + 2, width) * 3 + 5).to(dtype)[:, 1 : heads + 1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", WIDTHS)
def test_norms(kernel: NormRotaryKernels, width: int, dtype: torch.dtype) -> None:
    x, weight, bias = strided(3, width, dtype), torch.randn(width), torch.randn(width)
    exact = F.layer_norm(x.double(), (width,), weight.double(), bias.double(), 1e-5)
    torch.testing.assert_close(kernel.norm(x, weight, bias, 1e-5, rms=False).double(), exact, rtol=1e-5, atol=2e-5)
    exact = F.rms_norm(x.double(), (width,), weight.double(), 1e-5)
    torch.testing.assert_close(kernel.norm(x, weight, None, 1e-5, rms=True).double(), exact, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", [2, 6, 32, 64, 128])
def test_rotation(kernel: NormRotaryKernels, width: int, dtype: torch.dtype) -> None:
    x, angles = strided(4, width, dtype), torch.rand(37, 1, width // 2).repeat(1, 1, 2) * 7
    turned = (
        torch.view_as_complex(torch.stack(x.double().chunk(2, dim=-1), -1))
        * torch.exp(1j * angles.double())[..., : width // 2]
    )
    y = kernel.rotate(x, angles.cos(), angles.sin())
    assert y.dtype == (dtype if kernel.level == 4 else torch.float32)
    expected = torch.cat((turned.real, turned.imag), -1)
    close = {"rtol": 2**-8, "atol": 1e-3} if y.dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(y.double(), expected, **close)


def test_bits_of_a_row_do_not_depend_on_other_rows(kernel: NormRotaryKernels) -> None:
    x, weight, bias = torch.randn(50, 77), torch.randn(77), torch.randn(77)
    everything = kernel.norm(x, weight, bias, 1e-5, rms=False)
    for start, count in [(0, 1), (3, 2), (49, 1), (10, 30)]:
        part = kernel.norm(x[start : start + count], weight, bias, 1e-5, rms=False)
        assert torch.equal(part, everything[start : start + count])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_stays_in_its_row(kernel: NormRotaryKernels, value: float) -> None:
    x, weight = torch.randn(5, 40), torch.ones(40)
    clean = kernel.norm(x, weight, None, 1e-5, rms=True)
    x[2, 30] = value
    y = kernel.norm(x, weight, None, 1e-5, rms=True)
    assert y[2, 30].isnan()
    assert torch.equal(y[[0, 1, 3, 4]], clean[[0, 1, 3, 4]])


@pytest.mark.parametrize(
    "make", [lambda: LayerNorm(48, 1e-5), lambda: LayerNorm(48, 1e-5, bias=False), lambda: RMSNorm(48, 1e-6, 1)]
)
def test_without_the_kernel_a_norm_is_the_same(
    make: Callable[[], LayerNorm | RMSNorm], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    layer = make().requires_grad_(False)
    for parameter in layer.parameters():
        parameter.normal_()
    x = torch.randn(9, 48)
    with_kernel = layer(x)
    monkeypatch.setattr(norm_module, "norm_rotary_kernels", lambda _: None)
    torch.testing.assert_close(with_kernel, layer(x), rtol=1e-5, atol=1e-5)


def test_without_the_kernel_a_rotation_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x, angles = torch.randn(9, 4, 16), torch.rand(9, 1, 8).repeat(1, 1, 2)
    with_kernel = rotate(x, angles.cos(), angles.sin())
    monkeypatch.setattr(rotary_module, "norm_rotary_kernels", lambda _: None)
    torch.testing.assert_close(with_kernel, rotate(x, angles.cos(), angles.sin()), rtol=1e-5, atol=1e-6)
