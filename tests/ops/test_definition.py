"""Every operator, native and in Python, against its float64 definition on fresh random inputs."""

from __future__ import annotations

import re

import numpy as np
import pytest
from box_loss_cases import make_kink_cases
from caffe2.python import core, workspace
from case_inputs import make_cases
from native_runner import assert_close, needs_native, normal
from operator_cases import (
    expected_gradients,
    expected_outputs,
    output_gradients,
    relative_error,
    run_case,
)
from random_seed import SEED

from detectron_ext import ops
from detectron_ext.ops import library, reference
from detectron_ext.ops.python_operators import is_python_operator
from detectron_ext.ops.table import OPERATORS

CASES = [*make_cases(SEED), *make_kink_cases()]
TOLERANCE = 1e-5
# The first operator of those that a front-end composes where there is no native library.
FIRST_PART = {"NonLocalBlock": "Conv", "AffineChannelClip": "AffineChannel"}
# Inputs, by index, whose elements do not change the result.
NEVER_READ = {("SpatialNarrowAs", 1), ("NonLocalBlock", 4)}


@pytest.fixture(params=[pytest.param("native", marks=needs_native), "python"])
def backend(request, monkeypatch):
    if request.param == "python":
        monkeypatch.setattr(library, "has_native", lambda operator: False)
    return request.param


@pytest.mark.parametrize("case", CASES, ids=[case.label for case in CASES])
def test_forward_and_backward_equal_the_definition(case, backend):
    d_outputs = output_gradients(case, SEED)

    outputs, gradients, operator_type = run_case(case, d_outputs)

    in_python = "Python" if is_python_operator(case.operator) else FIRST_PART[case.operator]
    assert operator_type == (case.operator if backend == "native" else in_python)
    wanted_gradients = expected_gradients(case, d_outputs)
    assert len(gradients) == len(wanted_gradients)
    for actual, wanted in zip(outputs + gradients, expected_outputs(case) + wanted_gradients):
        assert actual.dtype == (np.int32 if wanted.dtype == np.int32 else np.float32)
        assert actual.shape == np.shape(wanted)
        assert relative_error(actual, wanted) <= TOLERANCE


@pytest.mark.parametrize("operator", sorted(OPERATORS))
def test_a_dag_net_gives_the_same_bits(operator, backend):
    case = next(case for case in CASES if case.operator == operator)
    d_outputs = output_gradients(case, SEED)

    simple, dag = (run_case(case, d_outputs, net_type) for net_type in ("simple", "dag"))

    for a, b in zip(simple[0] + simple[1], dag[0] + dag[1]):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("operator", sorted(OPERATORS))
def test_inputs_of_another_type_are_refused(operator, backend):
    case = next(c for c in CASES if c.operator == operator and all(x.size for x in c.inputs))
    for i, x in enumerate(case.inputs):
        if (operator, i) in NEVER_READ:
            continue
        inputs = [*case.inputs[:i], x.astype(np.float64), *case.inputs[i + 1 :]]
        with pytest.raises((RuntimeError, ValueError)) as error:
            run_case(case._replace(inputs=inputs), [])
        assert re.search("double|not float64|Unsupported type of tensor", str(error.value))


@pytest.mark.parametrize("operator", [name for name in OPERATORS if "Focal" in name])
def test_focal_losses_refuse_labels_that_are_not_integers(operator, backend):
    case = next(case for case in CASES if case.operator == operator)
    logits, labels, *others = case.inputs
    with pytest.raises((RuntimeError, ValueError), match="(?s)must be int32|to be int.* float"):
        run_case(case._replace(inputs=[logits, labels.astype(np.float32), *others]), [])


def scatter_gradients(inputs, d_outputs, refine_level):
    """Return the gradients of a balanced pyramid's scatter where some outputs have none."""
    workspace.ResetWorkspace()
    names = [f"input{i}" for i in range(len(inputs))]
    for name, array in zip(names, inputs):
        workspace.FeedBlob(name, array)
    net = core.Net("scatter")
    outputs = ops.balanced_pyramid_scatter(
        net, names[0], names[1:], [f"output{i}" for i in range(len(inputs) - 1)], refine_level
    )
    seeded = {}
    for i, (output, d_output) in enumerate(zip(outputs, d_outputs)):
        if d_output is not None:
            workspace.FeedBlob(f"d_output{i}", d_output)
            seeded[output] = net.AddExternalInput(f"d_output{i}")
    gradients = net.AddGradientOperators(seeded)
    workspace.RunNetOnce(net)
    return [workspace.FetchBlob(str(gradients[n])) if n in gradients else None for n in names]


@pytest.mark.parametrize("absent", [{0}, {1}, {0, 2}])
def test_unused_scattered_levels_have_zero_gradients(absent, backend):
    random = np.random.RandomState(0)
    levels = [normal(random, 1, 2, size, size + 1) for size in (9, 5, 3)]
    balanced = normal(random, 1, 2, 5, 6)
    d_outputs = [normal(random, *level.shape) for level in levels]
    zeroed = [np.zeros_like(d) if i in absent else d for i, d in enumerate(d_outputs)]
    given_gradients = [None if i in absent else d for i, d in enumerate(d_outputs)]

    actual = scatter_gradients([balanced, *levels], given_gradients, 1)

    expected = reference.balanced_pyramid_scatter_gradient(balanced, zeroed, refine_level=1)
    assert_close(actual[0], expected[0])
    for i, d_level in enumerate(actual[1:]):
        assert (d_level is None) == (i in absent)


def test_every_operator_has_a_case():
    operators = {case.operator for case in CASES}
    assert set(OPERATORS) == operators
