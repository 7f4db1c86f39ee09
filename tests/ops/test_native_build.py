"""The build of the native library: what it finds and compiles again, and what its errors say."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from detectron_ext.native_build import (
    BuildError,
    Unavailable,
    check_cuda,
    cuda,
    cuda_check,
    cuda_headers,
    library,
    protobuf,
    toolchain,
)
from detectron_ext.native_build.ninja_file import Inputs, ninja_text
from detectron_ext.native_build.targets import Target, flags_file
from detectron_ext.native_build.toolchain import Caffe2

REPOSITORY = Path(__file__).resolve().parent.parent.parent
SCRIPT = REPOSITORY / "tools/build_ops.py"

HEADERS = "operators/caffe2_headers.h"
NO_TARGET = Target("native", [], [])

needs_compiler = pytest.mark.skipif(
    "SANITIZE" in os.environ or not any(map(shutil.which, ["g++", "c++"])),
    reason="no C++ compiler, or a sanitizer is in this process",
)


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """A tree with one kernel, whose build goes to a temporary folder."""
    (tmp_path / "ops/kernels").mkdir(parents=True)
    (tmp_path / "ops/operators").mkdir()
    (tmp_path / "ops" / HEADERS).write_text("int in_every_operator();\n")
    (tmp_path / "ops/kernels/one.h").write_text("int one();\n")
    (tmp_path / "ops/kernels/one.cc").write_text(
        '#include "kernels/one.h"\nint one() { return 1; }\n'
    )
    monkeypatch.setattr(library, "REPOSITORY", tmp_path)
    monkeypatch.setattr(library, "SOURCES", tmp_path / "ops")
    monkeypatch.setattr(library, "BUILD", tmp_path / "build")
    monkeypatch.setattr(library, "LIBRARIES", tmp_path / "lib")
    # The headers are not what these tests are about.
    monkeypatch.setattr(library, "protobuf_include", lambda version, cache: tmp_path)
    monkeypatch.setenv("NVCC", "no-such-nvcc")
    return tmp_path


def built(sources) -> Path:
    """Where the library of this Python's Caffe2 goes."""
    return sources / "lib" / toolchain.find_caffe2().name / library.NAME


def compiled(capfd) -> list[str]:
    """Return the files that the build says it compiled since the last call."""
    lines = capfd.readouterr().out.splitlines()
    return [line.split()[-1] for line in lines if "] compile " in line]


@needs_compiler
def test_only_new_and_changed_files_are_compiled(sources, capfd):
    assert library.build() == built(sources)
    assert compiled(capfd) == ["kernels/one.cc"]
    first = built(sources).stat().st_mtime_ns

    library.build()
    assert compiled(capfd) == []
    assert built(sources).stat().st_mtime_ns == first

    (sources / "ops/operators/two.cc").write_text("int two() { return 2; }\n")
    library.build()
    assert compiled(capfd) == [HEADERS, "operators/two.cc"]

    (sources / "ops/kernels/one.h").write_text("int one();  // changed\n")
    library.build()
    assert compiled(capfd) == ["kernels/one.cc"]


@needs_compiler
def test_operators_get_caffe2s_headers_which_are_compiled_once(sources, capfd):
    for name in ("two", "three"):
        source = f"int {name}() {{ return in_every_operator(); }}\n"
        (sources / f"ops/operators/{name}.cc").write_text(source)
    (sources / "ops" / HEADERS).write_text("inline int in_every_operator() { return 2; }\n")
    library.build()
    assert sorted(compiled(capfd)) == [
        "kernels/one.cc", HEADERS, "operators/three.cc", "operators/two.cc"
    ]  # fmt: skip
    (sources / "ops" / HEADERS).write_text("inline int in_every_operator() { return 3; }\n")
    library.build()
    assert sorted(compiled(capfd)) == [HEADERS, "operators/three.cc", "operators/two.cc"]


@needs_compiler
def test_another_processor_or_compiler_rebuilds_everything(sources, capfd, monkeypatch):
    library.build()
    compiled(capfd)
    monkeypatch.setattr(library, "processor_flags", lambda: frozenset(["another"]))
    library.build()
    assert compiled(capfd) == ["kernels/one.cc"]


@needs_compiler
def test_each_target_has_its_own_library_and_objects(sources, capfd):
    names = ["native", "x86-64-v2"]
    paths = library.build_or_warn(targets=names)
    assert paths == [built(sources), built(sources).parent / "x86-64-v2" / library.NAME]
    assert compiled(capfd) == ["kernels/one.cc", "kernels/one.cc"]
    assert library.build_or_warn(targets=names) == paths
    assert compiled(capfd) == []
    assert "sse4_2" in flags_file(paths[1]).read_text().split()


@needs_compiler
def test_a_moved_source_tree_keeps_its_objects(sources, tmp_path_factory, capfd, monkeypatch):
    library.build()
    compiled(capfd)
    moved = tmp_path_factory.mktemp("moved") / "tree"
    sources.rename(moved)
    for name, folder in [("REPOSITORY", ""), ("SOURCES", "ops"), ("BUILD", "build")]:
        monkeypatch.setattr(library, name, moved / folder)
    monkeypatch.setattr(library, "protobuf_include", lambda version, cache: sources)
    library.build()
    assert compiled(capfd) == []


@needs_compiler
def test_a_sanitizer_build_has_its_own_objects_and_can_be_undone(sources, capfd):
    def instrumented() -> bool:
        return b"__ubsan" in built(sources).read_bytes()

    (sources / "ops/kernels/one.cc").write_text("int one(int x) { return x + 1; }\n")
    library.build()
    assert not instrumented()
    library.build("undefined")
    assert instrumented()
    compiled(capfd)
    library.build()
    assert compiled(capfd) == []
    assert not instrumented()


@needs_compiler
def test_a_file_that_does_not_compile_fails_the_build(sources):
    (sources / "ops/kernels/bad.cc").write_text("not C++\n")
    with pytest.raises(BuildError, match="did not build"):
        library.build()
    assert not built(sources).exists()


@needs_compiler
def test_a_symbol_that_nothing_defines_fails_the_build(sources):
    (sources / "ops/kernels/bad.cc").write_text("int missing(); int bad() { return missing(); }\n")
    with pytest.raises(BuildError):
        library.build()


def test_an_unknown_sanitizer_is_refused():
    with pytest.raises(ValueError, match="SANITIZE=leak"):
        library.build("leak")


def program(path: Path, script: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_clang_is_not_taken_for_gcc(tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", program(tmp_path / "clang++", "echo clang version 14"))
    with pytest.raises(Unavailable, match="is Clang, not GCC"):
        toolchain.find_compiler()


@pytest.fixture
def toolkit(tmp_path, monkeypatch):
    """A folder with a CUDA toolkit and a Caffe2.

    Its nvcc says that it compiles for sm_50, sm_75, sm_90 and sm_120. When it compiles, it makes
    an empty object, writes its arguments beside it and names no dependencies.
    """
    script = f"""case $1 in
    --dryrun) echo "#$ TOP={tmp_path}/toolkit/bin/.." >&2 ;;
    --list-gpu-code) printf 'sm_50\\nsm_75\\nsm_90\\nsm_120\\n' ;;
    --version) echo "Cuda compilation tools, release 13.0, V13.0.88" ;;
    *) for object; do :; done
       grep -q broken $(echo "$*" | sed 's/.*-c \\([^ ]*\\).*/\\1/') && exit 1
       g++ -x c++ -c /dev/null -o $object
       echo "$*" > $object.args ; echo "$object:" > $object.d ;;
esac"""
    monkeypatch.setenv("NVCC", program(tmp_path / "toolkit/bin/nvcc", script))
    for name in ("DETECTRON_EXT_CUDA_ARCHITECTURES", "DETECTRON_EXT_CUDA_INCLUDE"):
        monkeypatch.delenv(name, raising=False)
    headers = [f"include/{header}" for header in cuda.HEADERS]
    for name in ["lib64/libcudart_static.a", "lib/libtorch_cuda.so", *headers]:
        path = tmp_path / "toolkit" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    return tmp_path / "toolkit"


def test_the_cuda_toolkit_is_found(toolkit):
    found = cuda.find_cuda(toolkit / "lib")
    assert found.nvcc.architectures == ["75", "90", "120"]
    assert found.includes == [toolkit / "include"]
    assert found.runtime == toolkit / "lib64/libcudart_static.a"


def test_only_the_requested_architectures_are_compiled(toolkit, monkeypatch):
    monkeypatch.setenv("DETECTRON_EXT_CUDA_ARCHITECTURES", "90, 75")
    assert cuda.find_nvcc().architectures == ["75", "90"]
    monkeypatch.setenv("DETECTRON_EXT_CUDA_ARCHITECTURES", "90 70")
    with pytest.raises(ValueError, match=r"names 70; .*nvcc compiles for 75 90 120"):
        cuda.find_nvcc()


@pytest.mark.parametrize("name", ["include/curand.h", "lib64/libcudart_static.a", "bin/nvcc"])
def test_a_part_of_cuda_that_is_missing_is_named(toolkit, name):
    (toolkit / name).unlink()
    with pytest.raises(Unavailable, match=Path(name).name):
        cuda.find_cuda(toolkit / "lib")


def test_a_caffe2_without_cuda_is_named(toolkit):
    (toolkit / "lib/libtorch_cuda.so").unlink()
    with pytest.raises(Unavailable, match="no libtorch_cuda.so in"):
        cuda.find_cuda(toolkit / "lib")


def test_kernels_are_compiled_for_every_architecture_and_operators_once(sources, toolkit):
    for name in ("kernels/sum.cu", "operators/sum_op.cu"):
        (sources / "ops" / name).write_text("")
    found = cuda.find_cuda(toolkit / "lib")
    caffe2 = Caffe2("torch", Path(), Path())
    inputs = Inputs("g++", [], ["-lc10"], caffe2, NO_TARGET, "id", found)
    folder = sources / "build"
    text = ninja_text(sources / "ops", folder, "lib.so", "release", inputs)
    rules = {block.split()[0]: block for block in text.split("rule ")[1:]}
    assert "code=sm_75" in rules["cuda_kernel"] and "code=sm_120" in rules["cuda_kernel"]
    assert "code=compute_120" in rules["cuda_kernel"]
    assert "code=sm_" not in rules["cuda_operator"]
    assert text.startswith("sources = ../ops\n")
    assert "build kernels/sum.cu.o: cuda_kernel $sources/kernels/sum.cu" in text
    assert "build operators/sum_op.cu.o: cuda_operator $sources/operators/sum_op.cu" in text
    assert "-ltorch_cuda" in rules["link"]
    cpu = inputs._replace(cuda=None)
    without = ninja_text(sources / "ops", folder, "lib.so", "release", cpu)
    assert ".cu" not in without and "cuda" not in without


@pytest.fixture
def cuda_sources(sources, toolkit, monkeypatch):
    """A tree with a CUDA kernel and a CUDA operator, on a machine that can link both."""
    for name in ("libtorch_cuda.so", "libc10_cuda.so"):
        _compile("-shared", "-Wl,-soname," + name, "-o", str(toolkit / "lib" / name))
    for name in ("kernels/sum.cu", "operators/sum_op.cu"):
        (sources / "ops" / name).write_text("")
    caffe2 = Caffe2("torch-1.10.2", toolkit / "include", toolkit / "lib")
    inputs = Inputs("g++", [], [], caffe2, NO_TARGET, "id", None)

    def find_inputs(variant):
        return inputs._replace(cuda=library._find_cuda(variant, caffe2))

    monkeypatch.setattr(library, "find_inputs", find_inputs)
    monkeypatch.setattr(toolchain, "find_caffe2", lambda: caffe2)
    return sources


def _compile(*arguments: str) -> None:
    subprocess.run(["g++", "-x", "c++", "/dev/null", *arguments], check=True)


def cuda_objects(sources) -> dict[str, str]:
    """Return what nvcc was called with for each object of the check."""
    folder = sources / "build/native/cuda_check"
    return {p.name[: -len(".args")]: p.read_text() for p in folder.rglob("*.cu.o.args")}


@needs_compiler
def test_check_compiles_kernels_for_the_oldest_and_newest_architecture(cuda_sources):
    expected = "CUDA kernels and operators compiled, linked and loaded: 2 files"
    assert check_cuda() == expected
    objects = cuda_objects(cuda_sources)
    kernel = objects["sum.cu.o"]
    assert "code=sm_75" in kernel and "code=sm_120" in kernel and "code=sm_90" not in kernel
    assert "-Werror" in kernel and "-ccbin" in kernel
    assert "code=sm_" not in objects["sum_op.cu.o"] and "-w " in objects["sum_op.cu.o"]


@needs_compiler
def test_check_without_the_headers_compiles_only_the_kernels(cuda_sources, toolkit, capfd):
    (toolkit / "include/curand.h").unlink()
    assert check_cuda() == "CUDA kernels compiled: 1 files"
    assert list(cuda_objects(cuda_sources)) == ["sum.cu.o"]
    assert "CUDA operators left out: no curand.h" in capfd.readouterr().out


@needs_compiler
def test_check_leaves_the_library_of_the_package(cuda_sources):
    check_cuda()
    assert not (cuda_sources / "lib").exists()


@needs_compiler
def test_check_fails_if_a_symbol_is_missing(cuda_sources):
    (cuda_sources / "ops/kernels/one.cc").write_text("int two();\nint one() { return two(); }\n")
    with pytest.raises(BuildError, match="did not build|did not compile"):
        check_cuda()


def test_a_library_that_does_not_load_is_named(tmp_path):
    (tmp_path / "no.so").write_text("no library")
    with pytest.raises(BuildError, match="does not load: .*no.so"):
        cuda_check._load(tmp_path / "no.so")


def wheel_with(*names: str):
    """Return a function that takes the place of the download, and writes such wheels."""

    def download(requirement, folder):
        path = folder / "some.whl"
        with zipfile.ZipFile(str(path), "w") as archive:
            for name in names:
                archive.writestr(name, requirement)
        return path

    return download


def test_headers_are_taken_out_of_wheels_once(toolkit, tmp_path, monkeypatch):
    names = ("nvidia/cu13/include/curand.h", "nvidia/cu13/include/a/b.hpp", "nvidia/lib/x.so")
    monkeypatch.setattr(cuda_headers, "_download", wheel_with(*names, "x/include/../../out.h"))
    version = cuda.find_nvcc().version()
    folder = cuda_headers.fetch_headers(version, tmp_path / "cache")
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    assert (version, files) == ("13.0", ["a/b.hpp", "curand.h"])
    assert [p.name for p in (tmp_path / "cache").iterdir()] == ["cuda-13-headers"]
    monkeypatch.setattr(cuda_headers, "_download", None)
    assert cuda_headers.fetch_headers(version, tmp_path / "cache") == folder


def test_headers_of_an_unknown_cuda_are_refused(tmp_path):
    with pytest.raises(Unavailable, match="known for CUDA 12 and 13, not 10.2"):
        cuda_headers.fetch_headers("10.2", tmp_path)


@needs_compiler
def test_headers_that_are_here_are_not_fetched(cuda_sources, monkeypatch):
    monkeypatch.setattr(cuda_check, "fetch_headers", None)
    assert "linked and loaded" in check_cuda(fetch=True)


@needs_compiler
def test_headers_are_not_fetched_for_a_caffe2_without_cuda(
    cuda_sources, toolkit, monkeypatch, capfd
):
    (toolkit / "lib/libtorch_cuda.so").unlink()
    monkeypatch.setattr(cuda_check, "fetch_headers", None)
    assert check_cuda(fetch=True) == "CUDA kernels compiled: 1 files"
    assert "CUDA operators left out: no libtorch_cuda.so" in capfd.readouterr().out


@needs_compiler
def test_check_without_an_index_compiles_only_the_kernels(
    cuda_sources, toolkit, monkeypatch, capfd
):
    (toolkit / "include/curand.h").unlink()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    assert check_cuda(fetch=True) == "CUDA kernels compiled: 1 files"
    assert "CUDA operators left out: pip could not fetch nvidia-cublas" in capfd.readouterr().out


def test_fetching_headers_needs_the_check():
    result = run_script("--fetch-headers")
    assert result.returncode == 2 and "--fetch-headers needs --check-cuda" in result.stderr


@needs_compiler
def test_check_fails_if_a_kernel_does_not_compile(cuda_sources):
    (cuda_sources / "ops/kernels/sum.cu").write_text("broken")
    with pytest.raises(BuildError, match="CUDA sources did not compile"):
        check_cuda()


def test_check_without_nvcc_prints_one_line_and_succeeds():
    result = run_script("--check-cuda", NVCC="no-such-nvcc")
    assert result.returncode == 0 and result.stderr == ""
    assert result.stdout == "CUDA sources not compiled: no nvcc\n"


def run_script(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    clean = {
        name: value
        for name, value in os.environ.items()
        if name not in ("CXX", "SANITIZE", "LD_PRELOAD", "NVCC")
    }
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        env={**clean, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"PATH": "/nowhere"}, "no C++ compiler"),
        ({"CXX": "no-such-compiler"}, "CXX=no-such-compiler is not a program"),
        ({"DETECTRON_EXT_PROTOBUF_INCLUDE": "/nowhere"}, "has no google/protobuf/message.h"),
    ],
)
def test_missing_programs_and_headers_give_a_one_line_warning(environment, reason):
    if "PATH" not in environment and shutil.which("g++") is None:
        pytest.skip("no C++ compiler")
    result = run_script(**environment)
    assert result.returncode == 0
    assert len(result.stderr.splitlines()) == 1
    assert reason in result.stderr
    assert result.stderr.endswith("the Python operators will be used\n")


@pytest.mark.parametrize("more", [(), ("--check-cuda",)])
def test_an_unknown_target_is_named_before_anything_is_fetched_or_compiled(tmp_path, more):
    # A compiler or a Caffe2 that is missing would be named first if the target were checked later.
    result = run_script("--targets", "x86-64-v3,sparc", *more, CXX="none", NVCC="none")
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr.startswith("error: unknown target sparc: give native or x86-64-v4")


def test_an_unknown_target_of_the_environment_is_named_with_its_variable():
    result = run_script(DETECTRON_EXT_BUILD_TARGETS="sparc", CXX="none")
    assert result.returncode == 2
    message = "error: DETECTRON_EXT_BUILD_TARGETS: unknown target sparc: give native or x86-64-v4"
    assert result.stderr.startswith(message)


def test_headers_are_fetched_after_all_other_checks(monkeypatch):
    def fetch(version, cache):
        raise AssertionError("fetched")

    monkeypatch.setattr(library, "protobuf_include", fetch)
    with pytest.raises(ValueError, match="unknown target sparc"):
        library.find_inputs("release", None, "sparc")
    monkeypatch.setattr(library.toolchain, "find_mkl_include", _missing_header)
    with pytest.raises(Unavailable, match="no mkl_cblas.h"):
        library.find_inputs("release")


def _missing_header(caffe2):
    raise Unavailable("no mkl_cblas.h")


@pytest.fixture
def installed(tmp_path):
    """A Caffe2 built from source, installed in a folder."""
    for name in ("include/caffe2/proto/caffe2.pb.h", "lib/libtorch.so", "lib/libc10.so"):
        path = tmp_path / "installed" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    return tmp_path / "installed"


@pytest.mark.parametrize("prefix", ["", "GOOGLE_"])
def test_the_version_of_protobuf_is_read_from_caffe2s_header(installed, prefix):
    header = installed / "include/caffe2/proto/caffe2.pb.h"
    caffe2 = toolchain.find_caffe2(str(installed))
    with pytest.raises(Unavailable):
        toolchain.generated_with_protobuf(caffe2)
    header.write_text(
        f"#if {prefix}PROTOBUF_VERSION < 3011000\n"
        f"#if 3011004 < {prefix}PROTOBUF_MIN_PROTOC_VERSION\n"
    )
    assert toolchain.generated_with_protobuf(caffe2) == "3.11.4"


def test_a_caffe2_built_from_source_is_used_through_its_folder(installed):
    caffe2 = toolchain.find_caffe2(str(installed))
    assert caffe2 == Caffe2("source", installed / "include", installed / "lib")
    assert toolchain.find_libraries(caffe2) == ["-ltorch", "-lc10"]
    assert toolchain.find_openmp(caffe2) == "-lgomp"
    (installed / "lib/libtorch_cpu.so").write_text("")
    assert toolchain.find_libraries(caffe2) == ["-ltorch_cpu", "-lc10"]
    (installed / "lib/libc10.so").unlink()
    with pytest.raises(Unavailable, match="holds no Caffe2 library"):
        toolchain.find_libraries(caffe2)


def test_a_named_python_gives_its_own_caffe2(tmp_path):
    assert toolchain.find_caffe2(sys.executable) == toolchain.find_caffe2()
    torch = tmp_path / "torch"
    (torch / "include/caffe2/proto").mkdir(parents=True)
    (torch / "include/caffe2/proto/caffe2.pb.h").write_text("")
    (torch / "version.py").write_text("__version__ = '1.8.1+cu102'\n")
    python = program(tmp_path / "python", f"echo {torch}")
    assert toolchain.find_caffe2(python).name == "torch-1.8.1"


@pytest.mark.parametrize(
    ("given", "reason"),
    [("/bin/false", "not a Python with a torch package"), ("/no/such", "not a program")],
)
def test_a_path_without_caffe2_is_an_error(given, reason):
    result = run_script("--caffe2", given)
    assert result.returncode == 2
    assert result.stderr.startswith("error: CAFFE2=") and reason in result.stderr


def archive(folder: Path, names: list[str]) -> Path:
    path = folder / "source.tar.gz"
    (folder / "content").write_text("content")
    with tarfile.open(str(path), "w:gz") as tar:
        for name in names:
            tar.add(str(folder / "content"), name)
    return path


def test_only_the_headers_are_taken_from_the_archive(tmp_path, monkeypatch):
    inside = "grpcio-tools-1/third_party/protobuf/src/google/protobuf"
    names = ["message.h", "port_def.inc", "message.cc", "../../../../../escaped.h"]
    path = archive(tmp_path, [f"{inside}/{name}" for name in names] + ["grpcio-tools-1/other.h"])
    monkeypatch.setattr(protobuf, "_download", lambda requirement, folder: path)
    include = protobuf.protobuf_include("3.13.0", tmp_path / "cache")
    found = [str(p.relative_to(include)) for p in include.rglob("*") if p.is_file()]
    assert sorted(found) == ["google/protobuf/message.h", "google/protobuf/port_def.inc"]
    assert not list(tmp_path.rglob("escaped.h"))


def test_headers_that_cannot_be_fetched_leave_nothing_behind(tmp_path, monkeypatch):
    path = archive(tmp_path, ["grpcio-tools-1/readme"])
    monkeypatch.setattr(protobuf, "_download", lambda requirement, folder: path)
    with pytest.raises(Unavailable, match="holds no protobuf headers"):
        protobuf.protobuf_include("3.13.0", tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_protobuf_version_of_unknown_source_is_named(tmp_path):
    with pytest.raises(Unavailable, match=r"protobuf 9\.1\.0 .*DETECTRON_EXT_PROTOBUF_INCLUDE"):
        protobuf.protobuf_include("9.1.0", tmp_path)
