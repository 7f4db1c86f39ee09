"""All cases of the operators' benchmark."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from detectron_ext.benchmarks.depthwise_cases import depthwise_cases
from detectron_ext.benchmarks.layer_cases import layer_cases
from detectron_ext.benchmarks.loss_cases import loss_cases
from detectron_ext.benchmarks.operator_case import OperatorCase
from detectron_ext.benchmarks.pyramid_cases import pyramid_cases


def operator_cases(only: Sequence[str] | None = None) -> Iterator[OperatorCase]:
    """Yield the cases to measure. The inputs of one group exist at a time.

    Args:
        only: parts of operators' names, in upper or lower case; None or empty for all cases.
    """
    for make in (loss_cases, pyramid_cases, layer_cases, depthwise_cases):
        for case in make(np.random.default_rng(0)):
            if not only or any(part.lower() in case.name.lower() for part in only):
                yield case
