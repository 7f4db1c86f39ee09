"""The table of operators agrees with the schemas, the front-ends and the document."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import caffe2.python._import_c_extension as extension
import pytest
from native_runner import needs_native

from detectron_ext import ops
from detectron_ext.errors import ConfigError
from detectron_ext.limits import MAX_PYRAMID_LEVELS, MIN_PYRAMID_LEVELS
from detectron_ext.ops.document import document, parameters_described
from detectron_ext.ops.table import DETECTRON, LIBRA, OPERATORS, operators_of, register

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENT = REPOSITORY / "docs" / "operators.md"


def test_the_document_is_current():
    command = "python -m detectron_ext.ops.document docs/operators.md"
    assert DOCUMENT.read_text() == document(), f"run {command}"


def test_the_documents_example_runs():
    (example,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    namespace: dict = {}
    exec(example, namespace)
    types = [operator.type for operator in namespace["net"].Proto().op]
    native = ["BalancedL1Loss", "ConstantFill", "BalancedL1LossGradient"]
    assert types == native or not ops.native_library_loaded()


def test_the_package_exports_the_front_ends_of_the_table_and_nothing_else():
    front_ends = {entry.front_end.__name__: entry.front_end for entry in OPERATORS.values()}
    others = {"library", "native_library_loaded", "operators", "reference"}
    assert set(ops.__all__) == {*front_ends, *others}
    assert {name: getattr(ops, name) for name in front_ends} == front_ends


def test_type_checkers_and_editors_find_the_exports():
    """Each export is bound by an import statement, not at run time."""
    source = ast.parse(Path(ops.__file__).read_text())
    imports = [node for node in source.body if isinstance(node, ast.ImportFrom)]
    imported = {alias.asname or alias.name for node in imports for alias in node.names}
    assert set(ops.__all__) <= imported


@pytest.mark.parametrize("entry", OPERATORS.values(), ids=OPERATORS)
def test_the_front_end_describes_every_parameter(entry):
    docstring = inspect.getdoc(entry.front_end)
    parameters = list(inspect.signature(entry.front_end).parameters)
    assert list(parameters_described(docstring)) == parameters
    assert {*entry.inputs, *entry.outputs} <= set(parameters)
    assert re.match(rf"Add (Detectron's )?{entry.name}: .*\.$", docstring.splitlines()[0])
    assert ("Detectron's" in docstring.splitlines()[0]) == (entry.library == DETECTRON)


@needs_native
@pytest.mark.parametrize("entry", OPERATORS.values(), ids=OPERATORS)
def test_arguments_and_inputs_match_the_schema(entry):
    schema = extension.OpSchema.get(entry.name)
    assert {argument.name for argument in schema.args} == set(entry.arguments)
    if entry.name != "NonLocalBlock":  # a parameter of its front-end holds two inputs
        assert schema.min_input <= len(entry.inputs) + 1
        assert len(entry.inputs) <= schema.max_input


@pytest.mark.parametrize("entry", OPERATORS.values(), ids=OPERATORS)
def test_the_python_operator_takes_the_arguments(entry):
    if entry.python is None:
        return
    for function in (entry.python.forward, entry.python.backward):
        parameters = inspect.signature(function).parameters.values()
        if any(p.kind is p.VAR_KEYWORD for p in parameters):
            continue
        names = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
        # A scatter is added as one Python operator for each level.
        added = {"level"} if entry.name == "BalancedPyramidScatter" else set()
        assert names == {*entry.arguments, *added}


@needs_native
def test_the_schemas_have_the_limits_of_the_front_ends():
    gather = extension.OpSchema.get("BalancedPyramidGather")
    scatter = extension.OpSchema.get("BalancedPyramidScatter")
    assert (gather.min_input, gather.max_input) == (MIN_PYRAMID_LEVELS, MAX_PYRAMID_LEVELS)
    assert (scatter.min_output, scatter.max_output) == (MIN_PYRAMID_LEVELS, MAX_PYRAMID_LEVELS)


def test_every_operator_belongs_to_one_library():
    names = operators_of(DETECTRON) + operators_of(LIBRA)
    assert sorted(names) == sorted(OPERATORS)
    assert "SmoothL1Loss" in operators_of(DETECTRON)
    assert "BalancedL1Loss" in operators_of(LIBRA)


def test_the_recipe_for_a_box_loss_names_existing_files_and_at_most_eight():
    text = (REPOSITORY / "ops" / "README.md").read_text()
    files = re.findall(r"^\| \d\. `(\S+)`", text, re.MULTILINE)
    assert 0 < len(files) <= 8
    for name in files:
        path = REPOSITORY / name.replace("<loss>", "smooth_l1")
        assert path.is_file(), name


def test_a_part_that_is_not_an_operator_is_refused():
    with pytest.raises(ConfigError, match=r"an entry must be an Operator, given 3 \(int\)"):
        register(3)
    with pytest.raises(ConfigError, match=r"operator: 'Three' must be an Operator, given 3 \(int"):
        OPERATORS.register("Three")(3)
    assert "Three" not in OPERATORS


def test_a_second_operator_of_the_same_name_is_refused():
    with pytest.raises(ConfigError, match="'SmoothL1Loss' is registered already"):
        register(OPERATORS["SmoothL1Loss"])
