"""The C library's allocator, told to keep the memory that a training step frees.

A step frees its maps and takes memory for the next ones all the time. By default the C library
gives large blocks back to the system at once. The system then supplies and clears every page
again at the next use. In a network of large, thin maps that takes a sixth of a step's time
(docs/benchmarks.md).
"""

from __future__ import annotations

import ctypes

from detectron_ext.environment import MALLOC_MMAP_MAX, MALLOC_TRIM_THRESHOLD

_TRIM_THRESHOLD = -1  # the numbers of mallopt's parameters, malloc.h of glibc
_MMAP_MAX = -4
_NEVER = -1


def keep_freed_memory() -> bool:
    """Make the C library keep freed memory for later requests of this process.

    It does so from now on and for all threads. The process then holds the most memory that it has
    needed until it ends.

    Returns:
        whether it was done. It is not if the person has set the allocator by MALLOC_MMAP_MAX_ or
        MALLOC_TRIM_THRESHOLD_, or if the C library has no `mallopt`.
    """
    if MALLOC_MMAP_MAX.value or MALLOC_TRIM_THRESHOLD.value:
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, _NEVER))
