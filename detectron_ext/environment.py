"""The table of all environment variables that this project reads.

Python code takes the names from here, and docs/configuration.md is generated from here. Shell
scripts, the Makefile and C++ sources write the names out.
"""

from __future__ import annotations

import os
from typing import NamedTuple


class Variable(NamedTuple):
    """One environment variable.

    Attributes:
        name: as it is set in the shell.
        description: what it does, in whole sentences; Markdown.
    """

    name: str
    description: str

    @property
    def value(self) -> str:
        """The present value; "" if the variable is not set."""
        return os.environ.get(self.name, "")


DATA = Variable(
    "DETECTRON_EXT_DATA",
    "The folder that the built-in digit data sets are drawn into. Default: `output/datasets` under "
    "the current folder.",
)
DATASETS = Variable(
    "DETECTRON_EXT_DATASETS",
    "A YAML file of further data sets: a map like that of `DATASETS_EXTRA`.",
)
BCCD_ROOT = Variable(
    "BCCD_ROOT",
    "The folder of the blood cell data set (`bccd_train`, `bccd_val`), with `images/` and "
    "`annotations/`.",
)
COCO_ROOT = Variable(
    "COCO_ROOT",
    "The folder of COCO, with `annotations/` and the image folders, for Detectron's COCO names.",
)
OPERATORS = Variable(
    "DETECTRON_EXT_OPS",
    "`python` runs the Python operators even if the native ones are built.",
)
TARGET = Variable(
    "DETECTRON_EXT_TARGET",
    "The build of the native operators to load: `native`, `x86-64-v4`, `x86-64-v3` or `x86-64-v2`. "
    "Default: the best one that the processor runs.",
)
FAST_CONV = Variable(
    "DETECTRON_EXT_FAST_CONV",
    "How convolutions are computed on the CPU, whatever `LIBRA.FAST_CONV` says: `0` leaves all to "
    "Caffe2; `auto`, `direct` and `winograd` are values of that key. `winograd_2x2` and "
    "`winograd_4x4` also fix the size of the tiles.",
)
OMP_NUM_THREADS = Variable(
    "OMP_NUM_THREADS",
    "CPU threads of a run while `LIBRA.THREADS` is 0. Default: one for each processor.",
)
MKL_NUM_THREADS = Variable(
    "MKL_NUM_THREADS", "The tools set it to the number of threads; a given value has no effect."
)
GOMP_SPINCOUNT = Variable(
    "GOMP_SPINCOUNT",
    "How often a waiting OpenMP thread looks for work before it sleeps. Default: 1000, which suits "
    "a machine that also runs other programs.",
)
MALLOC_MMAP_MAX = Variable(
    "MALLOC_MMAP_MAX_",
    "A setting of glibc's allocator. A training on the CPU with `LIBRA.TRAIN.FREE_BLOBS` keeps the "
    "memory that it frees, which saves the system's work. It leaves the allocator alone if this "
    "variable or `MALLOC_TRIM_THRESHOLD_` is set.",
)
MALLOC_TRIM_THRESHOLD = Variable(
    "MALLOC_TRIM_THRESHOLD_", "A setting of glibc's allocator; see `MALLOC_MMAP_MAX_`."
)
MAX_IMAGE_PIXELS = Variable(
    "OPENCV_IO_MAX_IMAGE_PIXELS",
    "An image file whose header claims more pixels is refused before it is decoded. Default: "
    "268435456 (16,384 x 16,384), which take about 2 GB while they are decoded.",
)

RUNNING = (
    DATA,
    DATASETS,
    BCCD_ROOT,
    COCO_ROOT,
    OPERATORS,
    TARGET,
    FAST_CONV,
    OMP_NUM_THREADS,
    MKL_NUM_THREADS,
    GOMP_SPINCOUNT,
    MALLOC_MMAP_MAX,
    MALLOC_TRIM_THRESHOLD,
    MAX_IMAGE_PIXELS,
)

CXX = Variable("CXX", "The C++ compiler, which must be GCC. Default: `g++` on PATH.")
NVCC = Variable("NVCC", "The CUDA compiler. Default: `nvcc` on PATH.")
CAFFE2 = Variable(
    "CAFFE2",
    "Another Python whose torch carries the Caffe2 to build for, or the folder (with `include` and "
    "`lib`) of a Caffe2 built from source.",
)
SANITIZE = Variable(
    "SANITIZE",
    "`address`, `undefined`, `address,undefined` or `thread` builds the library with these "
    "sanitizers, without CUDA. `fuzz` is `address,undefined` with the coverage that a fuzzer "
    "needs.",
)
CUDA_INCLUDE = Variable(
    "DETECTRON_EXT_CUDA_INCLUDE",
    "Folders with the headers of cuBLAS, cuRAND and cuDNN, which Caffe2's GPU headers include. "
    "They are also searched for in the CUDA toolkit and in the nvidia packages of this Python.",
)
CUDA_ARCHITECTURES = Variable(
    "DETECTRON_EXT_CUDA_ARCHITECTURES",
    "The architectures to compile CUDA kernels for, such as `75 90`. Default: all, which takes "
    "many minutes.",
)
PROTOBUF_INCLUDE = Variable(
    "DETECTRON_EXT_PROTOBUF_INCLUDE",
    "A folder with protobuf's headers, instead of those that pip fetches.",
)
BUILD_TARGETS = Variable(
    "DETECTRON_EXT_BUILD_TARGETS",
    "The processors to compile for, such as `x86-64-v2 x86-64-v3`. Default: `native`, the "
    "processor of this machine.",
)

BUILDING = (
    CXX,
    NVCC,
    CAFFE2,
    SANITIZE,
    CUDA_INCLUDE,
    CUDA_ARCHITECTURES,
    PROTOBUF_INCLUDE,
    BUILD_TARGETS,
)

DETECTRON_PATH = Variable(
    "DETECTRON_PATH",
    "A checkout of upstream Detectron with its Cython parts built. Without it, the tests against "
    "upstream are skipped.",
)
MMDET_PYTHON = Variable(
    "MMDET_PYTHON",
    "A Python with mmdetection, to compare converted weights with. Without it, these tests look "
    "for mmdetection in their own Python.",
)
SHARED = Variable(
    "DETECTRON_EXT_SHARED",
    "A folder with upstream's configurations, test vectors and photographs. Default: `shared` "
    "beside the repository. Tests that need a file which is not there are skipped.",
)
TEST_SEED = Variable(
    "DETECTRON_EXT_TEST_SEED",
    "The seed of random operator tests. A failing test prints the seed that repeats it.",
)
TEST_KILLS = Variable(
    "DETECTRON_EXT_TEST_KILLS",
    "How often `tests/tools/test_kills.py` kills a training. The default is 3. Above 3 it kills a "
    "sweep, too.",
)
TEST_HOSTILE = Variable(
    "DETECTRON_EXT_TEST_HOSTILE",
    "How many hostile inputs `tests/test_hostile_cases.py` makes. The default is 300.",
)
TEST_DISKS = Variable(
    "DETECTRON_EXT_TEST_DISKS",
    "How many sizes of files and of disks `tests/tools/test_disk_full.py` gives a training. The "
    "default is 3. The disks, two of five, need the right to mount.",
)
TEST_DIST = Variable(
    "DETECTRON_EXT_TEST_DIST",
    "A folder with a source distribution and a wheel, which the tests of packaging install. "
    "Without it they build their own.",
)

TESTING = (
    DETECTRON_PATH,
    MMDET_PYTHON,
    SHARED,
    TEST_SEED,
    TEST_KILLS,
    TEST_HOSTILE,
    TEST_DISKS,
    TEST_DIST,
)
