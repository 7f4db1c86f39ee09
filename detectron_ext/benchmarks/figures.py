"""The measured figures of an operator, and the table that shows them."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Iterable, NamedTuple

import torch

from detectron_ext import __version__, output_files


class Result(NamedTuple):
    """The figures of one case.

    Attributes:
        name: of the operator.
        size: the size of the inputs, as the table shows it.
        forward: median seconds of the native forward pass.
        eager_forward: median seconds of PyTorch's forward pass.
        both: median seconds of the native forward and backward pass together.
        eager_both: median seconds of PyTorch's forward and backward pass together.
        bytes_moved: sum over the native operators, forward and backward, of the sizes of their
            inputs and outputs.
        difference: |native - eager| / |eager| in the Euclidean norm, the largest over outputs and
            gradients; NaN if one of them holds a NaN.
        extra_bytes: peak memory of one native run, forward and backward, without inputs, outputs
            and gradients of the inputs.
        eager_extra_bytes: the same for PyTorch.
        operations: multiplications and additions, forward and backward, of convolutions, fully
            connected layers and attention, by their definitions; 0 for others.
        peak: the most of them that the threads did in a second before and after the case; 0 if
            there are none to compare with.
    """

    name: str
    size: str
    forward: float
    eager_forward: float
    both: float
    eager_both: float
    bytes_moved: int
    difference: float
    extra_bytes: int
    eager_extra_bytes: int
    operations: float = 0.0
    peak: float = 0.0

    @property
    def ratio(self) -> float:
        """PyTorch's time divided by the native time, forward and backward."""
        return self.eager_both / self.both

    @property
    def bandwidth(self) -> float:
        """Bytes moved per second, forward and backward."""
        return self.bytes_moved / self.both

    @property
    def share_of_peak(self) -> float:
        """Operations a second, forward and backward, divided by the peak; 0 if one is unknown."""
        return self.operations / self.both / self.peak if self.peak else 0.0


_COLUMNS = (
    ("operator", 29, lambda r: r.name),
    ("on", 46, lambda r: r.size),
    ("forward ms", 10, lambda r: f"{1e3 * r.forward:.2f}"),
    ("eager", 7, lambda r: f"{1e3 * r.eager_forward:.2f}"),
    ("+ backward", 10, lambda r: f"{1e3 * r.both:.2f}"),
    ("eager", 8, lambda r: f"{1e3 * r.eager_both:.2f}"),
    ("ratio", 6, lambda r: f"{r.ratio:.2f}"),
    ("MB moved", 8, lambda r: f"{r.bytes_moved / 1e6:.1f}"),
    ("GB/s", 5, lambda r: f"{r.bandwidth / 1e9:.1f}"),
    ("peak GFLOP/s", 12, lambda r: f"{r.peak / 1e9:.0f}" if r.peak else ""),
    ("of peak", 7, lambda r: f"{100 * r.share_of_peak:.0f} %" if r.share_of_peak else ""),
    ("extra MB", 8, lambda r: f"{r.extra_bytes / 1e6:.0f}"),
    ("eager", 5, lambda r: f"{r.eager_extra_bytes / 1e6:.0f}"),
    ("differ by", 9, lambda r: f"{r.difference:.0e}"),
)


def table_head() -> str:
    """Return the first two lines of a Markdown table of results."""
    return _row([name for name, _, _ in _COLUMNS]) + "\n" + _row(["---"] * len(_COLUMNS))


def table_row(result: Result) -> str:
    """Return one line of the table."""
    return _row([text(result) for _, _, text in _COLUMNS])


def _row(texts: Iterable[str]) -> str:
    cells = (
        text.ljust(width) if i < 2 else text.rjust(width)
        for i, (text, (_, width, _)) in enumerate(zip(texts, _COLUMNS))
    )
    return "| " + " | ".join(cells) + " |"


def write_json(path: str, results: Iterable[Result]) -> None:
    """Write results, with the versions and the machine that they were measured on.

    Args:
        path: the file; its folder is made if needed.
        results: what to write.

    Raises:
        UserError: the file cannot be written.
    """
    content = {
        "version": __version__,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "operators": [
            {**result._asdict(), "ratio": result.ratio, "bandwidth": result.bandwidth}
            for result in results
        ],
    }
    output_files.write_json(path, content)


def _processor() -> str:
    """Return the processor's name and its widest vector instructions."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    fields: dict = {}
    for line in lines:
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    vectors = [name for name in ("avx512f", "avx2", "avx") if name in fields.get("flags", "")]
    return " ".join([fields.get("model name", platform.processor()), *vectors[:1]])
