"""All native operators of Libra R-CNN: the same bits, inferred shapes, documentation."""

from __future__ import annotations

import caffe2.python._import_c_extension as extension
import numpy as np
import pytest
from caffe2.python import core, workspace
from native_runner import needs_native, normal, threads
from operator_cases import DEFINITIONS, Case, run_case, select_inputs

from detectron_ext.ops.library import LIBRA_OPERATORS

pytestmark = needs_native

ONE = np.ones(1, np.float32)


def big_inputs(operator, random):
    """Return inputs that fill several blocks of work, and the arguments."""
    x = 3 * normal(random, 2, 12, 61, 80)
    if operator == "BalancedL1Loss":
        return [x, normal(random, *x.shape), np.abs(x), np.abs(x)], {"beta": 0.5}
    if operator == "SelectBalancedL1Loss":
        return select_inputs(random, 900, x.shape, 9.0), {}
    if operator == "WeightedSigmoidFocalLoss":
        labels = random.randint(-1, 5, (2, 3, 61, 80)).astype(np.int32)
        return [x, labels, ONE, np.abs(x[:, :3])], {"num_classes": 4, "gamma": 1.7}
    if operator == "EmbeddedGaussianAttention":
        return [0.1 * normal(random, 2, 40, 25, 26) for _ in range(3)], {}
    levels = [normal(random, 2, 24, size, size + 3) for size in (40, 20, 9)]
    balanced = [normal(random, 2, 24, 20, 23)] if operator == "BalancedPyramidScatter" else []
    return balanced + levels, {"refine_level": 1}


@pytest.mark.parametrize("operator", sorted(LIBRA_OPERATORS))
def test_same_bits_for_any_number_of_threads(operator):
    inputs, arguments = big_inputs(operator, np.random.RandomState(0))
    case = Case("", operator, inputs, arguments)
    expected = DEFINITIONS[operator].forward(inputs, **arguments)
    d_outputs = [np.asarray(np.cos(output), np.float32) for output in expected]
    runs = []
    for count in (1, 2, 3, 2):
        with threads(count):
            outputs, gradients, _ = run_case(case, d_outputs)
            runs.append([*outputs, *gradients])
    for other in runs[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(runs[0], other))


@pytest.mark.parametrize("operator", sorted(LIBRA_OPERATORS))
def test_inferred_shapes_are_the_real_ones(operator):
    inputs, arguments = big_inputs(operator, np.random.RandomState(0))
    outputs = 3 if operator == "BalancedPyramidScatter" else 1
    net = core.Net("shapes")
    names = [f"input{i}" for i in range(len(inputs))]
    results = getattr(net, operator)(names, [f"output{i}" for i in range(outputs)], **arguments)
    results = list(results) if outputs > 1 else [results]
    if outputs == 1:
        seeded = {results[0]: net.AddExternalInput("d_output")}
        results += list(net.AddGradientOperators(seeded).values())
    workspace.ResetWorkspace()
    for name, array in zip(names, inputs):
        workspace.FeedBlob(name, array)
    forward = DEFINITIONS[operator].forward(inputs, **arguments)
    workspace.FeedBlob("d_output", np.ones(np.shape(forward[0]), np.float32))
    shapes, types = workspace.InferShapesAndTypes([net])
    workspace.RunNetOnce(net)

    for name in map(str, results):
        blob = workspace.FetchBlob(name)
        assert tuple(shapes[name]) == blob.shape, name
        assert types[name] == core.DataType.FLOAT


@pytest.mark.parametrize("suffix", ["", "Gradient"])
@pytest.mark.parametrize("operator", sorted(LIBRA_OPERATORS))
def test_schema_documents_operator_inputs_outputs_and_arguments(operator, suffix):
    schema = extension.OpSchema.get(operator + suffix)
    assert len(schema.doc.strip()) > 20
    assert len(schema.input_desc) >= schema.min_input
    assert len(schema.output_desc) >= schema.min_output
    for name, description in [*schema.input_desc, *schema.output_desc]:
        assert name
        assert description
    assert schema.args
    assert all(argument.name and argument.description for argument in schema.args)
