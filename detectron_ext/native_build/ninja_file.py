"""The text of the Ninja file that builds the library: which command makes which file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple, Sequence

from detectron_ext.native_build.cuda import Cuda, Nvcc
from detectron_ext.native_build.targets import Target
from detectron_ext.native_build.toolchain import Caffe2

COMMON_FLAGS = [
    "-std=c++14",
    "-fPIC",
    "-fopenmp",
    "-fno-math-errno",  # sqrt and friends become instructions
    "-fno-trapping-math",  # branches on floats can become vector selects
    "-D_GLIBCXX_USE_CXX11_ABI=0",
    "-DNDEBUG",  # protobuf's checks need symbols that the wheel does not export
    "-Wall",
    "-Wextra",
]
VARIANT_FLAGS = {
    "release": ["-O3"],
    "address": ["-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address"],
    # Checks of virtual calls need type information that Caffe2 is compiled without.
    "undefined": [
        "-O1",
        "-g",
        "-fsanitize=undefined",
        "-fno-sanitize-recover=all",
        "-fno-sanitize=vptr",
    ],
    # Both at once, for a run that has time for one build.
    "address,undefined": [
        "-O1",
        "-fno-omit-frame-pointer",
        "-fsanitize=address,undefined,float-cast-overflow",
        "-fno-sanitize-recover=all",
        "-fno-sanitize=vptr",
    ],
    "thread": ["-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=thread"],
}
# Both at once, and each basic block tells a fuzzer that it runs (tests/ops/fuzz_operators.py).
VARIANT_FLAGS["fuzz"] = [*VARIANT_FLAGS["address,undefined"], "-fsanitize-coverage=trace-pc"]
LINKED_CHECK = "checked.so"
_HEADERS = "operators/caffe2_headers.h"
_PRECOMPILED = f"{_HEADERS}.gch"
CUDA_FLAGS = [
    "-std=c++17",
    "-O3",
    "--expt-relaxed-constexpr",
    "-Xcompiler=-fPIC",
    "-D_GLIBCXX_USE_CXX11_ABI=0",
    "-DNDEBUG",
]
# Newer compilers warn about many lines of Caffe2's headers.
CUDA_OPERATOR_FLAGS = ["-w"]
CUDA_CHECK_FLAGS = [
    "-Werror=all-warnings",
    "-Wno-deprecated-gpu-targets",
    "-Xcompiler=-Wall,-Wextra,-Wno-unused-parameter",  # nvcc's stubs have unused parameters
]


class Inputs(NamedTuple):
    """What a build takes from the machine.

    Attributes:
        compiler: path of GCC's C++ compiler.
        includes: folders with headers that are not ours.
        libraries: linker arguments of every build.
        caffe2: the Caffe2 to build for.
        target: the processors to build for.
        toolchain_id: a hash of the compiler, Caffe2 and processor. Builds share objects only if it
            is the same.
        cuda: the CUDA toolkit, None for a library without CUDA code.
    """

    compiler: str
    includes: Sequence[Path]
    libraries: Sequence[str]
    caffe2: Caffe2
    target: Target
    toolchain_id: str
    cuda: Cuda | None


def ninja_text(sources: Path, folder: Path, library: str, variant: str, inputs: Inputs) -> str:
    """Return a Ninja file that compiles the .cc and .cu files below `sources` into a library.

    It names the sources relative to `folder`. So a moved tree keeps its objects, and the messages
    of the library show no path of the machine that built it.

    Args:
        sources: the folder of the C++ sources.
        folder: where Ninja will run.
        library: file name of the library.
        variant: a key of VARIANT_FLAGS.
        inputs: what the build takes from the machine. If its `cuda` is None, .cu files are left
            out.
    """
    includes = ["-I$sources", *(f"-isystem{path}" for path in inputs.includes)]
    machine = inputs.target.compiler_flags
    flags = [*COMMON_FLAGS, *machine, *VARIANT_FLAGS[variant], *includes, _tag(inputs)]
    command = f"{inputs.compiler} {' '.join(flags)} -MMD"
    rules = _rule("compile", command)
    objects, edges = _edges(sources, "compile", "kernels/*.cc")
    # Reading Caffe2's headers takes longer than compiling an operator, so they are compiled once.
    # GCC looks for the header in Ninja's folder, and takes the compiled form that lies there.
    rules += _rule("precompile", f"{command} -x c++-header")
    rules += _rule("compile_operator", f"{command} -include {_HEADERS}")
    edges += [f"build {_PRECOMPILED}: precompile $sources/{_HEADERS}", f"  name = {_HEADERS}"]
    more_objects, more_edges = _edges(
        sources, "compile_operator", "operators/*.cc", needs=_PRECOMPILED
    )
    objects, edges = objects + more_objects, edges + more_edges
    if inputs.cuda is not None:
        for rule, pattern, flags in (
            ("cuda_kernel", "kernels/*.cu", inputs.cuda.nvcc.kernel_code()),
            ("cuda_operator", "operators/*.cu", cuda_operator_flags(inputs)),
        ):
            command = nvcc_command(inputs.cuda.nvcc, inputs.compiler)
            rules += _rule(rule, f"{command} {' '.join(flags)} {_tag(inputs)} -MD")
            more_objects, more_edges = _edges(sources, rule, pattern)
            objects, edges = objects + more_objects, edges + more_edges
    rules += _link_rule(variant, inputs)
    goal = [f"build {library}: link {' '.join(objects)}", f"default {library}"]
    return "\n".join([_sources_line(sources, folder), *rules, *edges, *goal]) + "\n"


def cuda_check_text(
    sources: Path,
    folder: Path,
    nvcc: Nvcc,
    compiler: str,
    operators: Inputs | None,
    host_objects: Path | None = None,
) -> tuple[str, int]:
    """Return a Ninja file that compiles only the .cu files, and the number of these files.

    Kernels are compiled for the oldest and the newest architecture, with warnings as errors.

    Args:
        sources: the folder of the C++ sources.
        folder: where Ninja will run.
        nvcc: the CUDA compiler.
        compiler: the C++ compiler that nvcc calls.
        operators: what operators are compiled with, or None to leave them out.
        host_objects: the folder of the objects of the .cc files. With it (and operators) the
            objects of both are linked to LINKED_CHECK.
    """
    command = nvcc_command(nvcc, compiler)
    ends = nvcc._replace(architectures=[nvcc.architectures[0], nvcc.architectures[-1]])
    rules = _rule("cuda_kernel", f"{command} {' '.join(ends.kernel_code() + CUDA_CHECK_FLAGS)} -MD")
    objects, edges = _edges(sources, "cuda_kernel", "kernels/*.cu")
    if operators is not None:
        rules += _rule("cuda_operator", f"{command} {' '.join(cuda_operator_flags(operators))} -MD")
        more_objects, more_edges = _edges(sources, "cuda_operator", "operators/*.cu")
        objects, edges = objects + more_objects, edges + more_edges
    files = len(objects)
    goals = objects
    if operators is not None and host_objects is not None:
        host, _ = _edges(sources, "", "kernels/*.cc", "operators/*.cc")
        below = os.path.relpath(str(host_objects), str(folder))
        linked = [*objects, *(f"{below}/{name}" for name in host)]
        rules += _link_rule("release", operators)
        edges.append(f"build {LINKED_CHECK}: link {' '.join(linked)}")
        goals = [LINKED_CHECK]
    lines = [_sources_line(sources, folder), *rules, *edges, f"default {' '.join(goals)}"]
    return "\n".join(lines) + "\n", files


def nvcc_command(nvcc: Nvcc, compiler: str) -> str:
    """Return the command that compiles a CUDA source, without architectures and file names."""
    return f"{nvcc.path} -ccbin {compiler} {' '.join(CUDA_FLAGS)} -I$sources"


def cuda_operator_flags(inputs: Inputs) -> list[str]:
    """Return the flags that an operator's CUDA source needs beyond `nvcc_command`."""
    assert inputs.cuda is not None
    includes = [f"-isystem={path}" for path in [*inputs.includes, *inputs.cuda.includes]]
    return [*CUDA_OPERATOR_FLAGS, *inputs.cuda.nvcc.host_code(), *includes]


def _tag(inputs: Inputs) -> str:
    """Return a macro that no source reads. It makes Ninja recompile when the toolchain changes."""
    return f"-DDETECTRON_EXT_TOOLCHAIN={inputs.toolchain_id}"


def _sources_line(sources: Path, folder: Path) -> str:
    return f"sources = {os.path.relpath(str(sources), str(folder))}"


def _rule(name: str, command: str) -> list[str]:
    return [
        f"rule {name}",
        f"  command = {command} -MF $out.d -c $in -o $out",
        "  depfile = $out.d",
        "  deps = gcc",
        "  description = compile $name",
    ]


def _edges(
    sources: Path, rule: str, *patterns: str, needs: str = ""
) -> tuple[list[str], list[str]]:
    """Return the objects of the files that match the patterns, and Ninja's lines for them.

    Args:
        sources: the folder of the C++ sources.
        rule: what makes an object.
        patterns: of the files.
        needs: a file that must be made first, and without which the objects are out of date.
    """
    objects, lines = [], []
    for source in [path for pattern in patterns for path in sorted(sources.glob(pattern))]:
        name = source.relative_to(sources)
        objects.append(f"{name}.o")
        first = f" | {needs}" if needs else ""
        lines += [f"build {objects[-1]}: {rule} $sources/{name}{first}", f"  name = {name}"]
    return objects, lines


def _link_rule(variant: str, inputs: Inputs) -> list[str]:
    return [
        "rule link",
        f"  command = {inputs.compiler} -shared $in {' '.join(_link(variant, inputs))} -o $out",
        "  description = link $out",
    ]


def _link(variant: str, inputs: Inputs) -> list[str]:
    sanitizer = [flag for flag in VARIANT_FLAGS[variant] if flag.startswith("-fsanitize=")]
    libraries = [f"-L{inputs.caffe2.lib}", *inputs.libraries]
    if inputs.cuda is not None:
        libraries += ["-Wl,--no-as-needed", "-ltorch_cuda", "-lc10_cuda"]
        libraries += [str(inputs.cuda.runtime), "-lrt", "-ldl", "-lpthread"]
    # With -z defs a missing symbol makes the build fail. Without it, loading would fail later.
    # That of "fuzz" may: the fuzzer has the function that basic blocks call.
    return [*sanitizer, *libraries, *([] if variant == "fuzz" else ["-Wl,-z,defs"])]
