"""Classifies the exceptions that can end a load."""

import errno

import torch

from sie_server.errors import LoadClass, LoadError
from sie_server.nn.device import is_out_of_memory

# The disk is full, or a quota exhausted.
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}


def classify(error: Exception, source: str) -> LoadError:
    """The error as a LoadError with its class, and without its traceback: the frames of a load refer to weights.

    source: name of the checkpoint's origin.
    """
    if isinstance(error, LoadError):
        return LoadError(error.kind, str(error))
    match error:
        case OSError(errno=number) if number in _NO_SPACE:
            return LoadError(LoadClass.STORAGE, f"no space left on disk for {source}: {error}")
        case _ if is_out_of_memory(error):
            return LoadError(LoadClass.OOM, f"{source} does not fit into memory: {error}")
        case ImportError():
            return LoadError(LoadClass.DEPENDENCY, f"{source} needs a package that is not installed: {error}")
        case TimeoutError():
            return LoadError(LoadClass.TIMEOUT, f"{source} took too long to load: {error}")
        case ConnectionError():
            return LoadError(LoadClass.NETWORK, f"connection lost while downloading {source}: {error}")
        case OSError():
            return LoadError(LoadClass.STORAGE, f"the files of {source} can't be read: {error}")
        case torch.AcceleratorError():
            return LoadError(LoadClass.PLACEMENT, f"{source} could not be moved to the device: {error}")
        case RuntimeError():  # from torch's operators
            return LoadError(LoadClass.ENGINE, f"{source} can't run on this machine: {error}")
    return LoadError(LoadClass.UNKNOWN, f"{source} could not be loaded: {error}")
