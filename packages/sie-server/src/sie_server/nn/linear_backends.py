"""Which code computes the linear layers of a model."""

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import torch
from torch import Tensor, nn

from sie_server.nn.kernels.library import installed_library
from sie_server.nn.linear import GatedLinear, LibraryLinear, Linear
from sie_server.nn.panel_linear import Numbers, PanelLinear, bfloat16_panels
from sie_server.nn.row_invariance import SIZES, equal_sizes, same_alone

_LOG = logging.getLogger(__name__)


class Trials:
    """With which numbers of rows each kind of product on this CPU has the same bits: tried once in a process."""

    def __init__(self) -> None:
        self._found: dict[tuple[object, ...], tuple[int, ...] | None] = {}

    def __len__(self) -> int:
        return len(self._found)

    def sizes(
        self, layer: Linear, packed: nn.Module, numbers: Numbers | None, before_each: Callable[[], None]
    ) -> tuple[int, ...] | None:
        """Of what computes a layer: numbers of rows, none where there are no such, or None: any will do."""
        outputs, inputs = layer.weight.shape
        kind = (numbers, layer.weight.dtype, inputs, outputs, layer.activation, isinstance(layer, GatedLinear))
        if kind not in self._found:
            # In a thread that is as those of the device are.
            with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as device_thread:
                if numbers is not None and device_thread.submit(same_alone, packed, inputs).result():
                    self._found[kind] = None
                else:
                    tried = device_thread.submit(copy_context().run, equal_sizes, packed, inputs, before_each)
                    self._found[kind] = sizes = tried.result()
                    _say(sizes, f"{inputs} × {outputs} in {numbers or str(layer.weight.dtype).removeprefix('torch.')}")
        return self._found[kind]


def pack_linears(
    module: nn.Module,
    int8: bool = False,
    before_each: Callable[[], None] = lambda: None,
    trials: Trials | None = None,
) -> None:
    """Give every `Linear` under `module` that has none what computes it, in place: the kernel, or PyTorch's libraries.

    On a CPU each kind of product of a library is tried with several numbers of rows. The libraries then see only those
    with which a row has the same bits, or single rows where there are none, and the log says so. The kernel computes
    a few rows alone and together, and is tried likewise if they are not the same.

    before_each: called before each layer, and each product that is tried. trials: what was found before.
    """
    trials = Trials() if trials is None else trials
    for layer in _unpacked(module):
        before_each()
        numbers = _numbers(layer.weight, int8)
        packed = LibraryLinear(layer) if numbers is None else PanelLinear(layer, numbers)
        on_cpu = layer.weight.device.type == "cpu"
        layer.pack(packed, trials.sizes(layer, packed, numbers, before_each) if on_cpu else None)


def _unpacked(module: nn.Module) -> Iterator[Linear]:
    for layer in list(module.modules()):
        if isinstance(layer, Linear) and layer.packed is None:
            yield layer


def _numbers(weight: Tensor, int8: bool) -> Numbers | None:
    """What the kernel multiplies; None where it is not the one that does."""
    if int8:
        return "int8"
    if weight.device.type != "cpu" or installed_library() is None:
        return None
    if weight.dtype == torch.float32:
        return "float32"
    return "bfloat16" if weight.dtype == torch.bfloat16 and bfloat16_panels() else None


def _say(sizes: tuple[int, ...], product: str) -> None:
    if not sizes:
        _LOG.warning("products of %s are computed row by row: a row's bits depend on others on this processor", product)
    elif sizes != SIZES:
        _LOG.info("products of %s are computed in calls of %s rows, whose bits are the same", product, sizes)
