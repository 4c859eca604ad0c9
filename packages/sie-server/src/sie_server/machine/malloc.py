"""glibc's malloc, told what this process does: it allocates and frees the same large tensors again and again."""

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
# The largest that glibc takes: half of a thread's heap.
_MMAP_BYTES = 32 * 2**20
_KEPT_BYTES = 4 * _MMAP_BYTES


def trim_and_tune() -> None:
    """Give all that is free back to the kernel, and from now on keep up to 128 MiB that is free on top of each heap.

    To be called when a model was loaded: what a load leaves between the weights is not needed again. By itself malloc
    gives back a few megabytes at once, and a forward then asks for the same pages again: 300 page faults per batch,
    each of which the kernel fills with zeros (mallopt(3), malloc_trim(3)). Before a load, weights of up to 32 MiB would
    go to the heap too, and their copies leave gaps in it. Nothing happens where the C library is not glibc.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim") and hasattr(library, "mallopt"):
        library.malloc_trim(0)
        library.mallopt(_MMAP_THRESHOLD, _MMAP_BYTES)
        library.mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
