"""Every operator of the table on a GPU, forward and backward, against its float64 definition."""

from __future__ import annotations

import numpy as np
import pytest
from box_loss_cases import make_kink_cases
from caffe2.proto import caffe2_pb2
from caffe2.python import core
from case_inputs import make_cases
from operator_cases import (
    expected_gradients,
    expected_outputs,
    output_gradients,
    relative_error,
    run_case,
)
from random_seed import SEED

from detectron_ext.ops import library
from detectron_ext.ops.table import OPERATORS

CASES = [*make_cases(SEED), *make_kink_cases()]
TOLERANCE = 1e-5
GPU = core.DeviceOption(caffe2_pb2.CUDA, 0)


@pytest.mark.parametrize("case", CASES, ids=[case.label for case in CASES])
def test_forward_and_backward_equal_the_definition(case):
    d_outputs = output_gradients(case, SEED)
    with core.DeviceScope(GPU):
        outputs, gradients, _ = run_case(case, d_outputs)
    wanted_gradients = expected_gradients(case, d_outputs)
    assert len(gradients) == len(wanted_gradients)
    for actual, wanted in zip(outputs + gradients, expected_outputs(case) + wanted_gradients):
        assert actual.dtype == (np.int32 if wanted.dtype == np.int32 else np.float32)
        assert actual.shape == np.shape(wanted)
        assert relative_error(actual, wanted) <= TOLERANCE


@pytest.mark.parametrize("operator", sorted(OPERATORS))
def test_a_second_run_gives_the_same_bits(operator):
    case = next(case for case in CASES if case.operator == operator)
    d_outputs = output_gradients(case, SEED)
    with core.DeviceScope(GPU):
        first, second = (run_case(case, d_outputs)[:2] for _ in range(2))
    for a, b in zip(first[0] + first[1], second[0] + second[1]):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("operator", [name for name in OPERATORS if OPERATORS[name].has_cuda])
def test_the_native_kernel_runs_and_not_the_python_operator(operator):
    with core.DeviceScope(GPU):
        assert library.has_native(operator), "the native library was built without CUDA (make ops)"
