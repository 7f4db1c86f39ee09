"""Loading a model's parameters from weights files into the Caffe2 workspace, and saving them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Container, Iterable, Mapping, Sequence

import numpy as np
from caffe2.python import workspace

from detectron_ext import config as configuration
from detectron_ext.config import is_retinanet
from detectron_ext.engine.weights_file import Weights, read_weights, write_weights
from detectron_ext.errors import ConfigError, WeightsError
from detectron_ext.modeling.devices import replica, replica_scopes, unscoped

if TYPE_CHECKING:
    from detectron_ext.config.settings import Settings
    from detectron_ext.data.data_record import DataRecord
    from detectron_ext.modeling.model import DetectionModel

_LOG = logging.getLogger(__name__)
_PRESERVED = "__preserve__/"
MOMENTUM = "_momentum"
_START = "; a run cannot be resumed without them: start from this file with TRAIN.WEIGHTS"


def load_parameters(model: DetectionModel, path: str) -> Weights:
    """Overwrite all parameters of a model with those of a weights file, to test or to resume it.

    The momenta and the states of a training model (`DetectionModel.states`) are loaded, too. Blobs
    of the file that the model does not have are kept and saved with the model, as Detectron does.

    Args:
        model: a model whose param_init_net has run, so that its parameters are in the workspace.
        path: a weights file that holds each parameter and, for a training model, each momentum and
            each state.

    Returns:
        The content of the file.

    Raises:
        WeightsError: the file cannot be read; blobs are missing, have another shape or are not
            finite (the message names them); or the weights are older than MODEL.BBOX_REG_WEIGHTS
            and do not fit its value.
    """
    weights = read_weights(path)
    check_stored_settings(model, path, weights.cfg, weights.blobs)
    shapes = parameter_shapes(model)
    momenta = {name + MOMENTUM: shapes[name] for name in _trainable(model)} if model.train else {}
    states = _state_shapes(model, weights.blobs)
    for kind, wanted, advice in (
        ("parameters", shapes, ""),
        ("momenta", momenta, _START),
        ("states", states, _START),
    ):
        missing = [name for name in wanted if name not in weights.blobs]
        if missing:
            raise lacking(path, missing, list(wanted), kind, advice)
    wanted = {**shapes, **momenta}
    wrong = wrong_shapes(weights.blobs, {**wanted, **states})
    if wrong:
        raise not_fitting(path, wrong)
    feed_parameters(model, path, {name: weights.blobs[name] for name in wanted})
    _feed_states(model, weights.blobs)
    preserve(unknown_blobs(weights.blobs, {**shapes, **states}))
    _LOG.info("loaded %d parameters from %s", len(shapes), path)
    return weights


def parameter_shapes(model: DetectionModel) -> dict[str, tuple]:
    """Return the shapes of a model's parameters by their names without scope, from the workspace.

    Args:
        model: a model whose param_init_net has run.
    """
    return {name: initial_value(model, name).shape for name in _parameters(model)}


def initial_value(model: DetectionModel, name: str) -> np.ndarray:
    """Return the present value of a parameter of the first replica, by its name without scope."""
    return workspace.FetchBlob(replica_scopes(model.num_gpus)[0] + name)


def untrained_parameters(model: DetectionModel) -> set[str]:
    """Return the names of the parameters that a training model does not change."""
    return {*_parameters(model)} - {*_trainable(model)}


def wrong_shapes(blobs: Mapping[str, np.ndarray], shapes: Mapping[str, tuple]) -> dict[str, str]:
    """Return, for each blob whose shape is not the one wanted, a text that names both shapes."""
    return {
        name: f"{name} is {blobs[name].shape}, the model needs {shape}"
        for name, shape in shapes.items()
        if name in blobs and blobs[name].shape != shape
    }


def not_fitting(path: str, wrong: Mapping[str, str], advice: str = "") -> WeightsError:
    """Return the error for blobs of another shape, as :func:`wrong_shapes` describes them."""
    return WeightsError(f"weights {path} do not fit the model: {'; '.join(wrong.values())}{advice}")


def lacking(path: str, missing: list, names: list, kind: str, advice: str = "") -> WeightsError:
    """Return the error for blobs that a file should hold and does not."""
    return WeightsError(
        f"weights {path} lack {len(missing)} of the model's {len(names)} {kind}: "
        + _listing(missing)
        + advice
    )


def feed_parameters(model: DetectionModel, path: str, blobs: Mapping[str, np.ndarray]) -> None:
    """Set parameters and momenta of all replicas, as float32.

    Args:
        model: a model in the workspace.
        path: where the values come from, for messages.
        blobs: name without scope to a value of the right shape.

    Raises:
        WeightsError: values are not finite in float32. With them a test would find nothing, and
            training would ask for a lower learning rate. Nothing has been set then.
    """
    with np.errstate(over="ignore"):  # found below
        values = {name: blob.astype(np.float32, copy=False) for name, blob in blobs.items()}
    broken = [name for name, value in values.items() if not np.isfinite(value).all()]
    if broken:
        raise WeightsError(
            f"weights {path} are not finite in {len(broken)} of {len(values)} parameters and "
            f"momenta, {_listing(broken)}: use the weights of an earlier iteration"
        )
    for name, value in values.items():
        _feed_all_replicas(model, name, value)


def unknown_blobs(blobs: Mapping[str, np.ndarray], known: Container[str]) -> dict[str, np.ndarray]:
    """Return the blobs that are neither known nor momenta."""
    return {
        name: blob
        for name, blob in blobs.items()
        if name not in known and not name.endswith(MOMENTUM)
    }


def preserve(blobs: Mapping[str, np.ndarray]) -> None:
    """Keep blobs that the model does not have, so that :func:`save_parameters` writes them."""
    for name, blob in blobs.items():
        workspace.FeedBlob(_PRESERVED + name, blob)


def _parameters(model: DetectionModel) -> list[str]:
    return [unscoped(param) for param in _first_replica(model, model.params)]


def _trainable(model: DetectionModel) -> list[str]:
    return [unscoped(param) for param in _first_replica(model, model.trainable_params())]


def _momenta(model: DetectionModel) -> list[str]:
    """Return the names of the momenta of a training model."""
    return [name + MOMENTUM for name in _trainable(model)]


def _state_shapes(model: DetectionModel, blobs: Mapping[str, np.ndarray]) -> dict[str, tuple]:
    """Return the shapes that a model's states have in a file: those of its replicas in a row.

    Args:
        model: a model whose param_init_net has run.
        blobs: those of the file. It may have been written with another number of replicas.
    """
    shapes = {}
    for name in model.states:
        size = initial_value(model, name).size
        replicas = blobs[name].size // size if name in blobs else 1
        shapes[name] = (max(1, replicas) * size,)
    return shapes


def _feed_states(model: DetectionModel, blobs: Mapping[str, np.ndarray]) -> None:
    """Set the states of the replicas to those of a file; to their mean if there were others."""
    scopes = replica_scopes(model.num_gpus)
    for name in model.states:
        stored = blobs[name].astype(np.float32).reshape(-1, initial_value(model, name).size)
        if len(stored) != len(scopes):
            mean = stored.mean(axis=0, dtype=np.float64).astype(np.float32)
            stored = np.tile(mean, (len(scopes), 1))
        for index, state in enumerate(stored):
            feed(model, index, name, state)


def _joined_states(model: DetectionModel) -> dict[str, np.ndarray]:
    """Return the states of a model, those of its replicas in a row."""
    scopes = replica_scopes(model.num_gpus)
    fetch = workspace.FetchBlob
    return {
        name: np.concatenate([fetch(scope + name) for scope in scopes]) for name in model.states
    }


def trained_state(model: DetectionModel) -> list[str]:
    """Return the names, without scope, of the parameters and momenta of a training model."""
    return _parameters(model) + _momenta(model)


def check_stored_settings(
    model: DetectionModel, path: str, stored: str | None, used: Iterable[str]
) -> None:
    """Compare settings that a model depends on with those stored beside its weights, if any are.

    Args:
        model: the model.
        path: the weights file, for messages.
        stored: its YAML text of the configuration; None if it has none.
        used: names of the blobs of the file that the model takes.

    Raises:
        WeightsError: the box head of the file is older than MODEL.BBOX_REG_WEIGHTS.
    """
    if stored is None:
        return
    try:
        trained_with = configuration.load_legacy_yaml(stored)
    except ConfigError as error:
        _LOG.warning("%s: its settings cannot be compared: %s", path, error)
        return
    if any(name.startswith("bbox_pred") for name in used):
        _check_box_weights(model.config, path, trained_with)
    means, now = trained_with.get("PIXEL_MEANS"), model.config.PIXEL_MEANS
    if means is not None and not same_means(means, now):
        # Its colours would be shifted, and the zeros in the padding another colour than before.
        _LOG.warning(
            "%s was trained with PIXEL_MEANS %s, but now they are %s", path, means, now.tolist()
        )


def _check_box_weights(config: Settings, path: str, trained_with: Mapping) -> None:
    """Raise WeightsError for a model older than MODEL.BBOX_REG_WEIGHTS: its weights were all 1."""
    has_box_head = not (is_retinanet(config) or config.MODEL.RPN_ONLY)
    if not has_box_head or set(config.MODEL.BBOX_REG_WEIGHTS) == {1.0}:
        return
    stored = trained_with.get("MODEL")
    if not isinstance(stored, dict) or "BBOX_REG_WEIGHTS" not in stored:
        raise WeightsError(
            f"weights {path} are older than MODEL.BBOX_REG_WEIGHTS: test them with "
            "MODEL.BBOX_REG_WEIGHTS (1.0,1.0,1.0,1.0); their training cannot be continued"
        )


def same_means(means: Any, others: Any) -> bool:
    """Return whether two values of PIXEL_MEANS are equal; False if one is not three numbers."""
    try:
        return bool(np.allclose(np.ravel(means), np.ravel(others)))
    except (TypeError, ValueError):
        return False


def _listing(names: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def save_parameters(
    model: DetectionModel, path: str, classes: list[str] | None, data: DataRecord | None = None
) -> None:
    """Write a model to a weights file, which appears whole or not at all.

    Args:
        model: a model in the workspace. Its parameters, the momenta and states of a training
            model, and the blobs that :func:`preserve` kept are written.
        path: the weights file.
        classes: class names, background first; None stores none.
        data: digests and counts of the training data; None stores none.

    Raises:
        UserError: the file cannot be written.
    """
    write_weights(path, weights_of(model, classes, data))


def weights_of(
    model: DetectionModel, classes: list[str] | None, data: DataRecord | None = None
) -> Weights:
    """Return what :func:`save_parameters` writes; arguments as there."""
    scope = replica_scopes(model.num_gpus)[0]
    names = _parameters(model)
    if model.train:
        names += _momenta(model)
    blobs = {name: workspace.FetchBlob(scope + name) for name in names}
    blobs.update(_joined_states(model))
    for name in workspace.Blobs():
        if name.startswith(_PRESERVED):
            blobs.setdefault(name[len(_PRESERVED) :], workspace.FetchBlob(name))
    settings = configuration.dump_legacy_yaml(model.config)
    processes = model.num_processes if model.num_processes > 1 else None
    return Weights(blobs, settings, classes, data, processes)


def not_finite_parameters(model: DetectionModel) -> list[str]:
    """Return the names of the parameters, in the first replica, with values that are not finite."""
    names = _parameters(model)
    return [name for name in names if not np.isfinite(initial_value(model, name)).all()]


def broadcast_parameters(model: DetectionModel) -> None:
    """Copy the parameters and momenta of the first replica to the others."""
    if model.num_gpus < 2:
        return
    for name in trained_state(model):
        _feed_all_replicas(model, name, workspace.FetchBlob("gpu_0/" + name))


def feed(model: DetectionModel, index: int, name: str, value: np.ndarray) -> None:
    """Set a blob of one replica on its device.

    Args:
        model: the model.
        index: number of the replica, from 0.
        name: name of the blob without its scope.
        value: the new content.
    """
    with replica(index, model.num_gpus):
        workspace.FeedBlob(replica_scopes(model.num_gpus)[index] + name, value)


def _feed_all_replicas(model: DetectionModel, name: str, blob: np.ndarray) -> None:
    for index in range(max(1, model.num_gpus)):
        feed(model, index, name, blob)


def _first_replica(model: DetectionModel, params: Iterable) -> list:
    scope = replica_scopes(model.num_gpus)[0]
    return [param for param in params if str(param).startswith(scope)]
