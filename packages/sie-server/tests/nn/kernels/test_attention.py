"""The CPU's attention kernel: on every level of instructions, the formula in float64, and each sequence as alone."""

import logging
import math
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sie_server.nn.kernels import library as library_module
from sie_server.nn.kernels.attention import AttentionKernel, installed_attention_kernel
from sie_server.nn.kernels.library import installed_library

LEVELS = {"portable": 0, "avx2": 1, "avx512": 2, "avx512_vnni": 3, "avx512_bf16": 4, "amx": 5}
# Rounding of the output to bfloat16, and where the products are bfloat16 of the weights, for values up to four.
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 2e-2}


@pytest.fixture(params=LEVELS)
def kernel(request: pytest.FixtureRequest) -> AttentionKernel:
    installed = installed_attention_kernel()
    if installed is None:
        pytest.skip("the attention kernel was not built: there was no C++ compiler at installation")
    if LEVELS[request.param] > installed.level:
        pytest.skip(f"this processor has no {request.param}")
    return replace(installed, level=LEVELS[request.param])


def starts(lengths: list[int]) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).int()


def inputs(
    queries: int, keys: int, heads: int, kv_heads: int, head_dim: int, qk: torch.dtype, value: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    q, k, v = (torch.randn(n, h, head_dim) for n, h in ((queries, heads), (keys, kv_heads), (keys, kv_heads)))
    return q.to(qk), k.to(qk), v.to(value)


def formula(
    q: Tensor, k: Tensor, v: Tensor, window: int | None = None, causal: bool = False
) -> Tensor:  # [queries, heads, head_dim], of one sequence
    group = q.shape[1] // k.shape[1]
    a, b, c = (x.double().transpose(0, 1) for x in (q, k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)))
    logits = a @ b.transpose(1, 2) / math.sqrt(q.shape[2])
    behind = torch.arange(len(q))[:, None] - torch.arange(len(k)) + (len(k) - len(q) if causal else 0)
    if window is not None:
        logits.masked_fill_(behind.abs() > window, -torch.inf)
    if causal:
        logits.masked_fill_(behind < 0, -torch.inf)
    return (torch.softmax(logits, dim=-1) @ c).transpose(0, 1)


def check(
    kernel: AttentionKernel,
    queries: list[int],
    keys: list[int],
    qkv: tuple[Tensor, Tensor, Tensor],
    window: int | None = None,
    causal: bool = False,
) -> None:
    """Against the formula, and bit for bit against each sequence alone."""
    q, k, v = qkv
    out = kernel(q, k, v, starts(queries), starts(keys), window, causal)
    assert out.dtype == v.dtype
    spans = zip(pairwise(starts(queries).tolist()), pairwise(starts(keys).tolist()), strict=True)
    for (first, last), (first_key, last_key) in spans:
        one = q[first:last], k[first_key:last_key], v[first_key:last_key]
        ends = starts([last - first]), starts([last_key - first_key])
        assert torch.equal(kernel(*one, *ends, window, causal), out[first:last])
        exact = formula(*one, window, causal)
        error = (out[first:last] - exact).abs().max().item()
        assert error <= TOLERANCE[v.dtype], (last - first, last_key - first_key)


@cache
def many_lengths(head_dim: int, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    ends = starts([*range(1, 320, step), *range(320, 601, 7)])
    tokens = int(ends[-1])
    q, k, v = inputs(tokens, tokens, 1, 1, head_dim, torch.float32, torch.float32)
    return q, k, v, ends, torch.cat([formula(q[a:b], k[a:b], v[a:b]) for a, b in pairwise(ends.tolist())])


@pytest.mark.parametrize(("head_dim", "step"), [(32, 1), (64, 7), (96, 7), (128, 7)])
def test_every_length_equals_the_formula(kernel: AttentionKernel, head_dim: int, step: int) -> None:
    q, k, v, ends, exact = many_lengths(head_dim, step)
    assert (kernel(q, k, v, ends, ends, None, False) - exact).abs().max() <= TOLERANCE[torch.float32]


@pytest.mark.parametrize("head_dim", [5, 8, 32, 80, 256])
@pytest.mark.parametrize(
    ("qk", "value"),
    [(torch.float32, torch.float32), (torch.bfloat16, torch.bfloat16), (torch.float32, torch.bfloat16)],
)
def test_equals_the_formula_and_each_sequence_alone(
    kernel: AttentionKernel, head_dim: int, qk: torch.dtype, value: torch.dtype
) -> None:
    lengths = [1, 2, 2, 7, 12, 13, 33, 64, 255, 256, 257, 300]
    check(kernel, lengths, lengths, inputs(sum(lengths), sum(lengths), 3, 3, head_dim, qk, value))


@pytest.mark.parametrize("value", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("window", [0, 1, 8, 64, 400, 2**31 - 1])
def test_windows(kernel: AttentionKernel, window: int, value: torch.dtype) -> None:
    lengths = [1, 2, 9, 10, 17, 65, 130, 257, 700]
    check(kernel, lengths, lengths, inputs(sum(lengths), sum(lengths), 2, 2, 32, value, value), window)


def test_windows_where_the_last_keys_are_hidden(kernel: AttentionKernel) -> None:
    lengths, hidden = [3, 20, 150, 400], [1, 8, 8, 5]
    keys = [length - count for length, count in zip(lengths, hidden, strict=True)]
    qkv = inputs(sum(lengths), sum(keys), 2, 2, 32, torch.float32, torch.float32)
    check(kernel, lengths, keys, qkv, window=8)
    check(kernel, lengths, keys, qkv)


@pytest.mark.parametrize("value", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("window", [None, 40])
def test_causal_behind_a_prefix_with_grouped_keys(
    kernel: AttentionKernel, value: torch.dtype, window: int | None
) -> None:
    lengths, prefixes = [1, 1, 5, 40, 40, 300, 513], [0, 70, 3, 70, 0, 500, 70]
    keys = [length + prefix for length, prefix in zip(lengths, prefixes, strict=True)]
    qkv = inputs(sum(lengths), sum(keys), 6, 2, 64, torch.float32, value)
    check(kernel, lengths, keys, qkv, window, causal=True)


@pytest.mark.parametrize("causal", [False, True])
def test_one_query_per_sequence(kernel: AttentionKernel, causal: bool) -> None:
    keys = [1, 5, 5, 40, 700]
    qkv = inputs(len(keys), sum(keys), 4, 2, 32, torch.float32, torch.float32)
    check(kernel, [1] * len(keys), keys, qkv, causal=causal)


def test_views_of_one_product_need_no_copy(kernel: AttentionKernel) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(100, 3, 4, 32).unbind(1)
    ends = starts([30, 70])
    dense = kernel(q.contiguous(), k.contiguous(), v.contiguous(), ends, ends, None, False)
    assert torch.equal(kernel(q, k, v, ends, ends, None, False), dense)
    columns = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k, v)]  # dense in the heads instead
    assert torch.equal(kernel(columns[0], columns[1], columns[2], ends, ends, None, False), dense)


@pytest.mark.parametrize("value", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [1e2, 1e15])
@pytest.mark.parametrize("causal", [False, True])
def test_large_logits_leave_the_largest_value(
    kernel: AttentionKernel, size: float, causal: bool, value: torch.dtype
) -> None:
    q = k = size * torch.eye(32).repeat(10, 1)[:, None]  # each query has its ten keys, of logits up to 1e30
    v = torch.randn(320, 1, 32).to(value)
    ends = starts([320])
    exact = formula(q, k, v, causal=causal)
    out = kernel(q, k, v, ends, ends, None, causal)
    assert torch.allclose(out.double(), exact, rtol=0, atol=TOLERANCE[value])


@pytest.mark.parametrize("value", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("head_dim", [1, 2, 32, 64, 256])
def test_the_largest_sums(kernel: AttentionKernel, head_dim: int, value: torch.dtype) -> None:
    """All values of a head as large as its largest, with equal weights for all keys."""
    q, k = (sign * torch.full((600, 1, head_dim), 2.0) for sign in (1, -1))
    v = torch.full((600, 1, head_dim), 3.0, dtype=value)
    check(kernel, [300, 300], [300, 300], (q, k, v))


@pytest.mark.parametrize("size", [1e-3, 1e3])
def test_the_size_of_queries_and_keys_does_not_matter(kernel: AttentionKernel, size: float) -> None:
    q, k, v = inputs(100, 100, 2, 2, 32, torch.float32, torch.bfloat16)
    check(kernel, [40, 60], [40, 60], (q * size, k / size, v))


@pytest.mark.parametrize("size", [0, 1e-30, 1e30])
def test_the_size_of_values_scales_the_result(kernel: AttentionKernel, size: float) -> None:
    q, k, v = inputs(100, 100, 2, 2, 32, torch.float32, torch.bfloat16)
    ends = starts([40, 60])
    out, scaled = (kernel(q, k, x, ends, ends, None, False).double() for x in (v, v * size))
    assert (scaled - out * size).abs().max() <= size * TOLERANCE[torch.bfloat16]


@pytest.mark.parametrize("value", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("part", ["q", "k", "v"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_and_infinity_stay_in_their_sequence(
    kernel: AttentionKernel, part: str, bad: float, value: torch.dtype
) -> None:
    lengths = [40, 40, 40]
    q, k, v = inputs(120, 120, 1, 1, 32, torch.float32, value)
    {"q": q, "k": k, "v": v}[part][60] = bad
    out = kernel(q, k, v, starts(lengths), starts(lengths), None, False)
    assert not out[60].isfinite().any()
    if math.isnan(bad) and part != "q":
        assert out[40:80].isnan().all()
    assert out[:40].isfinite().all()
    assert out[80:].isfinite().all()


@pytest.mark.parametrize("library", ["missing", "broken", "of other sources"])
def test_without_a_library_that_fits_the_log_says_why(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    reason = {"missing": "no working C++ compiler", "broken": "too short", "of other sources": "other sources"}[library]
    if library == "of other sources":
        if installed_attention_kernel() is None:
            pytest.skip("the attention kernel was not built: there was no C++ compiler at installation")
        monkeypatch.setattr(library_module, "_ABI", 0)
    else:
        monkeypatch.setattr(library_module, "_LIBRARY", tmp_path / "libkernels.so")
    if library == "broken":
        (tmp_path / "libkernels.so").touch()
    assert installed_library.__wrapped__() is None
    [record] = caplog.records
    assert record.levelno == logging.INFO
    assert reason in record.getMessage()
