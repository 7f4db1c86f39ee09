"""Compiles, checks and times the kernels: what the tool benchmark_kernels.py calls.

It imports PyTorch only if it is there, so that `--help` and error messages need nothing.
"""

from __future__ import annotations

import datetime
import re
import subprocess
from pathlib import Path
from typing import Any, Sequence

from detectron_ext.errors import UserError
from detectron_ext.kernel_benchmark.build import build_kernels, nvcc_for_benchmark

KERNELS = (
    "balanced_l1",
    "select_balanced_l1",
    "weighted_sigmoid_focal",
    "pyramid_gather",
    "pyramid_scatter",
    "attention",
    "attention_float32",
)
SIZES = ("small", "large")


def benchmark_kernels(
    size: str, names: Sequence[str], repeat: int, json_file: Path | None = None
) -> int:
    """Compile, check and time the kernels on this machine's GPU and print a table.

    Args:
        size: one of SIZES: "small" is the data of a training step, "large" a gigabyte and more.
        names: some of KERNELS; empty for all.
        repeat: how often each pass is timed; the median is reported.
        json_file: file to write the same numbers to.

    Returns:
        The exit status: 1 if a kernel is wrong or not deterministic, else 0.

    Raises:
        UserError: there is no nvcc, no PyTorch with CUDA or no GPU, or the file cannot be written.
    """
    if json_file is not None:
        _require_writable(json_file)
    torch = _torch_with_gpu()
    nvcc = nvcc_for_benchmark()
    library = build_kernels(nvcc, torch.cuda.get_device_capability())

    from detectron_ext.kernel_benchmark import cases, measure, report
    from detectron_ext.kernel_benchmark.kernels import Kernels
    from detectron_ext.output_files import write_json

    kernels = Kernels(library, lambda: torch.cuda.current_stream().cuda_stream)
    make = cases.Maker(kernels, "cuda", cases.SIZES[size])
    result: dict[str, Any] = {
        "device": torch.cuda.get_device_name(),
        "date": datetime.date.today().isoformat(),
        "torch": torch.__version__,
        "nvcc": _version(nvcc.path),
        "size": size,
        **report.measured(make, names or KERNELS, measure.Clock(repeat)),
    }
    print(report.table(result))
    if json_file is not None:
        write_json(str(json_file), result)
    failed = report.failures(result["rows"])
    if failed:
        print(f"failed (error above {report.TOLERANCE:g}, or bits differ): {', '.join(failed)}")
    return 1 if failed else 0


def _require_writable(path: Path) -> None:
    """Raise UserError if the file cannot be written. Its content stays as it is."""
    is_new = not path.exists()
    try:
        path.open("a").close()
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
    if is_new:
        path.unlink()


def _torch_with_gpu() -> Any:
    try:
        import torch
    except ImportError:
        raise UserError("no torch: run this with a Python that has a PyTorch with CUDA") from None
    if torch.version.cuda is None:
        raise UserError(f"torch {torch.__version__} is without CUDA: install a build with it")
    if not torch.cuda.is_available():
        raise UserError("no GPU that PyTorch can use on this machine")
    return torch


def _version(nvcc: str) -> str:
    output = subprocess.run([nvcc, "--version"], stdout=subprocess.PIPE).stdout.decode()
    found = re.search(r"release ([\d.]+)", output)
    return f"nvcc {found.group(1)}" if found else "nvcc"
