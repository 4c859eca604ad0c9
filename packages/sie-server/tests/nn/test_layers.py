"""Layers: two implementations of one thing are equal, and no result depends on its neighbours."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position
from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

from sie_server.nn.attention import attention
from sie_server.nn.attention_bias import AttentionBias, BucketedBias, biased_attention, t5_buckets
from sie_server.nn.config import Disentangled, HeadConfig, Projection
from sie_server.nn.disentangled import DisentangledBias, PositionTables, cached_columns, log_buckets
from sie_server.nn.embedding import sum_of_embeddings
from sie_server.nn.heads import ClassificationHead, Dense, HeadGroup, Multivector
from sie_server.nn.kernels.attention import installed_attention_kernel
from sie_server.nn.kernels.library import installed_library
from sie_server.nn.linear import GatedLinear, Linear
from sie_server.nn.linear_backends import use_linear_backends
from sie_server.nn.packed import Packed
from sie_server.nn.similarity import MaxSim
from sie_server.options import Activation
from sie_server.tokenization.sequence import Sequence

CPU = torch.device("cpu")


def packed(lengths: list[int], device: torch.device = CPU) -> Packed:
    ids = [torch.zeros(length, dtype=torch.int32).numpy() for length in lengths]
    return Packed.of([Sequence(one, one) for one in ids], device)


def linear(inputs: int, outputs: int, activation: Activation, dtype: torch.dtype) -> Linear:
    layer = Linear(inputs, outputs, activation=activation).requires_grad_(False)
    torch.manual_seed(0)
    for parameter in layer.parameters():
        parameter.normal_(std=0.05)
    return layer.to(dtype)


@pytest.mark.parametrize("activation", ["none", "gelu", "gelu_tanh", "silu"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("rows", [1, 3, 4, 57])
def test_prepacked_linear_equals_the_plain_one(
    activation: Activation, dtype: torch.dtype, tolerance: float, rows: int
) -> None:
    layer = linear(384, 1536, activation, dtype)
    x = torch.randn(rows, 384)
    plain = layer(x)
    use_linear_backends(layer)
    assert torch.allclose(layer(x).float(), plain.float(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("gate_first", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 57])
def test_prepacked_gated_linear_equals_the_formula(gate_first: bool, bias: bool, rows: int) -> None:
    layer = GatedLinear(64, 96, "gelu", gate_first, bias).requires_grad_(False)
    torch.manual_seed(0)
    for parameter in layer.parameters():
        parameter.normal_(std=0.2)
    x = torch.randn(rows, 64)
    one, two = torch.nn.functional.linear(x, layer.weight, layer.bias).chunk(2, dim=-1)
    gate, value = (one, two) if gate_first else (two, one)
    expected = torch.nn.functional.gelu(gate) * value
    assert torch.allclose(layer(x), expected, rtol=1e-5, atol=1e-5)
    use_linear_backends(layer)
    assert torch.allclose(layer(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("inputs", "outputs"), [(384, 1152), (1536, 384), (384, 1), (1024, 4096), (4096, 1024)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bits_of_a_row_of_a_prepacked_linear_do_not_depend_on_other_rows(
    inputs: int, outputs: int, dtype: torch.dtype
) -> None:
    layer = linear(inputs, outputs, "none", dtype)
    use_linear_backends(layer)
    x = torch.randn(600, inputs)
    everything = layer(x)
    for start, count in [(0, 1), (1, 1), (3, 2), (5, 3), (2, 4), (7, 31), (64, 64), (1, 257), (0, 599)]:
        assert torch.equal(layer(x[start : start + count]), everything[start : start + count]), (start, count)


@pytest.fixture(params=["kernel", "sdpa"])
def _path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "sdpa":
        monkeypatch.setattr("sie_server.nn.attention.installed_attention_kernel", lambda: None)
    elif installed_attention_kernel() is None:
        pytest.skip("the attention kernel was not built: there was no C++ compiler at installation")


@pytest.mark.usefixtures("_path")
@pytest.mark.parametrize("head_dim", [16, 32, 64, 128])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_attention_equals_the_formula_and_each_sequence_alone(head_dim: int, dtype: torch.dtype) -> None:
    lengths = [1, 1, 2, 7, 7, 7, 33, 64, 200, 513]
    torch.manual_seed(0)
    qkv = torch.randn(sum(lengths), 3, 4, head_dim, dtype=dtype)
    q, k, v = qkv.unbind(1)
    out = attention(q, k, v, packed(lengths))
    row = 0
    for length in lengths:
        one = [x[row : row + length] for x in (q, k, v)]
        assert torch.equal(attention(*one, packed([length])), out[row : row + length])
        a, b, c = (x.float().transpose(0, 1) for x in one)  # [heads, length, head_dim]
        exact = torch.softmax(a @ b.transpose(1, 2) / math.sqrt(head_dim), dim=-1) @ c
        tolerance = 1e-5 if dtype == torch.float32 else 2e-2
        assert torch.allclose(out[row : row + length].float(), exact.transpose(0, 1), rtol=0, atol=tolerance)
        row += length


@pytest.mark.usefixtures("_path")
@pytest.mark.parametrize("window", [1, 8, 64])
def test_windowed_attention_equals_the_masked_formula_and_each_sequence_alone(window: int) -> None:
    lengths = [1, 2, 9, 9, 10, 17, 65, 66, 130, 257]
    torch.manual_seed(0)
    q, k, v = torch.randn(sum(lengths), 3, 4, 32).unbind(1)
    out = attention(q, k, v, packed(lengths), window)
    row = 0
    for length in lengths:
        one = [x[row : row + length] for x in (q, k, v)]
        assert torch.equal(attention(*one, packed([length]), window), out[row : row + length])
        a, b, c = (x.transpose(0, 1) for x in one)  # [heads, length, head_dim]
        positions = torch.arange(length)
        far = (positions[:, None] - positions).abs() > window
        weights = torch.softmax((a @ b.transpose(1, 2) / math.sqrt(32)).masked_fill(far, -torch.inf), dim=-1)
        assert torch.allclose(out[row : row + length], (weights @ c).transpose(0, 1), rtol=0, atol=1e-5)
        row += length


@pytest.mark.usefixtures("_path")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_of_first_tokens_only_equals_theirs_in_full(dtype: torch.dtype) -> None:
    lengths = [1, 5, 5, 40, 200]
    torch.manual_seed(0)
    q, k, v = torch.randn(sum(lengths), 3, 4, 32, dtype=dtype).unbind(1)
    batch = packed(lengths)
    first = attention(q[batch.starts], k, v, batch)
    tolerance = 1e-6 if dtype == torch.float32 else 1e-2
    assert torch.allclose(first, attention(q, k, v, batch)[batch.starts], rtol=0, atol=tolerance)


@pytest.mark.parametrize(("buckets", "max_distance"), [(256, 512), (16, 512), (32, 128), (64, 4096)])
def test_buckets_of_distances_equal_transformers(buckets: int, max_distance: int) -> None:
    distance = torch.arange(-max_distance + 1, max_distance)
    expected = make_log_bucket_position(distance, buckets, max_distance).long()
    assert torch.equal(log_buckets(distance, buckets, max_distance), expected)
    expected = MPNetEncoder.relative_position_bucket(-distance, buckets, max_distance // 2)
    assert torch.equal(t5_buckets(distance, buckets, max_distance // 2), expected)


@pytest.mark.parametrize("terms", [("c2p",), ("p2c",), ("c2p", "p2c"), ("shared",)])
def test_biased_attention_equals_the_formula_and_each_sequence_alone(terms: tuple[str, ...]) -> None:
    lengths = [1, 2, 9, 9, 33, 300, 1030]  # the last in several blocks of queries
    heads, head_dim, span = 2, 8, 20
    torch.manual_seed(0)
    q, k, v = torch.randn(sum(lengths), 3, heads, head_dim).unbind(1)
    key, query = torch.randn(2, heads, 2 * span, head_dim)
    table = torch.randn(32, heads)
    scale = 0.2 if "shared" not in terms else head_dim**-0.5

    def bias() -> AttentionBias:
        if "shared" in terms:
            return BucketedBias(table)
        tables = PositionTables(key if "c2p" in terms else None, query if "p2c" in terms else None)
        config = Disentangled(span, 1030, frozenset(terms), separate_projections=True, norm=False)
        return DisentangledBias(tables, cached_columns(config, CPU), scale)

    batch = packed(lengths)
    out, first = biased_attention(q, k, v, batch, bias()), biased_attention(q[batch.starts], k, v, batch, bias())
    row = 0
    for i, length in enumerate(lengths):
        one = [x[row : row + length] for x in (q, k, v)]
        assert torch.equal(biased_attention(*one, packed([length]), bias()), out[row : row + length])
        a, b, c = (x.transpose(0, 1) for x in one)  # [heads, length, head_dim]
        distance = torch.arange(length)[:, None] - torch.arange(length)
        at = (log_buckets(distance, span, 1030) + span).clamp(0, 2 * span - 1)
        logits = scale * a @ b.transpose(1, 2)
        if "c2p" in terms:
            logits += scale * (a @ key.transpose(1, 2)).gather(2, at.expand(heads, -1, -1))
        if "p2c" in terms:
            logits += scale * (b @ query.transpose(1, 2)).gather(2, at.T.expand(heads, -1, -1)).transpose(1, 2)
        if "shared" in terms:
            logits += table[t5_buckets(distance, 32)].permute(2, 0, 1)
        exact = (torch.softmax(logits, dim=-1) @ c).transpose(0, 1)
        assert torch.allclose(out[row : row + length], exact, rtol=0, atol=1e-5)
        assert torch.allclose(first[i], exact[0], rtol=0, atol=1e-5)
        row += length


@pytest.mark.gpu
@pytest.mark.parametrize("head_dim", [32, 64, 128])
def test_flash_attention_on_a_gpu_equals_sdpa_on_the_cpu(head_dim: int) -> None:
    lengths = [1, 2, 7, 7, 33, 200, 513]
    q, k, v = torch.randn(sum(lengths), 3, 4, head_dim).unbind(1)
    exact = attention(q, k, v, packed(lengths))
    device = torch.device("cuda")
    half = [x.to(device, torch.bfloat16) for x in (q, k, v)]
    out = attention(half[0], half[1], half[2], packed(lengths, device))
    assert torch.allclose(out.float().cpu(), exact, rtol=0, atol=3e-2)


def blanks(*lengths: int) -> list[Sequence]:
    return [Sequence(ids, ids) for ids in (np.zeros(length, np.int32) for length in lengths)]


def test_dense_is_the_mean_or_the_first_token() -> None:
    hidden, texts = torch.randn(7, 16), blanks(3, 4)
    mean = Dense("mean", normalize=False)(hidden, [3, 4], texts)
    assert torch.allclose(torch.from_numpy(mean[1]), hidden[3:].mean(0), atol=1e-6)
    first = Dense("cls")(hidden, [3, 4], texts)
    assert torch.allclose(torch.from_numpy(first[1]), F.normalize(hidden[3], dim=-1), atol=1e-6)


def test_maxsim_is_the_sum_of_maxima() -> None:
    query, hidden = torch.randn(5, 16), torch.randn(9, 16)
    head = MaxSim(*blanks(5), nn.Identity())
    head.observe_lead(query)
    scores = head(hidden, [1, 8], blanks(1, 8))
    expected = (F.normalize(query, dim=-1) @ F.normalize(hidden[1:], dim=-1).T).max(dim=1).values.sum()
    assert scores[1] == pytest.approx(float(expected), abs=1e-5)


def test_together_gives_every_head_per_sequence() -> None:
    hidden = torch.randn(6, 16)
    [first, second] = HeadGroup({"dense": Dense(), "multivector": Multivector(nn.Identity())})(
        hidden, [2, 4], blanks(2, 4)
    )
    assert first["dense"].shape == second["dense"].shape == (16,)
    assert first["multivector"].shape == (2, 16)
    assert second["multivector"].shape == (4, 16)


def test_classification_head_reads_first_tokens_only() -> None:
    config = HeadConfig({"dense": Projection(16, "tanh"), "out": Projection(1)})
    head = ClassificationHead(16, config).requires_grad_(False)
    for parameter in head.parameters():
        parameter.normal_()
    hidden = torch.randn(7, 16)
    other = hidden.clone()
    other[[1, 2, 4, 5, 6]] += 1
    texts = blanks(3, 4)
    with torch.inference_mode():
        assert head(hidden, [3, 4], texts) == head(other, [3, 4], texts)
        assert head(hidden, [3, 4], texts)[1] != head(hidden, [2, 5], texts)[1]


@pytest.mark.skipif(installed_library() is None, reason="the kernels are not installed")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_embeddings_are_summed_with_the_bits_of_pytorch(dtype: torch.dtype) -> None:
    tables = [(torch.randn(rows, 50).to(dtype), torch.randint(rows, (70,), dtype=torch.int32)) for rows in (300, 2, 90)]
    expected = sum(F.embedding(rows, weights).float() for weights, rows in tables)
    assert torch.equal(sum_of_embeddings(tables), torch.as_tensor(expected))
    for beyond in (2, -1):
        rows = tables[1][1].clone()
        rows[69] = beyond
        with pytest.raises(IndexError):
            sum_of_embeddings([tables[0], (tables[1][0], rows)])
