"""Targets of the native library: what each needs, and which build a processor gets."""

from __future__ import annotations

import shutil

import pytest

from detectron_ext.errors import ConfigError
from detectron_ext.native_build import library, targets, toolchain
from detectron_ext.ops import library_paths

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")

# Flags of /proc/cpuinfo by the x86-64 System V ABI, section "Microarchitecture levels".
V2 = {"cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"}
V3 = V2 | {"abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"}
V4 = V3 | {"avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"}


@needs_compiler
@pytest.mark.parametrize(
    ("level", "flags"), [("x86-64-v2", V2), ("x86-64-v3", V3), ("x86-64-v4", V4)]
)
def test_a_level_needs_exactly_the_flags_of_the_abi(level, flags):
    assert set(targets.find_target(level, "g++").processor_flags) == flags


@needs_compiler
def test_this_processor_runs_code_that_is_compiled_for_it():
    present = targets.processor_flags()
    if present is None:
        pytest.skip("the operating system does not tell the processor's flags")
    assert set(targets.find_target("native", "g++").processor_flags) <= present


def test_an_unknown_target_is_refused():
    with pytest.raises(ValueError, match=r"unknown target x86-64-v5: give native or x86-64-v4"):
        targets.find_target("x86-64-v5", "g++")


def test_targets_come_from_the_argument_then_the_environment_then_native(monkeypatch):
    monkeypatch.delenv("DETECTRON_EXT_BUILD_TARGETS", raising=False)
    assert targets.wanted_targets() == ["native"]
    monkeypatch.setenv("DETECTRON_EXT_BUILD_TARGETS", "x86-64-v2 x86-64-v3")
    assert targets.wanted_targets() == ["x86-64-v2", "x86-64-v3"]
    assert targets.wanted_targets("native,x86-64-v4") == ["native", "x86-64-v4"]
    assert targets.wanted_targets("x86-64-v4, native x86-64-v4") == ["x86-64-v4", "native"]


@pytest.mark.parametrize("names", ["", " ", ","])
def test_an_empty_list_of_targets_means_native(monkeypatch, names):
    monkeypatch.setenv("DETECTRON_EXT_BUILD_TARGETS", names)
    assert targets.wanted_targets() == ["native"]


@needs_compiler
def test_a_sanitizer_builds_for_this_machine_only():
    with pytest.raises(ValueError, match="SANITIZE=address builds for this machine only"):
        library.build("address", target="x86-64-v2")


@pytest.fixture
def built(tmp_path, monkeypatch):
    """Return a function that makes the files of a build, and the path that it returns."""
    monkeypatch.delenv("DETECTRON_EXT_TARGET", raising=False)
    monkeypatch.setattr(library_paths, "_FOLDER", tmp_path)
    folder = tmp_path / toolchain.find_caffe2().name

    def build(name, flags=()):
        path = targets.library_path(folder, name, library.NAME)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        targets.write_needed_flags(path, targets.Target(name, [], sorted(flags)))
        return path

    return build


@pytest.fixture
def processor(monkeypatch):
    """Return a function that sets the flags of the processor."""

    def set_flags(flags):
        monkeypatch.setattr(targets, "processor_flags", lambda: flags and frozenset(flags))

    return set_flags


def test_the_most_capable_level_that_the_processor_runs_is_chosen(built, processor):
    v4, v3, v2 = built("x86-64-v4", V4), built("x86-64-v3", V3), built("x86-64-v2", V2)
    for flags, path in [(V4, v4), (V3, v3), (V2, v2), (V4 - {"avx512dq"}, v3)]:
        processor(flags)
        assert library_paths.native_library() == path
        assert library_paths.library_problem(path) is None


def test_a_native_build_comes_first_unless_another_machine_made_it(built, processor):
    native, v3 = built("native", V4), built("x86-64-v3", V3)
    processor(V4)
    assert library_paths.native_library() == native
    processor(V3)
    assert library_paths.native_library() == v3


def test_a_library_built_elsewhere_gives_one_line_that_names_the_missing_flags(built, processor):
    native = built("native", V4)
    processor(V4 - {"avx512f", "avx512vl"})
    assert library_paths.native_library() == native
    assert library_paths.library_problem(native) == (
        f"{native} needs a processor with avx512f, avx512vl (run `make ops`)"
    )


def test_the_environment_forces_a_target(built, processor, monkeypatch):
    built("native", V4)
    v2 = built("x86-64-v2", V2)
    processor(V4)
    monkeypatch.setenv("DETECTRON_EXT_TARGET", "x86-64-v2")
    assert library_paths.native_library() == v2
    monkeypatch.setenv("DETECTRON_EXT_TARGET", "x86-64-v3")
    assert library_paths.library_problem(library_paths.native_library()) == (
        "the native operators are not built for DETECTRON_EXT_TARGET=x86-64-v3 "
        "(unset DETECTRON_EXT_TARGET)"
    )
    monkeypatch.setenv("DETECTRON_EXT_TARGET", "x86-64-v33")
    with pytest.raises(
        ConfigError, match=r"^DETECTRON_EXT_TARGET must be .*did you mean x86-64-v3"
    ):
        library_paths.native_library()


def test_a_library_is_loaded_if_flags_are_unknown(built, processor):
    native = built("native", V4)
    processor(None)
    assert library_paths.library_problem(native) is None
    processor(V2)
    targets.flags_file(native).unlink()
    assert library_paths.library_problem(native) is None


def test_the_message_asks_for_the_native_build_if_there_is_none(built):
    path = library_paths.native_library()
    assert path.name == library.NAME and not path.exists()
    assert library_paths.library_problem(path) == (
        "the native operators are not built (run `make ops`)"
    )
