"""Loading a model's parameters from weights files into the Caffe2 workspace, and saving them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Iterable, Mapping, Sequence

import numpy as np
from caffe2.python import workspace

from detectron_ext import config as configuration
from detectron_ext.config import is_retinanet
from detectron_ext.engine.weights_file import Weights, read_weights, write_weights
from detectron_ext.errors import ConfigError, WeightsError
from detectron_ext.modeling.devices import replica, replica_scopes, unscoped

if TYPE_CHECKING:
    from detectron_ext.config.settings import Settings
    from detectron_ext.modeling.model import DetectionModel

_LOG = logging.getLogger(__name__)
_PRESERVED = "__preserve__/"
_MOMENTUM = "_momentum"


def load_parameters(model: DetectionModel, path: str, require_all: bool = False) -> list | None:
    """Overwrite the parameters of a model with those of a weights file.

    See :func:`set_parameters` for ``model`` and ``require_all``.

    Args:
        path: a weights file.

    Returns:
        The class names in the file, background first; None if it has none.

    Raises:
        WeightsError: the file cannot be read or does not fit the model.
    """
    weights = read_weights(path)
    set_parameters(model, weights, path, require_all)
    return weights.classes


def set_parameters(
    model: DetectionModel, weights: Weights, path: str, require_all: bool = False
) -> None:
    """Overwrite the parameters of a model.

    The momenta of a training model are loaded, too. Blobs of the file that the model does not have
    are kept and saved with the model, as Detectron does.

    Args:
        model: a model whose param_init_net has run, so that its parameters are in the workspace.
        weights: the new parameters.
        path: where they come from, for messages.
        require_all: raise an error if the file lacks a parameter or, for a training model, a
            momentum. If False, a missing parameter keeps its initial value.

    Raises:
        WeightsError: blobs have another shape, are not finite, or are required and missing (the
            message names them); no parameter of the model is in the file; or the weights are older
            than MODEL.BBOX_REG_WEIGHTS and do not fit its value.
    """
    blobs = weights.blobs
    _check_stored_settings(model, path, weights.cfg)
    names = [unscoped(param) for param in _first_replica(model, model.params)]
    missing = [name for name in names if name not in blobs]
    momenta = _momenta(model) if model.train else []
    _check_shapes(model, path, blobs, names)
    _check_finite(path, blobs, names, with_momenta=model.train)
    if missing and (require_all or len(missing) == len(names)):
        raise _lacking(path, missing, names, "parameters")
    missing_momenta = [name for name in momenta if name not in blobs]
    if missing_momenta and require_all:
        raise _lacking(path, missing_momenta, momenta, "momenta")
    if missing:
        _LOG.info("%s has no %s: they keep their initial values", path, _listing(missing))
    for name in names + momenta:
        if name in blobs:
            _feed_all_replicas(model, name, blobs[name])
    for name, blob in blobs.items():
        if name not in names and not name.endswith(_MOMENTUM):
            workspace.FeedBlob(_PRESERVED + name, blob)
    _LOG.info("loaded %d parameters from %s", len(names) - len(missing), path)


def _lacking(path: str, missing: list, names: list, kind: str) -> WeightsError:
    return WeightsError(
        f"weights {path} lack {len(missing)} of the model's {len(names)} {kind}: "
        + _listing(missing)
    )


def _momenta(model: DetectionModel) -> list[str]:
    """Return the names of the momenta of a training model."""
    trainable = _first_replica(model, model.trainable_params())
    return [unscoped(param) + _MOMENTUM for param in trainable]


def _check_stored_settings(model: DetectionModel, path: str, stored: str | None) -> None:
    """Compare settings that a model depends on with those stored beside its weights, if any are."""
    if stored is None:
        return
    try:
        trained_with = configuration.load_legacy_yaml(stored)
    except ConfigError as error:
        _LOG.warning("%s: its settings cannot be compared: %s", path, error)
        return
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


def _check_shapes(model: DetectionModel, path: str, blobs: dict, names: list[str]) -> None:
    scope = replica_scopes(model.num_gpus)[0]
    wrong = []
    for name in names:
        if name in blobs:
            expected = workspace.FetchBlob(scope + name).shape
            if blobs[name].shape != expected:
                wrong.append(f"{name} is {blobs[name].shape}, the model needs {expected}")
    if wrong:
        raise WeightsError(f"weights {path} do not fit the model: " + "; ".join(wrong))


def _check_finite(path: str, blobs: dict, names: list[str], with_momenta: bool) -> None:
    """Raise WeightsError for parameters or momenta that are not finite.

    With them a test would find nothing, and training would ask for a lower learning rate.
    """
    used = [name for name in blobs if name in names or (with_momenta and name.endswith(_MOMENTUM))]
    broken = [name for name in used if not np.isfinite(blobs[name]).all()]
    if broken:
        raise WeightsError(
            f"weights {path} are not finite in {len(broken)} of {len(used)} parameters and "
            f"momenta, {_listing(broken)}: use the weights of an earlier iteration"
        )


def _listing(names: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def save_parameters(model: DetectionModel, path: str, classes: list[str] | None) -> None:
    """Write a model to a weights file, which appears whole or not at all.

    Args:
        model: a model in the workspace. Its parameters, the momenta of a training model, and the
            blobs that :func:`load_parameters` kept are written.
        path: the weights file.
        classes: class names, background first; None stores none.

    Raises:
        UserError: the file cannot be written.
    """
    scope = replica_scopes(model.num_gpus)[0]
    names = [unscoped(param) for param in _first_replica(model, model.params)]
    if model.train:
        names += _momenta(model)
    blobs = {name: workspace.FetchBlob(scope + name) for name in names}
    for name in workspace.Blobs():
        if name.startswith(_PRESERVED):
            blobs.setdefault(name[len(_PRESERVED) :], workspace.FetchBlob(name))
    write_weights(path, Weights(blobs, configuration.dump_legacy_yaml(model.config), classes))


def broadcast_parameters(model: DetectionModel) -> None:
    """Copy the parameters and momenta of the first replica to the others."""
    if model.num_gpus < 2:
        return
    params = [unscoped(param) for param in _first_replica(model, model.params)]
    for name in params + _momenta(model):
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
        feed(model, index, name, blob.astype(np.float32, copy=False))


def _first_replica(model: DetectionModel, params: Iterable) -> list:
    scope = replica_scopes(model.num_gpus)[0]
    return [param for param in params if str(param).startswith(scope)]
