"""The kernels' benchmark, with emulated kernels on the CPU. Only times are not tested."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from native_runner import assert_close
from torch_peer import needs_recent_torch

from detectron_ext.errors import UserError
from detectron_ext.kernel_benchmark import build, cases, measure, report, run
from detectron_ext.kernel_benchmark.cases import CASES, Maker, Sizes
from detectron_ext.native_build.cuda import Nvcc
from detectron_ext.ops import reference

pytestmark = needs_recent_torch

REPOSITORY = Path(__file__).resolve().parents[2]
TINY = Sizes(40, 2, 3, 11, 12, 6, ((12, 20), (6, 10), (3, 5), (2, 3), (1, 2)), 1, (5, 8))
L1 = cases._L1


def balanced_l1(case):
    inputs, d_loss = arrays(case.inputs), float(case.d_outputs[0])
    loss = reference.balanced_l1_loss(*inputs, **L1)
    return [loss], [reference.balanced_l1_loss_gradient(*inputs, d_loss, **L1)]


def select_balanced_l1(case):
    inputs, d_loss = arrays(case.inputs), float(case.d_outputs[0])
    loss = reference.select_balanced_l1_loss(*inputs, **L1)
    return [loss], [reference.select_balanced_l1_loss_gradient(*inputs, d_loss, **L1)]


def weighted_sigmoid_focal(case):
    logits, labels, weights, fg_num = arrays(case.inputs)
    inputs, d_loss = [logits, labels, fg_num, weights], float(case.d_outputs[0])
    options = dict(cases._FOCAL, num_classes=TINY.classes)
    loss = reference.weighted_sigmoid_focal_loss(*inputs, **options)
    return [loss], [reference.weighted_sigmoid_focal_loss_gradient(*inputs, d_loss, **options)]


def pyramid_gather(case):
    levels, d_gathered = arrays(case.inputs), arrays(case.d_outputs)[0]
    gathered = reference.balanced_pyramid_gather(levels, refine_level=1)
    gradients = reference.balanced_pyramid_gather_gradient(levels, d_gathered, refine_level=1)
    return [gathered], gradients


def pyramid_scatter(case):
    balanced, *levels = arrays(case.inputs)
    d_scattered = arrays(case.d_outputs)
    scattered = reference.balanced_pyramid_scatter(balanced, levels, refine_level=1)
    gradients = reference.balanced_pyramid_scatter_gradient(balanced, d_scattered, refine_level=1)
    return scattered, gradients[:1]


def attention(case):
    inputs, d_out = arrays(case.inputs), arrays(case.d_outputs)[0]
    out = reference.embedded_gaussian_attention(*inputs, use_scale=1)
    gradients = reference.embedded_gaussian_attention_gradient(*inputs, d_out, use_scale=1)
    return [out], gradients


DEFINITIONS = {
    "balanced_l1": balanced_l1,
    "select_balanced_l1": select_balanced_l1,
    "weighted_sigmoid_focal": weighted_sigmoid_focal,
    "pyramid_gather": pyramid_gather,
    "pyramid_scatter": pyramid_scatter,
    "attention": attention,
    "attention_float32": attention,
}


def arrays(tensors):
    return [tensor.numpy() for tensor in tensors]


@pytest.fixture
def make(kernels):
    return Maker(kernels, "cpu", TINY)


@pytest.mark.parametrize("name", CASES)
def test_kernels_agree_with_the_formulas_and_the_formulas_with_the_definitions(make, name):
    case = CASES[name](make)
    assert case.name == name
    assert measure.run_twice(case)
    outputs, gradients = measure.expected(case)
    assert measure.relative_error(case.outputs, outputs) < report.TOLERANCE
    assert measure.relative_error(case.gradients, gradients) < report.TOLERANCE

    for found, defined in zip((outputs, gradients), DEFINITIONS[name](case)):
        for actual, wanted in zip(found, defined):
            assert_close(actual.numpy().reshape(np.shape(wanted)), wanted, 1e-9)


def test_names_of_kernels_and_sizes_match_the_tool():
    assert list(CASES) == list(run.KERNELS)
    assert list(cases.SIZES) == list(run.SIZES)


def test_every_number_that_is_read_or_written_counts_once(make):
    boxes = 40 * 4 * 4
    case = cases.balanced_l1(make)
    assert (case.forward_bytes, case.backward_bytes) == (4 * boxes, 5 * boxes)

    anchors = 2 * 3 * 12 * 20 * 4
    case = cases.weighted_sigmoid_focal(make)
    assert case.forward_bytes == 13 * anchors + 4
    assert case.backward_bytes == 24 * anchors + 4

    finest, second, others = (2 * 6 * 4 * n for n in (240, 60, 15 + 6 + 2))
    case = cases.pyramid_gather(make)
    assert case.forward_bytes == finest + 2 * second + others
    assert case.backward_bytes == 2 * finest + 2 * second + others
    case = cases.pyramid_scatter(make)
    assert case.forward_bytes == 2 * finest + 3 * second + 2 * others
    assert case.backward_bytes == finest + 3 * second + others

    assert cases.attention(make).forward_flops == 2 * 2 * 6 * 40**2


class TenthSeconds:
    """A clock that says a tenth of a second for everything."""

    def medians(self, stages):
        result = None
        for stage in stages:
            result = stage(result)
        return [0.1] * len(stages)

    def copy_bandwidth(self):
        return 1e6


def test_the_report_has_errors_times_and_ratios(make):
    result = report.measured(make, ["balanced_l1", "attention"], TenthSeconds())
    forward, backward, attention_forward, _ = result["rows"]
    assert forward["kernel"] == "balanced_l1" and backward["pass"] == "backward"
    assert forward["error"] < 1e-6 and forward["same_bits"]
    assert forward["microseconds"] == pytest.approx(1e5)
    assert forward["share_of_copy"] == pytest.approx(40 * 4 * 4 * 4 / 0.1 / 1e6)
    assert forward["ratio_to_eager"] == pytest.approx(1.0)
    assert forward["tflops"] is None and attention_forward["tflops"] > 0
    if not hasattr(torch, "compile"):
        assert forward["ratio_to_compiled"] is None
        assert "balanced_l1: torch.compile: torch" in result["skipped"][0]
    assert report.failures(result["rows"]) == []
    json.dumps(result)
    text = report.table({**result, "device": "a GPU", "torch": "2", "nvcc": "nvcc 13"})
    assert "balanced_l1" in text and "1.00x" in text


def test_a_wrong_kernel_and_changing_bits_are_reported(make, monkeypatch):
    def wrong(make):
        case = cases.balanced_l1(make)
        right = case.backward

        def backward():
            right()
            case.gradients[0][0, 0] += 1

        case.backward = backward
        return case

    def unsteady(make):
        case = cases.pyramid_gather(make)
        right, calls = case.forward, []

        def forward():
            right()
            calls.append(None)
            case.outputs[0].view(-1)[0] += 1e-6 * len(calls)

        case.forward = forward
        return case

    monkeypatch.setitem(CASES, "balanced_l1", wrong)
    monkeypatch.setitem(CASES, "pyramid_gather", unsteady)
    result = report.measured(make, ["balanced_l1", "pyramid_gather"], TenthSeconds())
    assert report.failures(result["rows"]) == [
        "balanced_l1 backward", "pyramid_gather forward", "pyramid_gather backward",
    ]  # fmt: skip


def test_an_unwritten_output_is_an_error(make):
    case = cases.pyramid_scatter(make)
    case.forward = lambda: None
    measure.run_twice(case)
    outputs, _ = measure.expected(case)
    error = measure.relative_error(case.outputs, outputs)
    assert error != error
    assert report.failures([dict(kernel="k", error=error, same_bits=True, **{"pass": "p"})])


def test_a_case_that_cannot_be_timed_is_explained(make, monkeypatch):
    class Clock(TenthSeconds):
        def medians(self, stages):
            if len(stages) == 2 and "time_formula" in sys._getframe(1).f_code.co_name:
                raise RuntimeError("no compiler\nwith many lines")
            return super().medians(stages)

    result = report.measured(make, ["balanced_l1"], Clock())
    assert result["rows"][0]["ratio_to_eager"] is None
    assert result["skipped"][0] == "balanced_l1: eager: RuntimeError: no compiler"


def test_kernels_are_compiled_for_the_gpu_at_hand():
    nvcc = Nvcc("nvcc", ["75", "80", "90"])
    assert build.code_for(nvcc, (8, 0)) == "-gencode=arch=compute_80,code=sm_80"
    assert build.code_for(nvcc, (12, 0)) == "-gencode=arch=compute_90,code=compute_90"
    with pytest.raises(UserError, match=r"sm_75 and newer, the GPU is sm_70"):
        build.code_for(nvcc, (7, 0))


def test_an_architecture_that_nvcc_does_not_know_gives_a_one_line_error(monkeypatch, tmp_path):
    nvcc = tmp_path / "nvcc"
    nvcc.write_text("#!/bin/sh\necho sm_80\n")
    nvcc.chmod(0o755)
    monkeypatch.setenv("NVCC", str(nvcc))
    monkeypatch.setenv("DETECTRON_EXT_CUDA_ARCHITECTURES", "70")
    with pytest.raises(UserError, match="DETECTRON_EXT_CUDA_ARCHITECTURES names 70"):
        build.nvcc_for_benchmark()


@pytest.mark.parametrize("content", [None, "earlier figures"])
def test_checking_the_file_of_figures_does_not_change_it(tmp_path, content):
    file = tmp_path / "figures.json"
    if content is not None:
        file.write_text(content)
    run._require_writable(file)
    assert (file.read_text() if file.exists() else None) == content


def test_the_same_sources_are_compiled_once(tmp_path, monkeypatch):
    log, script = tmp_path / "log", tmp_path / "nvcc"
    script.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && exit\necho "$*" >> {log}\n'
        'for output; do :; done\necho x > "$output"\n'
    )
    script.chmod(0o755)
    (tmp_path / "ops/kernels").mkdir(parents=True)
    (tmp_path / "ops/kernels/one.cu").write_text("")
    monkeypatch.setattr(build, "SOURCES", tmp_path / "ops")
    monkeypatch.setattr(build, "BUILD", tmp_path / "build")
    nvcc = Nvcc(str(script), ["90"])
    library = build.build_kernels(nvcc, (9, 0))
    assert library.is_file()
    assert len(log.read_text().splitlines()) == 2  # an object and the library
    assert build.build_kernels(nvcc, (9, 0)) == library
    assert len(log.read_text().splitlines()) == 2
    (tmp_path / "ops/kernels/one.cu").write_text("// changed")
    assert build.build_kernels(nvcc, (9, 0)) != library


def run_tool(*arguments: str, code: str = "", **environment: str) -> subprocess.CompletedProcess:
    """Run the tool, after `code`, in a process of its own."""
    tool = REPOSITORY / "tools/benchmark_kernels.py"
    start = f"import runpy, sys; sys.argv[0] = {str(tool)!r}; {code}\n"
    return subprocess.run(
        [sys.executable, "-c", start + f"runpy.run_path({str(tool)!r}, run_name='__main__')"]
        + list(arguments),
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


NO_TORCH = "sys.modules['torch'] = None"
NO_CAFFE2 = "sys.modules.update(dict.fromkeys(['caffe2', 'yaml', 'cv2', 'numpy', 'torch']))"


def test_help_and_errors_need_neither_caffe2_nor_torch():
    result = run_tool("--help", code=NO_CAFFE2)
    assert result.returncode == 0 and "--kernels" in result.stdout, result.stderr


@pytest.mark.parametrize(
    ("code", "arguments", "message"),
    [
        (NO_TORCH, [], "error: no torch: "),
        ("import torch; torch.version.cuda = None", [], "is without CUDA"),
        ("import torch; torch.cuda.is_available = lambda: False", [], "error: no GPU"),
        ("import torch; torch.cuda.is_available = lambda: True", [], "error: no nvcc"),
        ("", ["--json", "/dev/null/figures"], "error: cannot write /dev/null/figures: Not a dir"),
        ("", ["--repeat", "0"], "error: --repeat must be at least 1"),
        ("", ["--kernels", "conv"], "error: argument --kernels: invalid choice: 'conv'"),
    ],
)
def test_missing_programs_and_bad_arguments_give_a_one_line_error(code, arguments, message):
    result = run_tool(*arguments, code=code, NVCC="no-such-nvcc")
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1 and message in result.stderr
