"""Peak memory of the tensors of a computation."""

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class PeakMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the storages that operators allocate on this thread, while they are alive. bytes: the peak so far.

    Unlike the figures of an allocator or the kernel, it is the same on every device and does not depend on other
    threads. Scratch memory inside an operator is not counted.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes: int = 0
        self._now = 0
        self._alive: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Nothing is compiled here. To skip dynamo, PyTorch would import its whole compiler, with sympy: one second of
        # the first load, and 120,000 more objects for every run of the garbage collector.
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        arguments = {id(tensor.untyped_storage()) for tensor in _plain((args, kwargs))}
        made = func(*args, **(kwargs or {}))
        for tensor in _plain(made):
            storage = tensor.untyped_storage()
            # Arguments that an operator returns, and views of them, are not new memory.
            if id(storage) not in self._alive and id(storage) not in arguments:
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
    """Tensors with a storage of their own; weights packed by oneDNN have none."""
    return [v for v in tree_leaves(values) if isinstance(v, torch.Tensor) and v.layout == torch.strided]
