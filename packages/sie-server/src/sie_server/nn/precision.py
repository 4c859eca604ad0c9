"""Choice of the precision."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch

from sie_server.nn.kernels.library import installed_library, linear_isa_level, max_isa
from sie_server.nn.precision_rates import Rates, kept_rates
from sie_server.options import Precision

# Ratio to float32's rate that `auto` requires of bfloat16, so that noise in the measurement does not decide.
MARGIN = 1.15


@dataclass(frozen=True)
class PrecisionChoice:
    """The dtype of products that a setting means here, and why.

    rates: tokens per second and core through a typical layer, by precision; none, unless measured for the choice.
    """

    setting: Precision
    dtype: torch.dtype
    reason: str
    rates: Rates

    @property
    def name(self) -> Precision:
        """As in the settings: "float32"."""
        return dtype_name(self.dtype)

    def described(self) -> str:
        """A line for the log: the choice, its reason, and the measured rates."""
        rates = ", ".join(f"{precision} {rate:,.0f}" for precision, rate in self.rates.items())
        measured = f"; tokens per second and core through a typical layer: {rates}" if rates else ""
        return f"precision {self.setting} is {self.name} ({self.reason}){measured}"


def dtype_name(dtype: torch.dtype) -> Precision:
    """A dtype of products as in the settings: "float32"."""
    return cast(Precision, str(dtype).removeprefix("torch."))


def resolve_precision(precision: Precision, device: torch.device) -> torch.dtype:
    """The dtype of products that `choose_precision` chooses.

    Raises:
        ValueError: the device does not support it.
    """
    return choose_precision(precision, device).dtype


def choose_precision(
    precision: Precision, device: torch.device, rates: Callable[[tuple[Precision, ...]], Rates] = kept_rates
) -> PrecisionChoice:
    """Resolve a precision; `auto` is the fastest of float32 and bfloat16, and never int8.

    On a CPU that multiplies bfloat16 natively, `rates` decide: bfloat16 must be faster than float32 by `MARGIN`. On
    CUDA, it is bfloat16 from compute capability 8.0.

    Raises:
        ValueError: the device does not support the precision.
    """
    if precision == "auto":
        return _fastest_on_cpu(rates) if device.type == "cpu" else _fastest_on_cuda(device)
    if precision == "int8":
        if device.type != "cpu":
            raise ValueError(f"precision 'int8' is not supported on {device.type}, only on CPU; use auto")
        if installed_library() is None:
            why = "SIE_MAX_CPU_ISA is none" if max_isa() == "none" else "they were not built at installation"
            raise ValueError(f"precision 'int8' needs the kernels: {why}; use auto")
        if linear_isa_level() == 0:
            why = "it has neither AVX512-VNNI nor AVX-VNNI, or SIE_MAX_CPU_ISA is below them"
            raise ValueError(f"precision 'int8' is not supported by this CPU: {why}; use auto")
    supported = {"bfloat16": "_is_mkldnn_bf16_supported", "float16": "_is_mkldnn_fp16_supported"}
    if device.type == "cpu" and precision in supported and not getattr(torch.ops.mkldnn, supported[precision])():
        raise ValueError(f"precision {precision!r} is not supported by this CPU; use auto")
    return PrecisionChoice(precision, getattr(torch, precision), "it was set", {})


def _fastest_on_cuda(device: torch.device) -> PrecisionChoice:
    if torch.cuda.get_device_capability(device) >= (8, 0):
        return PrecisionChoice("auto", torch.bfloat16, "this GPU multiplies bfloat16 natively", {})
    return PrecisionChoice("auto", torch.float32, "this GPU does not multiply bfloat16 natively", {})


def _fastest_on_cpu(rates: Callable[[tuple[Precision, ...]], Rates]) -> PrecisionChoice:
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    # ONEDNN_MAX_CPU_ISA may disable it.
    if not (native and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        return PrecisionChoice("auto", torch.float32, "this CPU does not multiply bfloat16 natively", {})
    measured = rates(("float32", "bfloat16"))
    ratio = measured["bfloat16"] / measured["float32"]
    if ratio >= MARGIN:
        return PrecisionChoice("auto", torch.bfloat16, f"measured here: {ratio:.2f} times as fast as float32", measured)
    reason = f"measured here: bfloat16 is {ratio:.2f} times as fast, and {MARGIN} is required"
    return PrecisionChoice("auto", torch.float32, reason, measured)
