"""Measured rates of the precisions on this CPU, kept in a file for the next start."""

import hashlib
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import torch

from sie_server.machine.processor import LIBRARY_LIMITS, processor
from sie_server.nn.attention import attention
from sie_server.nn.kernels.library import library_path, max_isa
from sie_server.nn.linear import Linear
from sie_server.nn.linear_backends import linear_backend
from sie_server.nn.packed import Packed
from sie_server.options import Precision
from sie_server.tokenization.sequence import Sequence

_LOG = logging.getLogger(__name__)
# Of the layers: width and heads of MiniLM, and of BERT-large and XLM-R-large.
_SHAPES = ((384, 12), (1024, 16))
_TOKENS = 128
# Products of width × width in a layer: query, key, value, output, and twice four in the feed-forward network.
_PRODUCTS = 12
# The layers of one precision, then those of the next, so that a busy neighbour slows all of them down.
_TURNS = 3
_FORMAT = 2

Rates = dict[Precision, float]
"""Tokens per second and core through a typical layer, by precision."""


def measure_rates(
    precisions: Iterable[Precision], rest_dtype: torch.dtype = torch.float32, turns: int = _TURNS
) -> Rates:
    """Measure products and attention on one thread, as a device thread computes them.

    The time of a layer is that of its products and its attention, summed over the shapes. The fastest of all turns
    counts, after one that is not counted. rest_dtype: that of steps that int8 does not apply to.
    """
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as device_thread:
        return device_thread.submit(_measure, list(precisions), rest_dtype, turns).result()


@torch.inference_mode()
def _measure(precisions: list[Precision], rest_dtype: torch.dtype, turns: int) -> Rates:
    layers = {
        precision: [
            step
            for width, heads in _SHAPES
            for step in (
                _layer(width, heads, rest_dtype, int8=True)
                if precision == "int8"
                else _layer(width, heads, getattr(torch, precision))
            )
        ]
        for precision in precisions
    }
    fastest = {precision: [float("inf")] * len(steps) for precision, steps in layers.items()}
    for turn in range(turns + 1):
        for precision, steps in layers.items():
            for index, (_, call) in enumerate(steps):
                started = time.perf_counter()
                call()
                taken = time.perf_counter() - started
                if turn > 0:
                    fastest[precision][index] = min(fastest[precision][index], taken)
    return {
        precision: _TOKENS / sum(times * seconds for (times, _), seconds in zip(steps, fastest[precision], strict=True))
        for precision, steps in layers.items()
    }


def _layer(
    width: int, heads: int, dtype: torch.dtype, int8: bool = False
) -> list[tuple[int, Callable[[], torch.Tensor]]]:
    """The steps of a layer, each after the number of times that a layer takes it."""
    linear = Linear(width, width)
    linear.weight = torch.nn.Parameter(torch.linspace(-1, 1, width * width).view(width, width).to(dtype))
    linear.bias = torch.nn.Parameter(torch.zeros(width, dtype=dtype))
    product, _ = linear_backend(linear, int8)
    x = torch.linspace(-1, 1, _TOKENS * width).view(_TOKENS, width).to(dtype)
    q, k, v = torch.linspace(-1, 1, _TOKENS * 3 * width).view(_TOKENS, 3, heads, width // heads).to(dtype).unbind(1)
    ids = np.zeros(_TOKENS, np.int32)
    packed = Packed.of([Sequence(ids, ids)], torch.device("cpu"))
    return [(_PRODUCTS, lambda: product(x)), (1, lambda: attention(q, k, v, packed))]


class RatesFile(msgspec.Struct):
    """A measurement, as kept. `key`: of the processor and everything else that the rates depend on."""

    key: str
    rates: Rates


@cache
def kept_rates(
    precisions: tuple[Precision, ...],
    rest_dtype: torch.dtype = torch.float32,
    measure: Callable[..., Rates] = measure_rates,
) -> Rates:
    """Rates of these precisions: as kept by an earlier process, or else measured and kept. Once per process.

    Those of one choice are measured together, so that a busy neighbor slows all of them down.
    """
    kept = read_rates()
    if not set(precisions) <= set(kept):
        kept |= measure(precisions, rest_dtype)
        keep_rates(kept)
    return {precision: kept[precision] for precision in precisions}


def read_rates() -> Rates:
    """The rates kept for this processor and build; none if there is no readable file of them."""
    path = rates_path()
    if path is None:
        return {}
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=RatesFile)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return kept.rates if kept.key == _key() and all(0 < rate < float("inf") for rate in kept.rates.values()) else {}


def keep_rates(rates: Rates) -> None:
    """Keep rates for the next start. Where the file can't be written, the next start measures again."""
    path = rates_path()
    if path is None:
        return
    encoded = msgspec.json.encode(RatesFile(_key(), rates))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Replaced in one step: another process may be reading it, or writing its own.
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False) as file:
            written = Path(file.name)
            try:
                file.write(encoded)
                file.close()
                written.replace(path)
            except OSError:
                with suppress(OSError):
                    written.unlink()
                raise
    except OSError as error:
        _LOG.debug("the rates of the precisions are not kept: %s", error)


def forget_rates() -> None:
    """Remove the rates kept for this processor and build, so that the next use measures them."""
    kept_rates.cache_clear()
    if (path := rates_path()) is not None:
        path.unlink(missing_ok=True)


def rates_path() -> Path | None:
    """The file of the rates on this processor: in SIE_RATES_DIR, by default `sie` in the user's cache folder.

    None: SIE_RATES_DIR is empty, and nothing is kept.
    """
    chosen = os.environ.get("SIE_RATES_DIR")
    if chosen == "":
        return None
    if chosen is not None:
        folder = Path(chosen)
    else:
        cache_home = Path(os.environ.get("XDG_CACHE_HOME", ""))
        try:
            folder = (cache_home if cache_home.is_absolute() else Path.home() / ".cache") / "sie"
        except RuntimeError:  # a user without a home
            return None
    return folder / f"rates-{_key()[:16]}.json"


@cache
def _built() -> str:
    """Checksum of the kernels."""
    try:
        return hashlib.sha256(library_path().read_bytes()).hexdigest()
    except OSError:
        return "none"


def _key() -> str:
    """Checksum of all that the rates depend on."""
    limits = map(os.environ.get, LIBRARY_LIMITS)
    parts = (_FORMAT, processor(), _built(), max_isa(), *limits, torch.__version__)
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()
