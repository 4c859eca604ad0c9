"""The self-test of products: whether a row's bits depend on the rows beside it, and what is done where they do."""

import logging

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sie_server.nn import linear_backends as pack
from sie_server.nn import similarity_product as product
from sie_server.nn.activations import pad_to_vectors
from sie_server.nn.kernels.library import installed_library
from sie_server.nn.kernels.linear import PanelLinear
from sie_server.nn.linear import GatedLinear, LibraryLinear, Linear
from sie_server.nn.linear_backends import RowCountTrials, use_linear_backends
from sie_server.nn.row_invariance import ROW_COUNTS, in_row_counts, is_row_invariant, row_invariant_counts
from sie_server.nn.similarity_product import SimilarityProduct
from sie_testing.layers import filled

WIDTH = 24


class Suspicious(nn.Module):
    """A product whose bits are others for fewer rows than `below`; it counts its calls."""

    def __init__(self, below: int) -> None:
        super().__init__()
        self.below = below
        self.calls: list[int] = []

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        self.calls.append(len(x))
        y = x * (1 + 1e-6) if len(x) < self.below else x * 1
        return y if residual is None else y + residual


@pytest.mark.parametrize(
    ("below", "sizes"),
    [(0, ROW_COUNTS), (4, ROW_COUNTS), (12, ROW_COUNTS[1:]), (400, ROW_COUNTS[:14]), (100, ROW_COUNTS[5:])],
)
def test_the_largest_set_of_row_invariant_counts_is_found(below: int, sizes: tuple[int, ...]) -> None:
    assert row_invariant_counts(Suspicious(below), WIDTH) == sizes


def test_a_product_that_looks_at_the_place_of_a_row_is_computed_row_by_row() -> None:
    def by_place(x: Tensor, _: Tensor | None) -> Tensor:
        return x * (1 + torch.arange(len(x))[:, None] % 7 * 1e-6)

    assert row_invariant_counts(by_place, WIDTH) == ()


def test_of_a_product_that_looks_at_every_number_of_rows_one_is_left() -> None:
    def by_number(x: Tensor, _: Tensor | None) -> Tensor:
        return x * (1 + len(x) * 1e-6)

    assert len(row_invariant_counts(by_number, WIDTH)) == 1


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("sizes", [(), (8,), (16, 64), ROW_COUNTS])
@pytest.mark.parametrize("rows", [0, 1, 3, 8, 40, 63, 64, 100, 513, 1200])
def test_rows_are_computed_in_those_sizes_alone(rows: int, sizes: tuple[int, ...], residual: bool) -> None:
    suspicious, x = Suspicious(0), torch.randn(rows, WIDTH)
    added = torch.randn(rows, WIDTH) if residual else None
    y = in_row_counts(suspicious, sizes, x, added)
    assert torch.equal(y, x if added is None else x + added)
    assert set(suspicious.calls) <= set(sizes or [1])
    assert sum(suspicious.calls) <= 2 * rows + max(sizes[:1], default=1)


@pytest.mark.parametrize(("below", "said"), [(16, "in calls of (16, 32,"), (10**6, "row by row")])
def test_a_library_that_differs_is_never_asked_for_so_few_rows(
    below: int, said: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Injected where oneDNN or MKL would multiply: the layer's rows are the same all the same, and the log says why."""
    forward = LibraryLinear.forward

    def differs(self: LibraryLinear, x: Tensor, residual: Tensor | None = None) -> Tensor:
        # What is below: those of fewer rows, or, where that is everything, those in odd places.
        odd = torch.arange(len(x))[:, None] % 2 if below > ROW_COUNTS[-1] else float(len(x) < below)
        return forward(self, x * (1 + odd * 1e-5), residual)

    monkeypatch.setattr(pack, "installed_library", lambda: None)
    monkeypatch.setattr(LibraryLinear, "forward", differs)
    layers = nn.ModuleList([filled(Linear(WIDTH, 40)), filled(GatedLinear(WIDTH, 40, "silu"))])
    with caplog.at_level(logging.INFO):
        use_linear_backends(layers)
    assert len([record for record in caplog.records if said in record.message]) == len(layers)
    x, residual = torch.randn(50, WIDTH), torch.randn(50, 40)
    for layer in layers:
        everything = layer(x, residual)
        for first, count in [(0, 1), (3, 2), (10, 7), (40, 10), (0, 17)]:
            rows = slice(first, first + count)
            assert torch.equal(layer(x[rows], residual[rows]), everything[rows])


def test_a_kind_of_product_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "installed_library", lambda: None)
    tried: list[int] = []
    trials = RowCountTrials()
    for width in (40, 40, 48):
        use_linear_backends(nn.ModuleList([filled(Linear(WIDTH, width)) for _ in range(3)]), trials=trials)
        tried.append(len(trials))
    assert tried == [1, 1, 2]


def test_a_load_that_is_given_up_ends_between_two_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "installed_library", lambda: None)
    calls: list[int] = []

    def stop() -> None:
        calls.append(1)
        if len(calls) == 4:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        use_linear_backends(filled(Linear(WIDTH, 40)), check_cancelled=stop)
    assert len(calls) == 4


@pytest.mark.skipif(installed_library() is None, reason="the kernels are not installed")
def test_a_kernel_that_differs_is_tried_as_a_library_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Injected: as a compiler's mistake might have it, fewer rows than sixteen come out otherwise."""
    forward = PanelLinear.forward

    def differs(self: PanelLinear, x: Tensor, residual: Tensor | None = None) -> Tensor:
        return forward(self, x * (1 + (len(x) < 16) * 1e-5), residual)

    monkeypatch.setattr(PanelLinear, "forward", differs)
    layer = filled(Linear(WIDTH, 40))
    assert not is_row_invariant(PanelLinear(layer, "float32"), WIDTH)
    with caplog.at_level(logging.INFO):
        use_linear_backends(layer)
    assert "in calls of (16, 32," in caplog.text
    x = torch.randn(20, WIDTH)
    assert torch.equal(layer(x[3:5]), layer(x)[3:5])


def test_without_the_kernel_a_product_is_that_of_each_sequence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product, "installed_library", lambda: None)
    for width, others in [(384, 7), (75, 40), (128, 33)]:
        x, weight = torch.randn(100, width), torch.randn(others, width)
        lengths = [1, 2, 3, 1, 15, 16, 17, 33, 12]
        everything = SimilarityProduct(weight)(x, lengths)
        torch.testing.assert_close(everything, x @ weight.T, rtol=1e-5, atol=1e-4)
        first = 0
        for length in lengths:
            rows = slice(first, first + length)
            assert torch.equal(SimilarityProduct(weight)(x[rows], [length]), everything[rows])
            first += length


@pytest.mark.parametrize("width", [1, 7, 16, 33, 100, 384, 1000])
def test_functions_of_rows_do_not_depend_on_their_number(width: int) -> None:
    """PyTorch's own that reach an answer, at the level that is forced, if one is."""
    functions = {
        "normalize": lambda x: F.normalize(x, dim=-1),
        "sum": lambda x: x.sum(dim=1),
        "layer_norm": lambda x: F.layer_norm(x, x.shape[1:]),
        "rms_norm": lambda x: F.rms_norm(x, x.shape[1:]),
        "tanh": pad_to_vectors(torch.tanh),
        "gelu": pad_to_vectors(F.gelu),
        "gelu_tanh": pad_to_vectors(lambda x: F.gelu(x, approximate="tanh")),
        "silu": pad_to_vectors(F.silu),
        "maximum": lambda x: torch.segment_reduce(x, "max", lengths=torch.full((len(x),), 1)),
    }
    x = torch.randn(70, width, generator=torch.Generator().manual_seed(0))
    for name, function in functions.items():
        everything = function(x)
        for count in (1, 2, 3, 5, 8, 17, 34, 69):
            for first in (0, 1, 70 - count):
                rows = slice(first, first + count)
                assert torch.equal(function(x[rows]), everything[rows]), (name, first, count)
