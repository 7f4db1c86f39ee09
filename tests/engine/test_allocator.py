"""A training keeps the memory that it frees, unless the person has set the allocator."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# Takes and frees 64 MB twenty times, and prints the answer and the pages that the system supplied.
_PROGRAM = """
import resource
import numpy as np
from detectron_ext.engine.allocator import keep_freed_memory
done = keep_freed_memory()
np.ones(16 << 20, np.float32)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(16 << 20, np.float32)
print(done, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _run(**environment):
    cleared = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    child = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        env={**cleared, **environment},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    done, faults = child.stdout.split()
    return done == "True", int(faults)


# Fills 300 MB with small arrays, and prints how much of the heap lies in huge pages, in KB, and how
# much memory the call itself has taken.
_HUGE_PAGES = """
import re
import numpy as np
from detectron_ext.engine.allocator import keep_freed_memory
def heap(field):
    maps = open("/proc/self/smaps").read()
    return int(re.search(r"\\[heap\\].*?" + field + r":\\s+(\\d+) kB", maps, re.S)[1])
before = heap("Rss")
keep_freed_memory()
taken = heap("Rss") - before
kept = [np.ones(3 << 18, np.float32) for _ in range(100)]
total = sum(map(int, re.findall(r"AnonHugePages:\\s+(\\d+) kB", open("/proc/self/smaps").read())))
print(total, taken)
"""


def _has_huge_pages():
    try:
        with open("/sys/kernel/mm/transparent_hugepage/enabled") as file:
            return "[never]" not in file.read()
    except OSError:
        return False


@pytest.mark.skipif(not _has_huge_pages(), reason="this system supplies no huge pages")
def test_memory_comes_in_huge_pages():
    child = subprocess.run(
        [sys.executable, "-c", _HUGE_PAGES], stdout=subprocess.PIPE, check=True, text=True
    )
    huge, taken = map(int, child.stdout.split())
    assert huge > 200_000
    assert taken < 10_000  # addresses take no memory before they are used


def test_a_limit_of_addresses_is_no_error():
    limited = "import resource; resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))\n"
    subprocess.run([sys.executable, "-c", limited + _PROGRAM], check=True, stdout=subprocess.PIPE)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's mallopt is on Linux")
def test_freed_memory_is_used_again():
    done, faults = _run()
    assert done
    assert faults < 1000  # 64 MB are 16,384 pages of 4 KB


@pytest.mark.parametrize(
    "setting", [{"MALLOC_MMAP_MAX_": "65536"}, {"MALLOC_TRIM_THRESHOLD_": "131072"}]
)
def test_the_persons_own_setting_stays(setting):
    done, faults = _run(**setting)
    assert not done
    assert faults > 10_000 or "MALLOC_MMAP_MAX_" not in setting
