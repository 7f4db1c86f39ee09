"""What a training takes from the weights that it starts from (LIBRA.TRAIN.LOAD).

A training starts from parameters alone. Momenta belong to resuming: they were accumulated for
another loss, at another learning rate.
"""

from __future__ import annotations

from typing import Callable, Iterable, Mapping, NamedTuple, Sequence

import numpy as np

from detectron_ext.config.settings import Settings
from detectron_ext.engine.class_names import assumed_class_names
from detectron_ext.engine.class_rows import ClassLayer, class_layers, transferred
from detectron_ext.engine.parameters import lacking, not_fitting, wrong_shapes
from detectron_ext.engine.weights_file import Weights
from detectron_ext.errors import WeightsError

_KEY = "LIBRA.TRAIN.LOAD"
_ADVICE = (
    f": {_KEY} matching starts such layers anew, and matching_names also keeps the rows of classes "
    "with the same name"
)


class ClassRows(NamedTuple):
    """Classes whose rows were compared by name; the background is not among them.

    Attributes:
        kept: classes of both models.
        anew: classes that only the model has.
        unused: classes that only the file has.
    """

    kept: list
    anew: list
    unused: list


class Choice(NamedTuple):
    """What is taken from a weights file.

    Attributes:
        values: parameter to its value, of the model's shape.
        missing: parameters that the file does not have.
        reshaped: parameter of another shape to a text that names both shapes; or a parameter of the
            same layer.
        by_name: the classes, if rows were taken by name.
    """

    values: dict
    missing: list
    reshaped: dict
    by_name: ClassRows | None


def choose_parameters(
    config: Settings,
    shapes: Mapping[str, tuple],
    initial: Callable[[str], np.ndarray],
    weights: Weights,
    path: str,
    classes: Sequence[str] | None,
) -> Choice:
    """Choose the parameters that a model takes from a weights file, as LIBRA.TRAIN.LOAD says.

    Args:
        config: a merged configuration.
        shapes: the model's parameters and their shapes.
        initial: a function from a parameter's name to its initial value.
        weights: the content of the file.
        path: the file, for messages.
        classes: class names of the training data, background first; None if they are not known.

    Raises:
        WeightsError: nothing in the file fits the model; a parameter has another shape under
            ``strict``; or names are needed under ``matching_names`` and the file has none.
    """
    mode = config.LIBRA.TRAIN.LOAD
    blobs = weights.blobs
    missing = [name for name in shapes if name not in blobs]
    if len(missing) == len(shapes):
        raise lacking(path, missing, list(shapes), "parameters")
    wrong = wrong_shapes(blobs, shapes)
    if wrong and mode == "strict":
        raise not_fitting(path, wrong, _ADVICE)
    rows: dict[str, np.ndarray] = {}
    by_name = None
    layers = _stored_class_layers(config, shapes, blobs) if mode == "matching_names" else {}
    if layers and classes is not None:
        stored = _stored_classes(weights, layers, path)
        rows = _rows_by_name(layers, initial, blobs, classes, stored)
        wrong = {name: text for name, text in wrong.items() if name not in rows}
        wrong.update(_without_rows(set(layers) - set(rows), blobs, len(stored)))
        by_name = _compared(classes, stored) if rows else None
    reshaped = _whole_layers(wrong, shapes, blobs)
    values = {name: blobs[name] for name in shapes if name in blobs and name not in reshaped}
    values.update({name: value for name, value in rows.items() if name not in reshaped})
    if not values:
        raise not_fitting(path, wrong)
    return Choice(values, missing, reshaped, by_name)


def _stored_class_layers(
    config: Settings, shapes: Mapping[str, tuple], blobs: Mapping[str, np.ndarray]
) -> dict[str, ClassLayer]:
    """Return the parameters of class layers that the file has, too, with their layout."""
    return {
        name: layer
        for layer in class_layers(config)
        for name in shapes
        if name.startswith(layer.prefix) and name in blobs
    }


def _stored_classes(weights: Weights, layers: Mapping[str, ClassLayer], path: str) -> Sequence[str]:
    if weights.classes is not None:
        return weights.classes
    num_classes = {
        layer.num_classes(weights.blobs[name].shape[:1]) for name, layer in layers.items()
    }
    names = assumed_class_names(num_classes.pop(), path) if len(num_classes) == 1 else None
    if names is None:
        raise WeightsError(
            f"weights {path} hold no class names, which {_KEY} matching_names needs: set it to "
            "matching"
        )
    return names


def _rows_by_name(
    layers: Mapping[str, ClassLayer],
    initial: Callable[[str], np.ndarray],
    blobs: Mapping[str, np.ndarray],
    classes: Sequence[str],
    stored: Sequence[str],
) -> dict[str, np.ndarray]:
    rows = {
        name: transferred(layer, initial(name), blobs[name], classes, stored)
        for name, layer in layers.items()
    }
    return {name: value for name, value in rows.items() if value is not None}


def _without_rows(
    names: Iterable[str], blobs: Mapping[str, np.ndarray], num_classes: int
) -> dict[str, str]:
    """Return, for each class layer whose rows cannot be told apart, a text that says why."""
    return {
        name: f"{name} is {blobs[name].shape}, which does not fit the {num_classes} class names of "
        "the file and the model's anchors"
        for name in sorted(names)
    }


def _compared(classes: Sequence[str], stored: Sequence[str]) -> ClassRows:
    return ClassRows(
        [name for name in classes[1:] if name in stored],
        [name for name in classes[1:] if name not in stored],
        [name for name in stored[1:] if name not in classes],
    )


def _whole_layers(
    wrong: Mapping[str, str], shapes: Mapping[str, tuple], blobs: Mapping[str, np.ndarray]
) -> dict[str, str]:
    """Add the other parameters of each layer: a bias without its weights means nothing."""
    layers = {_layer(name) for name in wrong}
    return {
        name: wrong.get(name, f"{name} belongs to such a layer")
        for name in shapes
        if name in blobs and _layer(name) in layers
    }


def _layer(parameter: str) -> str:
    """Return the name of a parameter's layer: ``fc6`` of ``fc6_w`` and ``fc6_b``."""
    return parameter.rpartition("_")[0] if parameter.endswith(("_w", "_b", "_s")) else parameter
