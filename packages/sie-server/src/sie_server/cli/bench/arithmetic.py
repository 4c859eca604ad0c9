"""Floating-point operations of a model, and how many of them this machine can do in a second."""

import time
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from sie_server.models.loaded_model import LoadedModel
from sie_server.models.model_config import ModelConfig
from sie_server.nn.linear import Linear

_SIZE = {"cpu": 2048, "cuda": 8192}
_INT8_SIZE = 2048


def operations(model: LoadedModel, config: ModelConfig, lengths: Iterable[int]) -> float:
    """Additions and multiplications of the plain forward of these sequences, without padding.

    Two per weight of a layer and token, and per layer four per query, key and feature of the heads (Kaplan et al. 2020,
    table 1). What an engine leaves out of it, in the last layer say, it is credited with; what it adds by padding it is
    not. Embeddings and the head are not counted.
    """
    encoder = model.encoder
    others = [encoder.get_submodule("embeddings"), encoder.head, encoder.sparse]
    apart: dict[int, int] = {}
    for layer in chain.from_iterable(part.modules() for part in others if part is not None):
        if isinstance(layer, Linear):  # its numbers are in its packed form, of a loaded model
            apart[id(layer)] = layer.num_parameters
        else:
            apart |= {id(p): p.numel() for p in layer.parameters(recurse=False)}
    weights = model.parameters - sum(apart.values())
    lengths = list(lengths)
    width = config.heads * config.head_dim
    windows = [layer.window for layer in config.rotary_layers] or [None]
    windows = windows if len(windows) == config.layers else windows[:1] * config.layers
    seen = sum(length * _keys(length, window) for length in lengths for window in windows)
    halved = 0.5 if config.decoder is not None else 1.0
    return 2.0 * weights * sum(lengths) + 4.0 * width * seen * halved


def _keys(length: int, window: int | None) -> int:
    return length if window is None else min(length, 2 * window + 1)


def product(dtype: torch.dtype, device: torch.device) -> tuple[Callable[[], object], float]:
    """A large square product in the fastest form we know here, and its operations.

    On a CPU oneDNN's, with prepacked weights and torch's threads; int8 is unsigned times signed there, into float32.
    """
    size = _INT8_SIZE if dtype == torch.int8 else _SIZE[device.type]
    work = 2.0 * size**3
    if dtype == torch.int8:
        x = torch.randint(0, 255, (size, size), dtype=torch.uint8)
        packed = torch.ops.onednn.qlinear_prepack(
            torch.randint(-127, 127, (size, size), dtype=torch.int8), [size, size]
        )
        scale, zero = torch.ones(size), torch.zeros(size, dtype=torch.int32)
        arguments: tuple[Any, ...] = (x, 1.0, 0, packed, scale, zero, None, 1.0, 0, torch.float32, "none", [], "")
        return lambda: torch.ops.onednn.qlinear_pointwise(*arguments), work
    x = torch.randn(size, size, dtype=dtype, device=device)
    weight = torch.randn(size, size, dtype=dtype, device=device)
    if device.type == "cpu" and torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        weight = torch.ops.mkldnn._reorder_linear_weight(weight, None)
        return lambda: torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], ""), work

    def multiply() -> Tensor:
        y = x @ weight
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return y

    return multiply, work


def peak(dtype: torch.dtype, device: torch.device, seconds: float = 0.4) -> float:
    """Operations per second of the fastest matrix product within `seconds`, at least two of them."""
    multiply, work = product(dtype, device)
    with torch.inference_mode():
        multiply()
        fastest, end = float("inf"), time.perf_counter() + seconds
        while fastest == float("inf") or time.perf_counter() < end:
            started = time.perf_counter()
            multiply()
            fastest = min(fastest, time.perf_counter() - started)
    return work / fastest
