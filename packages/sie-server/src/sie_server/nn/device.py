"""Choice of device and precision."""

import torch

from sie_server.nn.kernels.library import installed_library, linear_isa_level, max_isa
from sie_server.options import Precision


def resolve_device(name: str) -> torch.device:
    """Resolve a device name; `auto` is CUDA if there is a GPU, else CPU.

    Raises:
        ValueError: the device is unknown or not available, or SIE_MAX_CPU_ISA is invalid.
    """
    max_isa()
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device {name!r}: {error}") from None
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device {name!r} is not supported; supported: auto, cpu, cuda, cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {name!r} does not exist: {torch.cuda.device_count()} CUDA devices found")
    return device


def resolve_precision(precision: Precision, device: torch.device) -> torch.dtype:
    """Resolve a precision to the dtype of products; `auto` is bfloat16 where it is supported natively, else float32.

    Raises:
        ValueError: the device does not support it.
    """
    if precision == "int8":
        if device.type != "cpu":
            raise ValueError(f"precision 'int8' is not supported on {device.type}, only on CPU; use auto")
        if installed_library() is None:
            why = "SIE_MAX_CPU_ISA is none" if max_isa() == "none" else "they were not built at installation"
            raise ValueError(f"precision 'int8' needs the kernels: {why}; use auto")
        if linear_isa_level() == 0:
            why = "it has no AVX512-VNNI, or SIE_MAX_CPU_ISA is below that"
            raise ValueError(f"precision 'int8' is not supported by this CPU: {why}; use auto")
        return torch.int8
    if precision != "auto":
        dtype: torch.dtype = getattr(torch, precision)
        supported = {"bfloat16": "_is_mkldnn_bf16_supported", "float16": "_is_mkldnn_fp16_supported"}
        if device.type == "cpu" and precision in supported and not getattr(torch.ops.mkldnn, supported[precision])():
            raise ValueError(f"precision {precision!r} is not supported by this CPU; use auto")
        return dtype
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        # ONEDNN_MAX_CPU_ISA may disable it.
        native = native and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if native else torch.float32


# Messages of RuntimeErrors of PyTorch's CPU allocator, cuBLAS and oneDNN.
_NO_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "could not create a memory",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be allocated."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in _NO_MEMORY)
