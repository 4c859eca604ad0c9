"""How much memory the tensors of a computation take at their peak."""

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class PeakMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the storages that operators of this thread make, as long as they live. `bytes`: most at one moment.

    It is the same on every device and whatever other threads do, which what an allocator or the kernel say of the whole
    process is not. Scratch memory inside an operator is not seen.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes: int = 0
        self._now = 0
        self._alive: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Nothing is compiled here. To skip it, PyTorch would import all of its compiler, with sympy: a second of the
        # first load, and 120,000 objects for the collector of cycles to walk through from then on.
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {id(tensor.untyped_storage()) for tensor in _plain((args, kwargs))}
        made = func(*args, **(kwargs or {}))
        for tensor in _plain(made):
            storage = tensor.untyped_storage()
            # What an operator returns of its arguments is no new memory, nor is a view.
            if id(storage) not in self._alive and id(storage) not in given:
                self._count(storage)
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()

        def freed(_: object) -> None:
            self._now -= size
            del self._alive[key]

        self._alive[key] = weakref.ref(storage, freed)
        self._now += size
        self.bytes = max(self.bytes, self._now)


def _plain(values: Any) -> list[torch.Tensor]:
    """The tensors that have a storage of their own; weights that oneDNN has packed have none to be seen."""
    return [v for v in tree_leaves(values) if isinstance(v, torch.Tensor) and v.layout == torch.strided]
