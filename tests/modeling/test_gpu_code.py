"""GPUs that the installed libraries have no machine code for are left out, with one line each."""

from __future__ import annotations

import logging

import pytest
import torch
from caffe2.python import workspace

from detectron_ext.modeling import devices, gpu_code
from detectron_ext.native_build.cuda import (
    Cuda,
    Nvcc,
    architectures_file,
    architectures_of,
    write_architectures,
)

_TORCH = ["sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86"]
_K40, _V100, _T4, _H100 = (
    {"name": name, "major": major, "minor": minor}
    for name, major, minor in (
        ("Tesla K40", 3, 5), ("V100", 7, 0), ("T4", 7, 5), ("H100", 9, 0)
    )
)  # fmt: skip


@pytest.fixture
def count(monkeypatch, caplog):
    """Return a function: GPUs, architectures -> number of usable GPUs and what was logged."""

    def run(gpus, torch_code=_TORCH, native_code=()):
        monkeypatch.setattr(workspace, "has_gpu_support", True)
        monkeypatch.setattr(workspace, "NumGpuDevices", lambda: len(gpus))
        monkeypatch.setattr(workspace, "GetDeviceProperties", lambda number: gpus[number])
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: list(torch_code))
        monkeypatch.setattr(gpu_code, "native_architectures", lambda: list(native_code))
        gpu_code._say_once.cache_clear()  # other tests may have logged it
        caplog.clear()
        with caplog.at_level(logging.INFO, "detectron_ext"):
            numbers = {devices.available_gpus() for _ in range(2)}
        (number,) = numbers
        return number, [record.getMessage() for record in caplog.records]

    return run


def test_gpus_that_torch_has_code_for_are_counted_without_a_message(count):
    assert count([_V100, _T4, _V100]) == (3, [])
    assert count([]) == (0, [])


@pytest.mark.parametrize("gpu, capability", [(_K40, "3.5"), (_H100, "9.0")])
def test_a_gpu_without_code_is_left_out_and_named_once(count, gpu, capability):
    line = (
        f"GPU {{}} ({gpu['name']}) is left out: its compute capability is {capability}, and torch "
        f"has code for {' '.join(_TORCH)} only"
    )
    assert count([gpu]) == (0, [line.format(0)])
    assert count([_V100, gpu]) == (1, [line.format(1)])


def test_a_gpu_after_one_without_code_is_left_out_with_the_way_to_use_it(count):
    number, lines = count([_V100, _K40, _T4])
    assert number == 1 and len(lines) == 2
    assert lines[1] == (
        "GPU 2 (T4) is left out: it stands after GPU 1, which cannot be used; choose the GPUs by "
        "CUDA_VISIBLE_DEVICES (here 0,2)"
    )


def test_the_native_library_needs_code_for_the_gpu_too(count):
    number, (line,) = count([_V100], native_code=["sm_80", "compute_80"])
    assert number == 0
    assert line.endswith("and the native library has code for sm_80 compute_80 only")


@pytest.mark.parametrize(
    ("architectures", "capability", "runs"),
    [
        (["sm_70"], (7, 0), True),
        (["sm_70"], (7, 5), True),  # machine code runs on later minor versions
        (["sm_75"], (7, 0), False),
        (["sm_70"], (8, 0), False),
        (["compute_70"], (9, 0), True),  # the driver compiles PTX for later GPUs
        (["compute_80"], (7, 5), False),
        (["sm_100"], (10, 0), True),
        (["sm_90a"], (9, 0), True),
        ([], (3, 5), True),  # nothing is known
        (["gfx906"], (9, 0), True),
    ],
)
def test_which_code_runs_on_which_gpu(architectures, capability, runs):
    assert gpu_code.has_code_for(architectures, capability) == runs


def test_a_torch_that_does_not_tell_its_code_leaves_nothing_out(count, monkeypatch):
    assert count([_K40], torch_code=[]) == (1, [])
    monkeypatch.delattr(torch.cuda, "get_arch_list")
    assert gpu_code._torch_architectures() == []


def test_a_library_tells_its_code_in_a_file_beside_it(tmp_path):
    library = tmp_path / "libx.so"
    assert architectures_of(library) == []
    cuda = Cuda(Nvcc("nvcc", ["75", "90"]), [], tmp_path)
    write_architectures(library, cuda)
    assert architectures_of(library) == ["sm_75", "sm_90", "compute_90"]
    write_architectures(library, None)
    assert architectures_file(library).is_file() and architectures_of(library) == []
