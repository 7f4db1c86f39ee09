"""Targets: the processors that a native library is compiled for.

A target is either "native", the processor of the machine that compiles, or one of the levels that
the x86-64 System V ABI names: x86-64-v2 (SSE4.2), x86-64-v3 (AVX2 and FMA) and x86-64-v4
(AVX-512). A file beside each library lists the processor flags that the library needs, so that a
process can check them before it loads the library.
"""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import NamedTuple, Sequence

from detectron_ext import environment
from detectron_ext.native_build.toolchain import Unavailable

NATIVE = "native"
BUILD_VARIABLE = environment.BUILD_TARGETS.name
_FLAGS_SUFFIX = ".flags"

_V2 = "-march=x86-64 -msse3 -mssse3 -msse4.1 -msse4.2 -mpopcnt -mcx16 -msahf"
_V3 = f"{_V2} -mavx -mavx2 -mfma -mf16c -mbmi -mbmi2 -mlzcnt -mmovbe"
_V4 = f"{_V3} -mavx512f -mavx512bw -mavx512cd -mavx512dq -mavx512vl"

# Level -> the compiler's flags for it, the most capable level first. Only GCC 11 and newer take the
# names of the levels; all versions take the single flags.
LEVELS = {"x86-64-v4": _V4, "x86-64-v3": _V3, "x86-64-v2": _V2}

# The macro that GCC defines if it may use an extension -> the extension's flag in /proc/cpuinfo.
# Extensions that GCC uses only through intrinsics (AES, SHA, ...) are not listed.
_PROCESSOR_FLAGS = {
    "__SSE3__": "pni",
    "__SSSE3__": "ssse3",
    "__SSE4_1__": "sse4_1",
    "__SSE4_2__": "sse4_2",
    "__SSE4A__": "sse4a",
    "__POPCNT__": "popcnt",
    "__GCC_HAVE_SYNC_COMPARE_AND_SWAP_16": "cx16",
    "__LAHF_SAHF__": "lahf_lm",
    "__AVX__": "avx",
    "__AVX2__": "avx2",
    "__FMA__": "fma",
    "__FMA4__": "fma4",
    "__XOP__": "xop",
    "__TBM__": "tbm",
    "__F16C__": "f16c",
    "__BMI__": "bmi1",
    "__BMI2__": "bmi2",
    "__LZCNT__": "abm",
    "__MOVBE__": "movbe",
    "__GFNI__": "gfni",
    "__AVXVNNI__": "avx_vnni",
    "__AVX512F__": "avx512f",
    "__AVX512BW__": "avx512bw",
    "__AVX512CD__": "avx512cd",
    "__AVX512DQ__": "avx512dq",
    "__AVX512VL__": "avx512vl",
    "__AVX512IFMA__": "avx512ifma",
    "__AVX512VBMI__": "avx512vbmi",
    "__AVX512VBMI2__": "avx512_vbmi2",
    "__AVX512VNNI__": "avx512_vnni",
    "__AVX512BITALG__": "avx512_bitalg",
    "__AVX512VPOPCNTDQ__": "avx512_vpopcntdq",
    "__AVX512BF16__": "avx512_bf16",
    "__AVX512FP16__": "avx512_fp16",
}


class Target(NamedTuple):
    """What a library is compiled for.

    Attributes:
        name: "native" or a key of LEVELS.
        compiler_flags: the flags that make GCC compile for it.
        processor_flags: the processor flags that the library needs, as in /proc/cpuinfo, sorted.
    """

    name: str
    compiler_flags: Sequence[str]
    processor_flags: Sequence[str]


def find_target(name: str, compiler: str) -> Target:
    """Return the target of a name.

    Args:
        name: "native" or a key of LEVELS.
        compiler: path of GCC's C++ compiler.

    Raises:
        ValueError: the name is unknown.
        Unavailable: the compiler or this machine cannot compile for the target.
    """
    require_known(name)
    if name != NATIVE and platform.machine() not in ("x86_64", "AMD64"):
        raise Unavailable(f"target {name} needs an x86-64 machine, this is {platform.machine()}")
    flags = LEVELS.get(name, "-march=native").split()
    return Target(name, flags, _needed_by(compiler, flags))


def require_known(name: str, source: str = "") -> None:
    """Raise ValueError if a target is unknown; the message lists the known ones.

    Args:
        name: the target.
        source: what the message begins with, such as "DETECTRON_EXT_BUILD_TARGETS: ".
    """
    if name != NATIVE and name not in LEVELS:
        raise ValueError(f"{source}unknown target {name}: give {NATIVE} or {', '.join(LEVELS)}")


def wanted_targets(names: str | None = None) -> list[str]:
    """Return the names of the targets to build: those given, else those of the environment.

    Args:
        names: separated by commas or spaces. Default: the environment variable
            DETECTRON_EXT_BUILD_TARGETS. If that is not set either, the native target alone.

    Returns:
        At least one name, and none twice.
    """
    text = names or os.environ.get(BUILD_VARIABLE) or NATIVE
    return list(dict.fromkeys(text.replace(",", " ").split())) or [NATIVE]


def library_path(folder: Path, target: str, file_name: str) -> Path:
    """Return the path of a target's library.

    Args:
        folder: the folder of the libraries for one Caffe2.
        target: "native" or a key of LEVELS.
        file_name: the library's file name.
    """
    return folder / file_name if target == NATIVE else folder / target / file_name


def write_needed_flags(library: Path, target: Target) -> None:
    """Write the file beside a library that lists the processor flags that the library needs."""
    flags_file(library).write_text(" ".join(target.processor_flags) + "\n")


def lacking_flags(library: Path) -> list[str]:
    """Return the processor flags that a library needs and this machine lacks.

    The list is empty if the library has no file of flags, or if the operating system does not tell
    the flags of the processor.
    """
    present, path = processor_flags(), flags_file(library)
    if present is None or not path.is_file():
        return []
    return [flag for flag in path.read_text().split() if flag not in present]


def processor_flags() -> frozenset[str] | None:
    """Return the flags of this machine's processor, or None if /proc/cpuinfo has none."""
    try:
        with open("/proc/cpuinfo") as info:
            for line in info:
                name, _, flags = line.partition(":")
                if name.strip() == "flags":
                    return frozenset(flags.split())
    except OSError:
        pass
    return None


def flags_file(library: Path) -> Path:
    """Return the file beside a library that lists the processor flags that it needs."""
    return library.with_suffix(_FLAGS_SUFFIX)


def _needed_by(compiler: str, flags: Sequence[str]) -> list[str]:
    """Return the processor flags of the extensions that the compiler uses when given `flags`."""
    command = [compiler, *flags, "-dM", "-E", "-x", "c++", os.devnull]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if result.returncode:
        raise Unavailable(f"{compiler} does not take {' '.join(flags)}")
    macros = {line.split()[1] for line in result.stdout.decode().splitlines() if line.strip()}
    return sorted(flag for macro, flag in _PROCESSOR_FLAGS.items() if macro in macros)
