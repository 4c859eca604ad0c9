"""A shorter import of torch, for a process that serves."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from types import ModuleType

# Computes the shapes of tensors without data, for torch's compiler and export: a quarter of its import. It also sets up
# `torch.Generator`, which the server does not use. On other devices torch may use that by itself.
_UNUSED = "torch._meta_registrations"
_CPU_BUILD = "+cpu"


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import a build of torch for CPUs without what its compiler needs, and all without collecting garbage meanwhile.

    Code that imports the left out module afterwards gets it. Nothing is left out if torch has been imported before.
    """
    collects, stand_in = gc.isenabled(), ModuleType(_UNUSED)
    gc.disable()
    left_out = "torch" not in sys.modules and version("torch").endswith(_CPU_BUILD)
    if left_out:
        sys.modules[_UNUSED] = stand_in
    try:
        yield
    finally:
        if left_out:
            del sys.modules[_UNUSED]
            package, _, name = _UNUSED.partition(".")
            if (torch := sys.modules.get(package)) is not None and hasattr(torch, name):
                delattr(torch, name)
        if collects:
            gc.enable()
