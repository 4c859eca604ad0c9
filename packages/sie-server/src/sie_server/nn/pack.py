"""Which code computes the linear layers of a model."""

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

from sie_server.nn.company import SIZES, equal_sizes
from sie_server.nn.library import installed_library
from sie_server.nn.linear import GatedLinear, LibraryLinear, Linear
from sie_server.nn.panels import Numbers, PanelLinear, bfloat16_panels

_LOG = logging.getLogger(__name__)


def pack_linears(module: nn.Module, int8: bool = False, before_each: Callable[[], None] = lambda: None) -> None:
    """Give every `Linear` under `module` that has none what computes it, in place: the kernel, or PyTorch's libraries.

    On a CPU each kind of product is tried with several numbers of rows. The libraries then see only those with which a
    row has the same bits, or single rows where there are none, and the log says so. The kernel is tried likewise.
    """
    tried: dict[tuple[object, ...], tuple[int, ...] | None] = {}
    # In a thread that is as those of the device are.
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as device_thread:
        for layer in _unpacked(module):
            before_each()
            numbers = _numbers(layer.weight, int8)
            outputs, inputs = layer.weight.shape
            dtype, device = layer.weight.dtype, layer.weight.device
            packed = LibraryLinear(layer) if numbers is None else PanelLinear(layer, numbers)
            kind = (numbers, dtype, inputs, outputs, layer.activation, isinstance(layer, GatedLinear))
            if device.type != "cpu":
                tried[kind] = None
            elif kind not in tried:
                sizes = device_thread.submit(equal_sizes, packed, inputs).result()
                _say(sizes, f"{inputs} × {outputs} in {numbers or str(dtype).removeprefix('torch.')}")
                tried[kind] = None if numbers is not None and sizes == SIZES else sizes
            layer.pack(packed, tried[kind])


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
