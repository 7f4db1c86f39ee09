"""The schemas of the operators of Libra R-CNN: inferred shapes, documentation."""

from __future__ import annotations

import caffe2.python._import_c_extension as extension
import numpy as np
import pytest
from caffe2.python import core, workspace
from case_inputs import big_case
from native_runner import needs_native

from detectron_ext.ops.table import LIBRA, NONE, OPERATORS, operators_of

pytestmark = needs_native


@pytest.mark.parametrize("operator", sorted(operators_of(LIBRA)))
def test_inferred_shapes_are_the_real_ones(operator):
    _, inputs, arguments, outputs, differentiable = big_case(operator, 0)
    net = core.Net("shapes")
    names = [f"input{i}" for i in range(len(inputs))]
    results = getattr(net, operator)(names, [f"output{i}" for i in range(outputs)], **arguments)
    results = list(results) if outputs > 1 else [results]
    if differentiable == 1:
        seeded = {results[0]: net.AddExternalInput("d_output")}
        results += list(net.AddGradientOperators(seeded).values())
    workspace.ResetWorkspace()
    for name, array in zip(names, inputs):
        workspace.FeedBlob(name, array)
    forward = OPERATORS[operator].reference(inputs, **arguments)
    workspace.FeedBlob("d_output", np.ones(np.shape(forward[0]), np.float32))
    shapes, types = workspace.InferShapesAndTypes([net])
    workspace.RunNetOnce(net)

    for name in map(str, results):
        blob = workspace.FetchBlob(name)
        assert tuple(shapes[name]) == blob.shape, name
        assert types[name] == core.DataType.FLOAT


_SCHEMAS = [
    operator + suffix
    for operator in sorted(operators_of(LIBRA))
    for suffix in ("", "Gradient")
    if not suffix or OPERATORS[operator].differentiable_inputs != NONE
]


@pytest.mark.parametrize("operator", _SCHEMAS)
def test_schema_documents_operator_inputs_outputs_and_arguments(operator):
    schema = extension.OpSchema.get(operator)
    assert len(schema.doc.strip()) > 20
    assert len(schema.input_desc) >= schema.min_input
    assert len(schema.output_desc) >= schema.min_output
    for name, description in [*schema.input_desc, *schema.output_desc]:
        assert name
        assert "float32" in description or "int32" in description, name
    assert schema.args
    for argument in schema.args:
        assert argument.name
        assert "default" in argument.description, argument.name
