"""The routing headers of a cluster client, honoured by a single machine."""

import re
from collections.abc import Mapping

import torch

from sie_server.errors import Code, SIEError

_HEADER = "X-SIE-MACHINE-PROFILE"
_GPU_NAMES = {"l4": "l4", "t4": "t4", "a10g": "a10g", "h100": "h100"}


def check_machine_profile(headers: Mapping[str, str], configured: str, device: torch.device) -> None:
    """Refuse a request that was meant for another kind of machine.

    Raises:
        SIEError: INVALID_INPUT, with what was asked for and what this machine is.
    """
    if (remote := headers.get("X-SIE-Remote")) is not None and remote != "forbid":
        raise SIEError(Code.INVALID_INPUT, f"X-SIE-Remote must be 'forbid', got '{remote}'")
    requested = headers.get(_HEADER)
    if requested is None:
        return
    identity = machine_profile(configured, device)
    # A CPU has no profile unless the operator gives it one.
    if requested.lower() != identity.lower() or (not configured and device.type == "cpu"):
        raise SIEError(
            Code.INVALID_INPUT,
            f"{_HEADER} asks for '{requested}', this machine is '{identity}'",
            requested_profile=requested,
            worker_identity=identity,
        )


def machine_profile(configured: str, device: torch.device) -> str:
    """What kind of machine this is: the operator's name for it, or that of its GPU, `cpu` where it has none."""
    return configured or _gpu_type(device)


def _gpu_type(device: torch.device) -> str:
    if device.type != "cuda":
        return "cpu"
    properties = torch.cuda.get_device_properties(device)
    words = re.split(r"[^a-z0-9]+", properties.name.lower())
    if "a100" in words:
        return "a100-80gb" if properties.total_memory > 50 * 2**30 else "a100-40gb"
    return next((_GPU_NAMES[word] for word in words if word in _GPU_NAMES), "unknown")
