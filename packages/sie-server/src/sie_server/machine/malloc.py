"""Settings of glibc's malloc for a process that allocates and frees the same large tensors again and again."""

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
# The maximum that glibc accepts: half of a thread's heap.
_MMAP_BYTES = 32 * 2**20
_KEPT_BYTES = 4 * _MMAP_BYTES


def trim_and_tune() -> None:
    """Return all free memory to the kernel, and from now on keep up to 128 MiB of free memory on top of each heap.

    To be called after a model is loaded, when what the load left between the weights is not needed again. By default,
    malloc returns every few megabytes at once, and the next forward pass gets the same pages back by 300 page faults
    per batch, each zeroed by the kernel (mallopt(3), malloc_trim(3)). If called before a load, weights of up to 32 MiB
    would go to the heap, and their copies leave gaps in it. Does nothing if the C library is not glibc.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim") and hasattr(library, "mallopt"):
        library.malloc_trim(0)
        library.mallopt(_MMAP_THRESHOLD, _MMAP_BYTES)
        library.mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
