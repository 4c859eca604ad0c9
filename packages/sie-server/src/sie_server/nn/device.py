"""The device: found by its name, and how its lack of memory is recognized."""

import torch

from sie_server.nn.kernels.library import max_isa

# Messages of RuntimeErrors of PyTorch's CPU allocator, cuBLAS and oneDNN.
_NO_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "could not create a memory",
)


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


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be allocated."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in _NO_MEMORY)
