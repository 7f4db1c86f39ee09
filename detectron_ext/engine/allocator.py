"""The C library's allocator, set for training: freed memory is kept, in huge pages.

A step frees its maps and takes memory for the next ones all the time. By default the C library
gives large blocks back to the system at once. The system then supplies and clears every page again
at the next use. In a network of large, thin maps that takes a sixth of a step's time.

Pages of 2 MB instead of 4 KB save a further tenth of it (docs/benchmarks.md): the processor keeps
few addresses of pages at hand, and a map of 60 MB has 15,000 small pages.
"""

from __future__ import annotations

import ctypes

from detectron_ext.environment import MALLOC_MMAP_MAX, MALLOC_TRIM_THRESHOLD

# Numbers of mallopt's parameters (malloc.h of glibc) and of madvise's advice (Linux).
_TRIM_THRESHOLD = -1
_MMAP_MAX = -4
_NEVER = -1
_MADV_HUGEPAGE = 14

_HUGE_PAGE = 2 << 20
_MOST_RESERVED = 4 << 30
_LEAST_RESERVED = 256 << 20


def keep_freed_memory() -> bool:
    """Make the C library keep freed memory for later requests of this process, in huge pages.

    It does so from now on and for all threads. The process then holds the most memory that it has
    needed until it ends. Huge pages are for the main thread, and are left out where the system has
    none.

    Returns:
        whether freed memory is kept. It is not if the person has set the allocator by
        MALLOC_MMAP_MAX_ or MALLOC_TRIM_THRESHOLD_, or if the C library has no `mallopt`.
    """
    if MALLOC_MMAP_MAX.value or MALLOC_TRIM_THRESHOLD.value:
        return False
    c_library = ctypes.CDLL(None)
    mallopt = getattr(c_library, "mallopt", None)
    if mallopt is None or not (mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, _NEVER)):
        return False
    _reserve_huge_pages(c_library)
    return True


def _reserve_huge_pages(c_library: ctypes.CDLL) -> None:
    """Grow the heap by addresses whose memory, once it is used, comes in huge pages.

    Addresses that are never used take no memory. If the system refuses so many, fewer are tried.
    """
    c_library.sbrk.restype = ctypes.c_void_p
    c_library.sbrk.argtypes = [ctypes.c_ssize_t]
    c_library.malloc.restype = ctypes.c_void_p
    c_library.malloc.argtypes = [ctypes.c_size_t]
    c_library.free.argtypes = [ctypes.c_void_p]
    c_library.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    size = _MOST_RESERVED
    while size >= _LEAST_RESERVED:
        begin = c_library.sbrk(0)
        block = c_library.malloc(size)
        if not block:
            size //= 2
            continue
        end = c_library.sbrk(0)
        # The kernel refuses a beginning that is no multiple of a page.
        begin = -(-begin // _HUGE_PAGE) * _HUGE_PAGE
        # The block may lie elsewhere if the heap cannot grow; then there is nothing to advise on.
        if begin < end:
            c_library.madvise(begin, end - begin, _MADV_HUGEPAGE)
        c_library.free(block)  # stays part of the heap
        return
