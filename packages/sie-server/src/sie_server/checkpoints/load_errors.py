"""What an exception says of why a model did not load."""

import errno

import torch

from sie_server.errors import LoadClass, LoadError
from sie_server.nn.device import is_out_of_memory

# The disk is full, or a quota used up.
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}


def classified(error: Exception, source: str) -> LoadError:
    """The error as one with a class. It holds on to nothing: the frames of a load have weights in them.

    source: what to call the checkpoint's origin.
    """
    if isinstance(error, LoadError):
        return LoadError(error.kind, str(error))
    match error:
        case OSError(errno=number) if number in _NO_ROOM:
            return LoadError(LoadClass.STORAGE, f"no room on the disk for {source}: {error}")
        case _ if is_out_of_memory(error):
            return LoadError(LoadClass.OOM, f"{source} does not fit into memory: {error}")
        case ImportError():
            return LoadError(LoadClass.DEPENDENCY, f"{source} needs a package that is not installed: {error}")
        case TimeoutError():
            return LoadError(LoadClass.TIMEOUT, f"{source} took too long to load: {error}")
        case ConnectionError():
            return LoadError(LoadClass.NETWORK, f"the connection was lost while {source} was downloaded: {error}")
        case OSError():
            return LoadError(LoadClass.STORAGE, f"the files of {source} can't be read: {error}")
        case torch.AcceleratorError():
            return LoadError(LoadClass.PLACEMENT, f"{source} could not be placed on the device: {error}")
        case RuntimeError():  # torch's operators raise no other
            return LoadError(LoadClass.ENGINE, f"{source} can't run on this machine: {error}")
    return LoadError(LoadClass.UNKNOWN, f"{source} could not be loaded: {error}")
