"""Choice of the code that computes a model's linear layers."""

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import torch
from torch import Tensor, nn

from sie_server.nn.kernels.library import installed_library
from sie_server.nn.kernels.linear import KernelDtype, PanelLinear, bfloat16_panels
from sie_server.nn.linear import GatedLinear, LibraryLinear, Linear
from sie_server.nn.row_invariance import ROW_COUNTS, is_row_invariant, row_invariant_counts

_LOG = logging.getLogger(__name__)


class RowCountTrials:
    """Row counts with which products on this CPU are row-invariant, tested once per process and kind of product."""

    def __init__(self) -> None:
        self._counts: dict[tuple[object, ...], tuple[int, ...] | None] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def row_counts(
        self, layer: Linear, backend: nn.Module, dtype: KernelDtype | None, check_cancelled: Callable[[], None]
    ) -> tuple[int, ...] | None:
        """Row counts for a layer's backend; empty: none is row-invariant; None: all are."""
        outputs, inputs = layer.weight.shape
        kind = (dtype, layer.weight.dtype, inputs, outputs, layer.activation, isinstance(layer, GatedLinear))
        if kind not in self._counts:
            # In a thread set up like the device threads.
            with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as device_thread:
                if dtype is not None and device_thread.submit(is_row_invariant, backend, inputs).result():
                    self._counts[kind] = None
                else:
                    trial = device_thread.submit(
                        copy_context().run, row_invariant_counts, backend, inputs, check_cancelled
                    )
                    self._counts[kind] = counts = trial.result()
                    _log_row_counts(
                        counts, f"{inputs} × {outputs} in {dtype or str(layer.weight.dtype).removeprefix('torch.')}"
                    )
        return self._counts[kind]


def use_linear_backends(
    module: nn.Module,
    int8: bool = False,
    check_cancelled: Callable[[], None] = lambda: None,
    trials: RowCountTrials | None = None,
) -> None:
    """Set the backend of every `Linear` under `module` that has none, in place: the kernel, or PyTorch's libraries.

    On a CPU, each kind of library product is tested with several row counts, and called only with those with which a
    row has the same bits; if there are none, row by row, with a warning in the log. The kernel is first tested with a
    few rows alone and together, and only if they differ, like the libraries.

    check_cancelled: called before each layer and each test product. trials: results of earlier tests.
    """
    trials = RowCountTrials() if trials is None else trials
    for layer in _without_backend(module):
        check_cancelled()
        backend, dtype = linear_backend(layer, int8)
        on_cpu = layer.weight.device.type == "cpu"
        layer.use_backend(backend, trials.row_counts(layer, backend, dtype, check_cancelled) if on_cpu else None)


def _without_backend(module: nn.Module) -> Iterator[Linear]:
    for layer in list(module.modules()):
        if isinstance(layer, Linear) and layer.backend is None:
            yield layer


def linear_backend(layer: Linear, int8: bool = False) -> tuple[nn.Module, KernelDtype | None]:
    """The code that computes a layer here, and its dtype if it is the kernel."""
    dtype = _kernel_dtype(layer.weight, int8)
    return (LibraryLinear(layer) if dtype is None else PanelLinear(layer, dtype)), dtype


def _kernel_dtype(weight: Tensor, int8: bool) -> KernelDtype | None:
    """Dtype in which the kernel computes a layer; None: the libraries compute it."""
    if int8:
        return "int8"
    if weight.device.type != "cpu" or installed_library() is None:
        return None
    if weight.dtype == torch.float32:
        return "float32"
    return "bfloat16" if weight.dtype == torch.bfloat16 and bfloat16_panels() else None


def _log_row_counts(counts: tuple[int, ...], product: str) -> None:
    if not counts:
        _LOG.warning(
            "products of %s are computed row by row: on this CPU, their bits depend on the number of rows",
            product,
        )
    elif counts != ROW_COUNTS:
        _LOG.info(
            "products of %s are computed in calls of %s rows, with which their bits are the same", product, counts
        )
