"""How much memory this process can have: of the machine, of its container, of its shell."""

from __future__ import annotations

import contextlib
import os
import resource
from typing import Iterator, NamedTuple

_VERSION_1 = ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
_VERSION_2 = ("/sys/fs/cgroup", "memory.max")
_OPENCV_NO_MEMORY = -4  # cv::Error::StsNoMem


class MemoryLimit(NamedTuple):
    """The smallest limit on the memory of this process.

    Attributes:
        size: in bytes.
        owner: what sets the limit, for a message.
    """

    size: int
    owner: str


def memory_limit() -> MemoryLimit:
    """Return the smallest of the machine's memory, the limits of its cgroups and ``ulimit -v``."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [MemoryLimit(machine, "this machine has")]
    limits += [MemoryLimit(size, "this container may use") for size in _cgroup_limits()]
    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    if soft != resource.RLIM_INFINITY:
        limits.append(MemoryLimit(max(0, soft - _mapped()), "'ulimit -v' leaves"))
    return min(limits)


def _mapped() -> int:
    """Return the bytes of address space that this process has already, libraries included."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def _cgroup_limits(membership: str = "/proc/self/cgroup") -> Iterator[int]:
    """Yield the limits of this process's cgroups and of those that contain them.

    A line of the membership is "number:controllers:path"; version 2 has number 0 and no
    controllers. Inside a container the path may be that of the host; then only the root is found.
    """
    with contextlib.suppress(OSError, ValueError), open(membership, encoding="utf-8") as file:
        for line in file.read().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            root, name = _VERSION_1 if controllers else _VERSION_2
            parts = [part for part in path.split("/") if part]
            for depth in range(len(parts) + 1):
                yield from _number(os.path.join(root, *parts[:depth], name))


def _number(path: str) -> Iterator[int]:
    """Yield the number in a file; nothing if there is none, as in "max"."""
    with contextlib.suppress(OSError, ValueError), open(path, encoding="utf-8") as file:
        yield int(file.read())


def is_out_of_memory(error: Exception) -> bool:
    """Return whether Caffe2 or OpenCV was refused memory; neither raises MemoryError."""
    from_opencv = type(error).__module__ == "cv2" and getattr(error, "code", 0) == _OPENCV_NO_MEMORY
    return from_opencv or (isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error))
